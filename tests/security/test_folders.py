"""Run folders from strangers: what they name outside themselves is neither read unasked nor written."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import RunError
from gsnn.cli import main
from gsnn.runs import Run, Sources, train_run
from gsnn.training import TrainConfig


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.sif").write_text("a\t1\tb\nb\t1\tc\n")
    x = np.random.default_rng(0).random((12, 1)).round(3)
    (folder / "data.csv").write_text("TR:a,DV:b,DV:c\n" + "".join(f"{v},{v},{1 - v:.3f}\n" for v in x[:, 0]))
    given = Sources.from_files(folder / "net.sif", folder / "data.csv")
    train_run(folder / "run", given, TrainConfig(epochs=1, channels=2, layers=2, norm="layer"), progress=False)
    return folder / "run"


@pytest.fixture
def stranger(trained, tmp_path):
    """A copy of the run whose run.json is changed by a function."""

    def make(change=lambda info: None):
        folder = tmp_path / "run"
        folder.mkdir()
        for file in trained.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        info = json.loads((folder / "run.json").read_text())
        change(info)
        (folder / "run.json").write_text(json.dumps(info))
        return folder

    return make


def elsewhere(role, path):
    def change(info):
        info["sources"]["files"][role]["path"] = info["sources"]["files"][role]["given"] = str(path)

    return change


@pytest.mark.parametrize("role", ["graph", "data"])
def test_a_file_is_read_only_if_its_fingerprint_is_the_recorded_one(stranger, tmp_path, role):
    secret = tmp_path / "secret.txt"
    secret.write_text("the password is swordfish\n")
    run = Run.open(stranger(elsewhere(role, "../secret.txt" if role == "graph" else secret)))
    with pytest.raises(RunError) as caught:
        run.data()
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "fifo", ".", "a\0b"])
def test_devices_and_pipes_are_no_files(stranger, tmp_path, path):
    if path == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
    with pytest.raises(RunError, match="is gone"):
        Run.open(stranger(elsewhere("graph", path))).data()


@pytest.mark.parametrize("option", ["path", "inputs", "no_such", "anndata"])
def test_options_name_no_other_files(stranger, option):
    def change(info):
        info["sources"]["options"]["responses"][option] = "/etc/passwd"

    with pytest.raises((RunError, ValueError)) as caught:
        Run.open(stranger(change)).data()
    assert "root:" not in str(caught.value)


def test_results_that_are_links_are_replaced_not_followed(stranger, tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine\n")
    folder = stranger()
    for name in ("edges.csv", "edges.csv-metadata.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
    main_code(["infer", str(folder), "--quiet"])
    main_code(["report", str(folder), "--quiet"])
    assert victim.read_text() == "mine\n"
    assert not (folder / "edges.csv").is_symlink()


def main_code(args):
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 0


def test_cleaning_up_follows_no_link(stranger, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine\n")
    folder = stranger()
    (folder / ".x.tmp").symlink_to(precious)
    (folder / ".y.tmp").mkdir()
    Run.open(folder).clean()
    assert (precious / "file").read_text() == "mine\n"
    assert not [entry for entry in folder.iterdir() if entry.name.endswith(".tmp")]


def test_names_of_edges_are_no_paths(stranger, tmp_path):
    before = sorted(p for p in tmp_path.rglob("*"))
    folder = stranger()
    run = Run.open(folder)
    run.write_edges(pd.DataFrame({"source": ["../../x"], "target": ["/etc/passwd"], "known": [False]}))
    assert run.edges()["source"].tolist() == ["../../x"]
    after = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert after == {"run"} | {p.relative_to(tmp_path).parts[0] for p in before}


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info.pop("config"),
        lambda info: info.pop("sources"),
        lambda info: info["config"].update(epochs="three"),
        lambda info: info["config"].update(norm=["layer"]),
        lambda info: info["split"].update(train=[10**6]),
        lambda info: info["split"].update(train=[0.5]),
        lambda info: info["split"].update(train="abc"),
        lambda info: info.update(split=True),
        lambda info: info["standardiser"].update(mean="x"),
        lambda info: info["fit"].update(readouts=[[1], [1, 2]]),
        lambda info: info["fit"].update(summary=[]),
        lambda info: info["data"].pop("fingerprint"),
        lambda info: info["sources"]["files"]["graph"].pop("sha256"),
        lambda info: info["sources"]["files"].update(other={}),
        lambda info: info["sources"].update(options=[1]),
        lambda info: info.update(warnings=3),
    ],
)
def test_a_damaged_description_is_named(stranger, change):
    """Each of these came out of the fuzzing as another exception."""
    run = Run.open(stranger(change))
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        _ = (run.config, run.sources, run.warnings, run.split(), run.standardiser(), run.fit_report(), run.data())


@pytest.mark.parametrize(
    "text", ["[" * 50_000, '{"a":' * 50_000, "1" * 5000, '{"format": 9, "status": "", "versions": 3}']
)
def test_a_run_json_that_no_reader_of_json_survives(stranger, text):
    folder = stranger()
    (folder / "run.json").write_text(text)
    with pytest.raises(RunError):
        Run.open(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xfd", b'"a,b\n', b"a,b\n1\n1,2,3,4\n"])
def test_damaged_tables(stranger, content):
    folder = stranger()
    (folder / "metrics.csv").write_bytes(content)
    (folder / "edges.csv").write_bytes(content)
    for read in (Run.open(folder).metrics, Run.open(folder).edges):
        with pytest.raises(RunError, match=r"csv is damaged"):
            read()
