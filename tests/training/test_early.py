"""Early weights: which epoch is kept, through both loops, over a stop, and where edges are read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from gsnn.nn import load_model
from gsnn.training import TrainConfig, train_model
from gsnn.training.early import SHARE, Early, with_weights
from gsnn.training.loop import build_model


def chosen(losses, first=1.0, last=None):
    """The epoch that is chosen from some losses, and how many weights were kept at most."""
    early, most = Early(), 0
    for epoch, loss in enumerate(losses, start=1):
        model = nn.Linear(1, 1)
        nn.init.constant_(model.weight, epoch)
        early.see(epoch, loss, model, first)
        most = max(most, len(early.kept))
    found = early.choose(losses[-1] if last is None else last)
    if found is None:
        return None, most
    assert float(found[1]["weight"]) == found[0], "the weights are those of the epoch"
    return found[0], most


def test_the_first_epoch_that_has_fallen_enough():
    assert chosen([1.0, 0.5, 0.2, 0.1, 0.0])[0] == 4
    assert chosen([0.9, 0.8, 0.7, 0.6])[0] == 4  # .66 is needed
    assert chosen([0.1, 0.1, 0.1])[0] == 1
    rng = np.random.default_rng(0)
    for _ in range(200):
        losses = np.minimum.accumulate(1 - np.sort(rng.random(40)) * rng.random()).tolist()
        enough = 1 - SHARE * (1 - losses[-1])
        expected = next(k for k, loss in enumerate(losses, start=1) if loss <= enough)
        got, most = chosen(losses)
        assert got >= expected
        # An epoch less than a fiftieth of the fall below the one before is not kept; then it is the next one.
        largest = max(np.abs(np.diff(losses)))
        assert losses[expected - 1] - losses[got - 1] <= 0.02 * (1 - losses[-1]) + largest + 1e-12
        assert most <= 12


def test_a_loss_that_never_falls_keeps_nothing():
    assert chosen([1.1, 1.2])[0] is None
    early = Early()
    early.see(1, math.nan, nn.Linear(1, 1), 1.0)
    assert early.choose(0.5) is None
    model = nn.Linear(1, 1)
    assert with_weights(model, None) is model


def test_few_copies_of_a_large_model():
    early = Early()
    for epoch in range(1, 61):
        early.see(epoch, 0.95**epoch, nn.Linear(1500, 1500), 1.0)
        assert len(early.kept) <= 3
    epoch, _ = early.choose(0.95**60)
    assert 1 - SHARE - 0.1 <= 0.95**epoch <= 1 - SHARE * (1 - 0.95**60)


def test_weights_that_were_put_back_have_their_own_choice():
    """With restore_best the loss of the kept epoch counts."""
    assert chosen([0.8, 0.6, 0.4, 0.2, 0.0], last=0.2)[0] in (4, 5)


@pytest.fixture
def problem():
    from gsnn.graph import Graph

    edges = [("x", "a"), ("z", "b"), ("a", "c"), ("b", "c"), ("c", "y")]
    graph = Graph.from_edges(edges, input_nodes=["x", "z"], function_nodes=["a", "b", "c"], output_nodes=["y"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 2)).astype(np.float32)
    return graph, x, (x @ np.array([[1.0], [-0.5]], np.float32)).astype(np.float32)


def make(graph, config):
    from gsnn.nn import GSNN

    return build_model(lambda: GSNN.from_graph(graph, **config.model_options()), config.seed)


def test_both_loops_and_a_stop_keep_the_same(problem, tmp_path):
    graph, x, y = problem
    config = TrainConfig(epochs=12, channels=3, layers=3, seed=1, lr=1e-2)
    plain = train_model(make(graph, config), (x, y), None, config)
    watched = train_model(make(graph, config), (x, y), None, config, checkpoint=tmp_path / "a.safetensors")
    assert plain.early is not None
    epoch = plain.early[0]
    assert 1 <= epoch < 12
    losses = plain.history["train_loss"]
    assert losses[epoch - 1] < losses[0] - 0.8 * (losses[0] - losses[11])
    half = TrainConfig(**{**config.to_dict(), "epochs": 5})
    train_model(make(graph, config), (x, y), None, half, checkpoint=tmp_path / "b.safetensors")
    resumed = train_model(make(graph, config), (x, y), None, config, checkpoint=tmp_path / "b.safetensors", resume=True)
    for other in (watched, resumed):
        assert other.early is not None
        assert other.early[0] == epoch
        for name, value in plain.early[1].items():
            assert torch.equal(value, other.early[1][name]), name


def test_a_run_keeps_them_and_infers_from_them(tmp_path):
    from gsnn.discovery.methods import METHODS
    from gsnn.nn.losses import masked_mse
    from gsnn.runs import Run
    from gsnn.runs.infer import infer_run
    from gsnn.runs.inference.job import Job
    from gsnn.runs.simulate import simulate_files
    from gsnn.runs.train import train_files

    simulate_files(tmp_path / "s", kind="layered", n=12, samples=100, seed=1)
    files = {"graph": tmp_path / "s" / "network.sif", "data": tmp_path / "s" / "responses.csv"}
    run, result = train_files(tmp_path / "run", settings={"epochs": 15, "channels": 3, "layers": 4}, **files)
    assert result.early is not None
    assert run.info["training"]["early_epoch"] < 15
    stored = load_model(run.early_path)
    for name, value in result.early.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name])
    explained = "gradient-explained"
    tables = {weights: infer_run(run, method=explained, job=Job(weights=weights)) for weights in ("last", "early")}
    assert run.info["inference"].get("weights") is None
    data, rows = run.data(), run.split().train
    batch = tuple(
        torch.as_tensor(part, dtype=torch.float32)
        for part in (data.x[rows], run.standardiser().transform(data.y[rows]))
    )
    for weights, model in (("last", run.model()), ("early", stored)):
        method = METHODS[explained]
        inferer = method.make(model, data.graph)
        inferer.fit([batch], masked_mse, verbose=False)
        expected = inferer.top_edges(5, **method.options)
        mine = tables[weights]
        order = mine.set_index(["source", "target"])["score"]
        for s, t, score in zip(expected["src_func"], expected["dst_func"], expected["score"], strict=True):
            if (s, t) in order.index:
                assert order[s, t] == pytest.approx(score, rel=1e-4)
    again = Run.open(run.path)
    again.early_path.unlink()
    assert again.reading_model().state_dict().keys() == run.model().state_dict().keys()
