"""The regressor that learns while a run is trained: it changes nothing, goes on after a stop, and ranks the edges."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError, RunError
from gsnn.base.files import read_tensors
from gsnn.base.launch import Place
from gsnn.runs import Job, Run, Sources, infer_run, train_run
from gsnn.training import TrainConfig
from gsnn.training.callbacks import RunFiles

CONFIG = TrainConfig(epochs=3, channels=2, layers=3, batch_size=8, dropout=0.1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "net.sif").write_text("a\t1\tc\nb\t1\tc\nc\t-1\td\nb\t1\te\ne\t1\td\n")
    x = np.random.default_rng(3).random((40, 2)).round(3)
    frame = pd.DataFrame(x, columns=["TR:a", "TR:b"])
    frame["DV:c"], frame["DV:d"] = x[:, 0] + x[:, 1], 1 - x[:, 0] * x[:, 1]
    frame.to_csv(folder / "data.csv", index=False)
    return Sources.from_files(folder / "net.sif", folder / "data.csv")


def train(path, sources, config=CONFIG, **options):
    return train_run(path, sources, config, progress=False, **options)[0]


@pytest.fixture(scope="module")
def learnt(sources, tmp_path_factory):
    """A run with a regressor; no test writes into it."""
    return train(tmp_path_factory.mktemp("runs") / "learnt", sources, regressor=True).path


def copy(run, target):
    target.mkdir()
    for file in run.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return Run.open(target)


def weights(run):
    return read_tensors(run.regressor_path)[0]["W"].numpy()


def test_the_model_is_trained_as_without_it(learnt, sources, tmp_path):
    alone = train(tmp_path / "alone", sources)
    assert not alone.regressor_path.exists()
    assert "regressor" not in alone.info
    one, other = (read_tensors(path / "model.safetensors")[0] for path in (alone.path, learnt))
    # Watched, a model goes step by step and not by the compiled kernels: the same up to rounding.
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-3, err_msg=name)
    metrics = [Run.open(path).metrics().drop(columns="seconds") for path in (alone.path, learnt)]
    pd.testing.assert_frame_equal(*metrics, rtol=1e-3)


def test_an_inference_takes_what_it_has_learnt(learnt, tmp_path):
    run = copy(learnt, tmp_path / "r")
    edges = infer_run(run, method="regressor")
    names = list(run.data().graph.functions)
    w = np.abs(weights(run))
    expected = [w[names.index(s), names.index(t)] for s, t in zip(edges["source"], edges["target"], strict=True)]
    np.testing.assert_allclose(edges["score"], expected, rtol=1e-6)
    inference = Run.open(run.path).info["inference"]
    assert inference["options"] == {"learnt": "while training"}
    assert inference["n"] == len(run.split().train)
    # As a further method too; and anew if that is asked for.
    both = infer_run(run, method="magnitude,regressor")
    assert sorted(both["score_regressor"]) == pytest.approx(sorted(edges["score"]))
    anew = infer_run(run, method="regressor", job=Job(fresh=True))
    assert not np.allclose(sorted(anew["score"]), sorted(edges["score"]))
    assert Run.open(run.path).info["inference"]["options"] == {}


@pytest.mark.slow
def test_a_stopped_training_learns_on(learnt, sources, tmp_path, monkeypatch):
    whole = weights(Run.open(learnt))
    write = RunFiles.on_train_epoch_end

    def stopped(self, trainer, module):
        write(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "on_train_epoch_end", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "r", sources, regressor=True)
    assert not Run.open(tmp_path / "r").regressor_path.exists()
    # Without being told again: the run knows how it was begun.
    run = train(tmp_path / "r", sources, resume=True)
    np.testing.assert_array_equal(weights(run), whole)
    # A file that is gone comes back, and more epochs go on from it.
    run.regressor_path.unlink()
    np.testing.assert_array_equal(weights(train(run.path, sources, resume=True)), whole)
    longer = TrainConfig(**{**CONFIG.to_dict(), "epochs": 5})
    run = train(run.path, sources, longer, resume=True, regressor=True)
    straight = train(tmp_path / "straight", sources, longer, regressor=True)
    np.testing.assert_array_equal(weights(run), weights(straight))
    # Another training in the folder leaves nothing of it.
    assert not train(run.path, sources, overwrite=True).regressor_path.exists()


def test_what_is_refused(learnt, sources, tmp_path):
    with pytest.raises(DataError, match="learns in one process, and there are 2"):
        train(tmp_path / "two", sources, TrainConfig(norm="none"), regressor=True, place=Place(size=2))
    with pytest.raises(RunError, match="Need at least 2 blocks"):
        train(tmp_path / "flat", sources, TrainConfig(epochs=1, layers=1), regressor=True)
    assert not any(tmp_path.iterdir()), "nothing was written"
    alone = train(tmp_path / "alone", sources, TrainConfig(epochs=1, channels=2, layers=3))
    with pytest.raises(RunError, match="was begun without --regressor"):
        train(alone.path, sources, None, resume=True, regressor=True)
    run = copy(learnt, tmp_path / "r")
    with pytest.raises(DataError, match="learnt from the training samples while training; with --fresh"):
        infer_run(run, method="regressor", samples="all")
    content = run.regressor_path.read_bytes()
    for broken in (content[:50], b"", (learnt / "model.safetensors").read_bytes()):
        run.regressor_path.write_bytes(broken)
        with pytest.raises(RunError, match=r"regressor\.safetensors is not a"):
            infer_run(run, method="regressor")
    run.regressor_path.unlink()
    with pytest.raises(RunError, match="is gone; restore it with gsnn train --resume"):
        infer_run(run, method="regressor")
    run.regressor_path.write_bytes(content)
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "id": "another"}))
    with pytest.raises(RunError, match="is of another run"):
        infer_run(Run.open(run.path), method="regressor")
