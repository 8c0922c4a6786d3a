from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError, GsnnError, RunError
from gsnn.data import PerturbationData
from gsnn.data.digest import fingerprint
from gsnn.runs import Run, Sources, train_run
from gsnn.training import TrainConfig

CONFIG = TrainConfig(epochs=2, channels=2, layers=2, batch_size=4, norm="layer")


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "net.sif").write_text("a\t1\tc\nb\t1\tc\nc\t-1\td\n")
    rng = np.random.default_rng(3)
    lines = ["TR:a,TR:bi,DA:ALL,DV:c,DV:d"]
    for time in (10, 30):
        for _ in range(12):
            a, b = rng.random(2).round(3)
            lines.append(f"{a},{b},{time},{a + b:.3f},{'NA' if rng.random() < 0.2 else f'{1 - a * b:.3f}'}")
    (tmp_path / "midas.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def sources(files) -> Sources:
    return Sources.from_files(files / "net.sif", files / "midas.csv", responses_options={"time": 10, "format": None})


@pytest.fixture
def data(sources) -> PerturbationData:
    return sources.read()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "net.csv").write_text('from,to,effect\nNA,c,activation\nc,<d = "1">,inhibition\n'.replace('"1"', "'1'"))
    rng = np.random.default_rng(4)
    x = rng.random((12, 1)).round(3)
    (folder / "in.csv").write_text("NA\n" + "\n".join(str(v) for v in x[:, 0]) + "\n")
    rows = [f"{v:.3f},{1 - v:.3f}" for v in x[:, 0]]
    (folder / "out.csv").write_text("c,<d = '1'>\n" + "\n".join(rows) + "\n")
    given = Sources.from_files(folder / "net.csv", inputs=folder / "in.csv", outputs=folder / "out.csv")
    train_run(folder / "run", given, CONFIG, progress=False)
    return folder / "run"


def copy(run: Path, target: Path) -> Path:
    target.mkdir()
    for file in run.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_reads_back_what_was_written(finished):
    run = Run.open(finished)
    assert run.complete
    assert run.config == CONFIG
    data = run.data()
    assert data.graph.inputs == ("TR:NA",)
    split, again = run.split(), data.split(seed=0, validation=0)
    assert split.by == again.by == "condition"
    for part in ("train", "validation", "test"):
        assert getattr(split, part).tolist() == getattr(again, part).tolist()
    np.testing.assert_allclose(run.standardiser().mean, np.nanmean(data.y[split.train].astype(float), 0), rtol=1e-12)
    assert run.metrics()["epoch"].tolist() == [1, 2]
    assert list(run.metrics()) == ["epoch", "train_loss", "val_loss", "val_r2", "lr", "seconds"]
    report = run.fit_report()
    assert report.readouts["readout"].tolist() == ["DV:c", "DV:<d = '1'>"]
    assert report.predictors == ["model", "ridge", "mean"]
    model = run.model()
    assert not model.training
    # The figures in run.json are those of the stored model on the stored split.
    from gsnn.training import predict

    y = run.standardiser().transform(data.y)[split.test].astype(float)
    mse = np.nanmean((predict(model, data.x[split.test]) - y) ** 2)
    assert report.summary.loc["model", "mse"] == pytest.approx(mse, rel=1e-6)


def test_run_json_is_plain_and_complete(finished):
    text = (finished / "run.json").read_text(encoding="utf-8")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    info = json.loads(text, parse_constant=refuse)
    assert {"format", "id", "status", "created", "finished", "versions", "seed"} <= set(info)
    assert {"gsnn", "python", "torch", "lightning"} <= set(info["versions"])
    assert set(info["sources"]["files"]) == {"graph", "inputs", "outputs"}
    for entry in info["sources"]["files"].values():
        assert set(entry) == {"path", "given", "sha256", "bytes"}
    assert info["training"]["epochs"] == 2
    assert {p.name for p in finished.iterdir()} == {
        "run.json",
        "model.safetensors",
        "metrics.csv",
        "checkpoint.safetensors",
    }


def test_edges_keep_every_name(finished, tmp_path):
    run = Run.open(copy(finished, tmp_path / "r"))
    with pytest.raises(RunError, match="run gsnn infer"):
        run.edges()
    edges = pd.DataFrame(
        {
            "source": ["NA", "", "1e5", "ü,\"'<"],
            "target": ["nan", "007", "a b", "line\nbreak"],
            "score": [0.1, np.nan, -1 / 3, 1e-300],
            "rank": [1, 2, 3, 4],
            "known": [True, False, False, True],
        }
    )
    run.write_edges(edges, inference={"method": "magnitude", "samples": np.int64(3)})
    assert Run.open(run.path).info["inference"] == {"method": "magnitude", "samples": 3}
    run.write_edges(edges)
    assert "inference" not in Run.open(run.path).info
    pd.testing.assert_frame_equal(run.edges(), edges, check_exact=True)
    with pytest.raises(ValueError, match="columns source and target"):
        run.write_edges(pd.DataFrame({"source": ["a"]}))


def test_refuses_to_overwrite_and_says_how(finished, tmp_path, data):
    path = copy(finished, tmp_path / "r")
    with pytest.raises(RunError, match=r"finished run; choose another name, or --overwrite"):
        Run.create(path, config=CONFIG, data=data)
    run = Run.open(path)
    run.write_edges(pd.DataFrame({"source": ["a"], "target": ["b"]}))
    (path / "notes.txt").write_text("mine")
    old = run.info["id"]
    run = Run.create(path, config=CONFIG, data=data, overwrite=True)
    assert run.info["id"] != old
    assert {p.name for p in path.iterdir()} == {"run.json", "notes.txt"}, "a user's own file stays"
    with pytest.raises(RunError, match=r"unfinished run; pass --resume to continue it, or --overwrite"):
        Run.create(path, config=CONFIG, data=data)
    with pytest.raises(RunError, match="exclude each other"):
        Run.check_target(path, overwrite=True, resume=True)


def test_refuses_other_folders(tmp_path, data):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "file", config=CONFIG, data=data)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="not empty and not a run folder"):
            Run.create(tmp_path / "full", config=CONFIG, data=data, overwrite=overwrite)
    with pytest.raises(RunError, match="cannot write the run folder"):
        Run.create(tmp_path / "file" / "below", config=CONFIG, data=data)


def test_uses_an_empty_folder_and_clears_what_a_kill_left(tmp_path, data):
    path = tmp_path / "r"
    path.mkdir()
    (path / ".run.json.0123.tmp").write_text("{")
    Run.create(path, config=CONFIG, data=data)
    assert [p.name for p in path.iterdir()] == ["run.json"]


def test_open_says_what_is_wrong(tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        Run.open(tmp_path / "none")
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)
    newer = '{"format": 99, "status": ""}'
    for text, message in [("{", "cannot be read"), ("[]", "does not describe"), (newer, "newer")]:
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError, match=message) as caught:
            Run.open(tmp_path)
        assert isinstance(caught.value, GsnnError)


def test_an_unfinished_run_says_so(tmp_path, data):
    run = Run.create(tmp_path / "r", config=CONFIG, data=data)
    for ask in (run.model, run.fit_report):
        with pytest.raises(RunError, match="--resume"):
            ask()
    for ask in (run.split, run.standardiser, run.metrics):
        with pytest.raises(RunError, match="gsnn train --resume"):
            ask()
    with pytest.raises(RunError, match="data in memory"):
        run.data()


def test_what_is_gone_is_named(finished, tmp_path):
    run = Run.open(copy(finished, tmp_path / "run"))
    assert repr(run) == f"Run({str(tmp_path / 'run')!r}, complete)"
    run.model_path.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors is gone; restore it with gsnn train --resume -o"):
        run.model()
    for entry in run.path.iterdir():
        entry.unlink()
    run.path.rmdir()
    with pytest.raises(RunError, match="cannot open the run folder"), run.lock():
        pass


def test_edges_of_a_run_that_was_trained_again_are_refused(finished, tmp_path):
    first = Run.open(copy(finished, tmp_path / "run"))
    info = json.loads((first.path / "run.json").read_text())
    (first.path / "run.json").write_text(json.dumps({**info, "id": "another"}))
    with pytest.raises(RunError, match="was trained again meanwhile, so these edges are not its own; infer again"):
        first.write_edges(pd.DataFrame({"source": ["a"], "target": ["b"]}))
    assert not first.edges_path.exists()


@pytest.mark.parametrize("trouble", ["no module", "no locks"])
def test_systems_without_locks_do_without(finished, tmp_path, monkeypatch, trouble):
    if trouble == "no module":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:

        def refuse(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    run = Run.open(copy(finished, tmp_path / "run"))
    with run.lock() as held:
        assert held
    run.write_edges(pd.DataFrame({"source": ["a"], "target": ["b"]}))
    assert run.edges()["source"].tolist() == ["a"]


def test_sources_are_one_file_or_two_matrices(files):
    for given in ({}, {"data": "a", "inputs": "b", "outputs": "c"}, {"inputs": "b"}):
        with pytest.raises(DataError, match="give the responses as one file, or as both a matrix of inputs and one of"):
            Sources.from_files(files / "net.sif", **given)


def test_reads_the_sources_again_and_notices_changes(tmp_path, files, sources, data):
    run = Run.create(tmp_path / "r", config=CONFIG, data=data, sources=sources)
    again = Run.open(run.path).data()
    assert len(again) == 12, "the recorded time must be used"
    assert fingerprint(again) == fingerprint(data)
    text = (files / "midas.csv").read_text()
    (files / "midas.csv").write_text(text.replace("NA", "0.5"))
    with pytest.raises(RunError, match=r"data file .*midas\.csv changed"):
        run.data()
    (files / "midas.csv").write_text(text)
    (files / "net.sif").unlink()
    with pytest.raises(RunError, match=r"graph file .*net\.sif is gone"):
        run.data()


def test_relative_paths_work_from_elsewhere(files, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(files)
    sources = Sources.from_files("net.sif", "midas.csv")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    sources.check()
    assert len(sources.read()) == 12
    entry = sources.to_dict()["files"]["graph"]
    assert (entry["given"], entry["path"]) == ("net.sif", str(files / "net.sif"))


def test_reader_options_survive_json(files):
    (files / "edges.csv").write_text("x,y,up,down\na,c,1,0\nc,d,0,1\nb,c,1,0\n")
    sources = Sources.from_files(
        files / "edges.csv", files / "midas.csv", network_options={"source": "x", "target": "y", "sign": ("up", "down")}
    )
    again = Sources.from_dict(json.loads(json.dumps(sources.to_dict())))
    assert fingerprint(again.read()) == fingerprint(sources.read())


def test_fingerprint_sees_every_part(data):
    inputs, outputs = data.inputs.copy(), data.outputs.copy()
    inputs.iloc[0, 0] += 0.5
    outputs.iloc[0, 0] = np.nan
    from gsnn.graph import Graph

    names, edges = data.graph.node_names_dict, data.graph.edge_index_dict
    kind = ("function", "to", "function")
    fewer = Graph({**edges, kind: edges[kind][:, 1:]}, names)
    parts = [(data.graph, inputs, data.outputs), (data.graph, data.inputs, outputs), (fewer, data.inputs, data.outputs)]
    signs = {edge_type: torch.ones(edges[edge_type].shape[1], dtype=torch.int8) for edge_type in edges}
    other = {**signs, kind: -signs[kind]}
    for sign in (signs, other):
        parts.append((Graph(edges, names, edge_sign_dict=sign), data.inputs, data.outputs))
    weights = {edge_type: values.float() for edge_type, values in signs.items()}
    parts.append((Graph(edges, names, weights), data.inputs, data.outputs))
    prints = {fingerprint(data), *(fingerprint(PerturbationData(*part)) for part in parts)}
    assert len(prints) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph": "none.sif"}, "graph file .*none.sif' does not exist"),
        ({"graph": "."}, "is a folder; name a file in it"),
        ({"graph": "nte.sif"}, "does not exist; beside it: .*net.sif"),
        ({"data": "none.csv"}, "data file .*none.csv' does not exist"),
    ],
)
def test_missing_files(files, change, message):
    given = {"graph": "net.sif", "data": "midas.csv", **change}
    with pytest.raises(DataError, match=message):
        Sources.from_files(files / given["graph"], files / given["data"])


@pytest.mark.parametrize("text", ["", "TR:x,DA:ALL,DV:y\n1,10,2\n2,10,3\n3,10,4\n", "TR:a,DA:ALL,DV:c\n1,10,q\n"])
def test_bad_data_leave_no_folder(files, text):
    (files / "midas.csv").write_text(text)
    with pytest.raises(DataError):
        train_run(files / "run", Sources.from_files(files / "net.sif", files / "midas.csv"), CONFIG, progress=False)
    assert not (files / "run").exists()


def test_settings_that_do_not_fit_the_data_leave_no_folder(files, sources):
    config = TrainConfig(epochs=1, batch_size=500, drop_last=True)
    with pytest.raises(DataError, match="drop_last"):
        train_run(files / "run", sources, config, progress=False)
    assert not (files / "run").exists()


def test_train_run_resumes_with_the_recorded_settings(finished, tmp_path):
    path = copy(finished, tmp_path / "r")
    given = Run.open(path).sources
    run, result = train_run(path, given, resume=True, progress=False)
    assert run.config == CONFIG
    assert len(result.history) == 2
    with pytest.raises(RunError, match="choose another name"):
        train_run(path, given, CONFIG, progress=False)
    with pytest.raises(RunError, match=r"lr was 0\.003, now 0\.1"):
        train_run(path, given, TrainConfig(**{**CONFIG.to_dict(), "lr": 0.1}), resume=True, progress=False)


def test_dataset_sources():
    from gsnn.base.errors import MissingExtraError

    try:
        sources = Sources.dataset("liverdream")
    except MissingExtraError as error:
        pytest.skip(str(error))
    again = Sources.from_dict(json.loads(json.dumps(sources.to_dict())))
    again.check()
    assert again.read().graph.O == 7
