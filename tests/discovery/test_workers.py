"""Trainings in processes of their own give what one after the other gives, bit for bit."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from gsnn.discovery import StackedEdgeInferer, audit, self_check
from gsnn.discovery.auditing.restricted import Recipe
from gsnn.discovery.refinement.held_out import Folds, losses
from gsnn.nn import GSNN
from gsnn.training import TrainConfig

from .conftest import simulated

QUICK = TrainConfig(epochs=2, channels=2, layers=3, batch_size=64)


@contextmanager
def threads(count):
    """As many of torch's threads, hence processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def forks(monkeypatch):
    """The processes that were forked."""
    from gsnn.base import workers

    made, usual = [], workers._Member.__init__

    def counted(self, *arguments):
        usual(self, *arguments)
        made.append(self.process)

    monkeypatch.setattr(workers._Member, "__init__", counted)
    return made


def test_self_check(tmp_path, forks):
    told = {}
    for count in (1, 2, 3):
        with threads(count):
            self_check(simulated(8), QUICK, "magnitude", repeats=2, folder=tmp_path / str(count))
        told[count] = json.loads((tmp_path / str(count) / "selfcheck.json").read_text())
    assert len(forks) == 5
    for count in (2, 3):
        assert json.dumps(told[count]["repeats"]) == json.dumps(told[1]["repeats"])


def test_audit(tmp_path, forks):
    for count in (1, 2):
        with threads(count):
            audit(simulated(6), QUICK, recipe=Recipe(steps=5), removal=False, folder=tmp_path / str(count))
    assert len(forks) >= 4  # for the networks, and for the edges that are closed in them
    assert (tmp_path / "1" / "audit.json").read_bytes() == (tmp_path / "2" / "audit.json").read_bytes()


def test_held_out_losses(forks):
    data = simulated(8)
    folds, found = Folds.of(data, QUICK), []
    for count in (1, 3):
        with threads(count):
            found.append(losses(data, data.graph, QUICK, folds))
    assert len(forks) == 3
    for name in ("squares", "counts", "fold"):
        np.testing.assert_array_equal(*(getattr(each, name) for each in found))


def test_stack(forks):
    data = simulated(8)
    x, y = (torch.tensor(values, dtype=torch.float32) for values in (data.x, data.y))
    torch.manual_seed(0)
    model = GSNN.from_graph(data.graph, channels=2, layers=3)
    found = []
    for count in (1, 2):
        with threads(count):
            inferer = StackedEdgeInferer(model, data.graph, QUICK, repeats=2, n_trees=10)
            inferer.fit([(x, y)], verbose=False)
            found.append(inferer.evaluate())
    assert len(forks) == 2
    assert found[0].equals(found[1])
