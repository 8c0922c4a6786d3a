"""Models side by side as one, and taken apart again."""

from __future__ import annotations

import pytest
import torch

from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.norms import NORMS
from gsnn.nn.union import can_unite, disjoint_union, split_union

from ..edges.worlds import FUNCTIONS, small_graph


def graphs() -> list[Graph]:
    graph = small_graph()
    return [graph, graph.with_edges([("a", "e"), ("lone", "b")]), graph.with_edges([("sink", "c")])]


def united(some, **options) -> GSNN:
    """A model whose weights and norms have moved."""
    options = {"channels": 3, "layers": 4, "norm": "groupbatch", "share_layers": False} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = disjoint_union(some)
        model = GSNN.from_graph(whole, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
        model.train()
        model(torch.randn(16, whole.I))
    return model.eval()


def assert_parts_predict_like_the_whole(model, some):
    x = torch.randn(7, model.I, generator=torch.Generator().manual_seed(1))
    parts = split_union(model, some)
    each = torch.cat([part(own) for part, own in zip(parts, x.chunk(len(some), dim=1), strict=True)], dim=1)
    assert torch.equal(each, model(x))


def test_the_union_has_every_edge_of_every_graph_and_none_between_them():
    some = graphs()
    whole = disjoint_union(some)
    assert set(whole.function_edges) == {
        (f"{k}|{s}", f"{k}|{t}") for k, graph in enumerate(some) for s, t in graph.function_edges
    }
    assert (whole.I, whole.O) == (9, 6)
    assert whole.E == sum(graph.E for graph in some)


@pytest.mark.parametrize("norm", NORMS)
def test_parts_predict_like_the_whole_with_every_norm(norm):
    some = graphs()
    assert_parts_predict_like_the_whole(united(some, norm=norm), some)


@pytest.mark.parametrize(
    "options",
    [
        {"share_layers": True},
        {"channels": 1},
        {"channels": [1, 2, 3, 1, 2, 3, 1, 2] * 3},
        {"edge_channels": 2},
        {"bias": False, "residual": False},
        {"add_function_self_edges": False, "norm_first": False},
    ],
    ids=lambda options: " ".join(options),
)
def test_parts_predict_like_the_whole_with_other_options(options):
    some = graphs()
    assert_parts_predict_like_the_whole(united(some, **options), some)


def test_parts_have_the_precision_of_the_whole():
    some = graphs()
    model = united(some).double()
    x = torch.randn(7, model.I, dtype=torch.float64)
    parts = split_union(model, some)
    assert torch.equal(torch.cat([part(own) for part, own in zip(parts, x.chunk(3, dim=1), strict=True)], 1), model(x))


def test_weights_of_edges_are_kept():
    edges = small_graph()
    weights = {kind: torch.rand(index.shape[1]) for kind, index in edges.edge_index_dict.items()}
    graph = Graph(edges.edge_index_dict, edges.node_names_dict, weights)
    joined = disjoint_union([graph, graph]).edge_weight_dict
    assert joined is not None
    assert all(torch.equal(joined[kind], torch.cat([weights[kind]] * 2).to(joined[kind])) for kind in weights)


def test_what_shares_weights_between_functions_is_not_united():
    assert can_unite(GSNN.from_graph(small_graph(), 2, 2))
    assert not can_unite(GSNN.from_graph(small_graph(), 2, 2, node_mlp=True))
    assert not can_unite(GSNN.from_graph(small_graph(), 2, 2, node_attn=True))
    assert not can_unite(GSNN.from_graph(small_graph(), 2, 2, nonlin=torch.nn.PReLU))
    assert not can_unite(torch.nn.Linear(2, 2))


def test_a_model_of_other_graphs_is_refused():
    some = graphs()
    with pytest.raises(ValueError, match=f"union of 2 graphs of {len(FUNCTIONS)} functions"):
        split_union(united(some), some[:2])
