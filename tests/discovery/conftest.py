"""A simulated problem that trains in a moment, and a stand-in for training where only the logic is tested."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from gsnn.data import PerturbationData
from gsnn.discovery import retrain as retrain_module
from gsnn.discovery.refinement.held_out import Losses
from gsnn.graph import Graph, nx2pyg
from gsnn.simulation import convergence_graph, simulate
from gsnn.training import TrainConfig


def simulated(n=5, samples=90, seed=0, without=()):
    full, inputs, functions, outputs, _ = convergence_graph(n)
    x, _, y, _ = simulate(full, samples, 0, inputs, outputs, noise_scale=0.2, seed=seed)
    graph = nx2pyg(full, inputs, functions, outputs)
    graph = graph.without_edges(without) if without else graph
    return PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))


def random_graph(n=14, density=0.15, seed=0, inputs=3, outputs=4):
    """A random graph, cycles included, in which some functions may be out of reach."""
    rng = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(n)]
    made = nx.gnp_random_graph(n, density, seed=seed, directed=True)
    edges = [(names[s], names[t]) for s, t in made.edges]
    edges += [(f"x{i}", names[rng.integers(n)]) for i in range(inputs)]
    edges += [(names[rng.integers(n)], f"y{i}") for i in range(outputs)]
    return Graph.from_edges(
        edges,
        input_nodes=[f"x{i}" for i in range(inputs)],
        function_nodes=names,
        output_nodes=[f"y{i}" for i in range(outputs)],
    )


@pytest.fixture(scope="session")
def data():
    return simulated()


@pytest.fixture(scope="session")
def config():
    return TrainConfig(epochs=3, channels=2, layers=3, batch_size=32, dropout=0.0)


class FakeTraining:
    """Trains nothing: the validation loss is a function of the graph, and the model is the graph."""

    def __init__(self, loss, good):
        self.loss, self.good, self.calls, self.tests = loss, good, [], []

    def __call__(self, data, graph, config, *, seed=None, split=None):
        self.calls.append(list(graph.function_edges))
        loss = float(self.loss(graph))
        rng = np.random.default_rng(0)
        x = rng.normal(size=(20, graph.I))
        return retrain_module.Trained(graph, graph, [], x, rng.normal(size=(20, graph.O)), loss, loss + 1)

    def losses(self, data, graph, config, folds):
        """The loss of the graph at every condition, with noise that all graphs share and a little of its own."""
        self.tests.append(list(graph.function_edges))
        names = [len(graph.function_edges), *"".join(graph.function_edges[-1]).encode()]
        own = np.random.default_rng(names).normal(scale=0.01, size=40)
        squares = self.loss(graph) + np.random.default_rng(0).normal(size=40) + own
        return Losses(squares, np.ones(40), np.arange(40) % 4)

    def explained(self, data, model, folds, kind):
        """The edges that are good come first, all others stand in a random order."""
        graph = model.graph
        place = {name: i for i, name in enumerate(graph.functions)}
        scores = np.random.default_rng(1).random((graph.N, graph.N))
        for source, target in self.good:
            if source in place and target in place:
                scores[place[source], place[target]] += 1
        return scores


@pytest.fixture
def fake_training(monkeypatch):
    def install(loss=lambda graph: 1.0, good=(("f1", "f8"), ("f2", "f10"), ("f9", "f15"))):
        fake = FakeTraining(loss, good)
        for module in ("refinement.bench", "refinement.protocol", "selfcheck.protocol"):
            monkeypatch.setattr(f"gsnn.discovery.{module}.train_on", fake)
        monkeypatch.setattr("gsnn.discovery.refinement.bench.losses", fake.losses)
        monkeypatch.setattr("gsnn.discovery.refinement.held_out._explained", fake.explained)
        return fake

    return install
