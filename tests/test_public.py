"""What a user gets by ``from gsnn import *``, and the doors that all inferers share."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import torch

import gsnn
from gsnn.data import build_data
from gsnn.discovery import METHODS, SelfCheck
from gsnn.edges import EdgeInferer, EdgeScores
from gsnn.graph import Graph
from gsnn.io import Network, Responses
from gsnn.nn import GSNN

EDGES = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "y")]
NODES = {"input_nodes": ["x"], "function_nodes": list("abcd"), "output_nodes": ["y"]}


@pytest.fixture(scope="module")
def graph():
    return Graph.from_edges(EDGES, **NODES)


def test_a_star_gives_every_inferer():
    names = {}
    exec("from gsnn import *", names)
    every = {way.inferer for name in METHODS for way in (METHODS[name], *METHODS[name].other_kinds)}
    assert every <= set(filter(inspect.isclass, names.values()))
    assert gsnn.__all__ == sorted(gsnn.__all__, key=lambda name: (name.startswith("_"), not name.isupper(), name))


@pytest.mark.parametrize(
    "name", [n for n in gsnn.__all__ if n.endswith("Inferer") or n.startswith(("Magnitude", "Directed"))]
)
def test_every_inferer_is_made_from_a_model_and_a_graph(name, graph):
    kind = getattr(gsnn, name)
    assert issubclass(kind, EdgeScores)
    model = GSNN.from_graph(graph, channels=2, layers=3)
    inferer = kind.from_graph(model, graph)
    assert isinstance(inferer, EdgeInferer)
    assert len(repr(inferer)) < 120
    x = torch.randn(30, 1, generator=torch.Generator().manual_seed(0))
    if name not in ("StackedEdgeInferer", "StabilityEdgeInferer"):  # they train
        assert inferer.fit([(x, -x)], verbose=False) == 30


def test_a_model_is_saved_and_loaded_by_its_methods(graph, tmp_path):
    model = GSNN.from_graph(graph, channels=2, layers=3)
    model.save(tmp_path / "model.safetensors")
    again = GSNN.load(tmp_path / "model.safetensors")
    assert torch.equal(again(torch.ones(1, 1)), model(torch.ones(1, 1)))
    with pytest.raises(gsnn.DataError, match="there is no model file"):
        GSNN.load(tmp_path / "nothing")


def test_reprs_are_short(graph):
    table = pd.DataFrame(np.arange(12.0)[:, None], columns=["a"])
    network, responses = Network.from_edges([("a", "b")]), Responses(table, table.rename(columns={"a": "b"}))
    data = build_data(network, responses)
    check = SelfCheck({"repeats": 3, "methods": []}, [])
    for each in (graph, network, responses, data, check, GSNN.from_graph(graph, channels=2, layers=3)):
        assert len(repr(each)) < 200, repr(each)
        assert "\n" not in repr(each)
    assert repr(data).startswith("PerturbationData(12 samples, 1 input")
