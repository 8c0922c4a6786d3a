"""Training without watching is Lightning's, bit for bit, and leaves as little behind."""

from __future__ import annotations

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig, TrainingError, train_model

EDGES = [("x", "a"), ("x", "b"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "y"), ("b", "z")]


def trained(config, *, y=None, plainly=True):
    """A model of seven edges after training, and its history; a callback that does nothing asks for Lightning."""
    graph = Graph.from_edges(EDGES, input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y", "z"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 1))
    y = np.hstack([x, -x]) + 0.1 * rng.normal(size=(37, 2)) if y is None else y
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = GSNN.from_graph(graph, **config.model_options())
    return train_model(model, (x, y), None, config, callbacks=() if plainly else (L.Callback(),))


@pytest.mark.parametrize("norm", ["groupbatch", "batch", "none"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_weights_and_history_are_those_of_lightning(norm, drop_last):
    config = TrainConfig(epochs=4, channels=3, layers=3, norm=norm, batch_size=8, dropout=0.2, drop_last=drop_last)
    plain, usual = (trained(config, plainly=plainly) for plainly in (True, False))
    for (name, found), wanted in zip(plain.model.state_dict().items(), usual.model.state_dict().values(), strict=True):
        assert torch.equal(found, wanted), name
    columns = [name for name in usual.history if name != "seconds"]
    pd.testing.assert_frame_equal(plain.history[columns], usual.history[columns], check_exact=True)
    assert list(plain.history) == list(usual.history)
    assert not plain.model.training
    assert (plain.best_epoch, plain.kept_epoch, plain.stopped_early) == (None, 4, False)


def test_generators_are_left_alone():
    before = torch.get_rng_state()
    trained(TrainConfig(epochs=1, channels=2, layers=2, dropout=0.2))
    assert torch.equal(torch.get_rng_state(), before)


def test_where_nothing_is_to_be_differentiated():
    """As inside of an inference."""
    with torch.no_grad():
        assert trained(TrainConfig(epochs=1, channels=2, layers=2)).history["train_loss"].notna().all()


def test_a_loss_that_is_not_finite_names_its_place():
    y = np.full((37, 2), 1e38)
    with pytest.raises(TrainingError, match=r"became inf in epoch 1, batch 1; lower lr"):
        trained(TrainConfig(epochs=2, channels=2, layers=2), y=y)
