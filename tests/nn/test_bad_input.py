from __future__ import annotations

import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.nn import GSNN


@pytest.fixture
def graph(kit):
    return kit.random_graph(0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
        ({"channels": 2.5}, TypeError, "channels must be an integer"),
        ({"channels": [1, 2]}, ValueError, r"one per function \(6\), got 2"),
        ({"channels": [1, 0, 1, 1, 1, 1]}, ValueError, r"positions \[1\]"),
        ({"layers": 0}, ValueError, "layers must be at least 1, got 0"),
        ({"layers": None}, TypeError, "layers must be an integer"),
        ({"edge_channels": 0}, ValueError, "edge_channels must be at least 1"),
        ({"node_mlp_hidden": 0}, ValueError, "node_mlp_hidden must be at least 1"),
        ({"dropout": 1.0}, ValueError, "dropout must be at least 0 and below 1"),
        ({"norm": "layr"}, ValueError, "'groupbatch'.*did you mean 'layer'"),
        ({"init": "xavier"}, ValueError, "unknown init 'xavier'.*'zeros'"),
        ({"nonlin": torch.nn.ELU()}, TypeError, "pass the class"),
        ({"nonlin": "ELU"}, TypeError, "such as torch.nn.ELU"),
        ({"nonlin": dict}, TypeError, "must build a torch.nn.Module"),
        ({"channels": (1, 2, 3, 1, 2, 3), "node_mlp": True}, ValueError, "one number of channels"),
        ({"channels": (1, 2, 3, 1, 2, 3), "node_attn": True}, ValueError, "one number of channels"),
    ],
)
def test_options(graph, change, error, words):
    with pytest.raises(error, match=words):
        GSNN(*graph, **{"channels": 2, "layers": 2, **change})


def test_graphs(kit, graph):
    edges, names = graph
    kind = kit.FF

    def build(edges=edges, names=names):
        return GSNN(edges, names, 2, 2)

    for change, words in (
        ({("function", "to", "input"): torch.zeros(2, 1)}, "unknown edge type.*'function', 'to', 'input'"),
        ({"ff": torch.zeros(2, 1)}, "unknown edge type 'ff'"),
        ({kind: torch.zeros(3, 2, dtype=torch.long)}, r"must have shape \(2, E\), got \(3, 2\); pass its transpose"),
        ({kind: torch.zeros(4, dtype=torch.long)}, r"got \(4,\)"),
        ({kind: torch.tensor([[0, 6], [0, 0]])}, r"out of range: edge 1 = \(6, 0\); there are 6 function"),
        ({kit.IF: torch.tensor([[-1], [0]])}, r"out of range: edge 0 = \(-1, 0\); there are 3 input"),
        ({kit.FO: torch.tensor([[0], [3]])}, r"edge 0 = \(0, 3\); there are 6 function and 3 output nodes"),
        ({kind: torch.zeros(2, 1)}, "must hold integers"),
    ):
        with pytest.raises(DataError, match=words):
            build({**edges, **change})
    for change, words in (
        ({"function": ["a"] * 6}, "duplicate function names 'a'"),
        ({"input": ["f0", "b", "c"]}, "names in two node types: 'f0'"),
        ({"output": []}, "no output nodes"),
        ({"output": "abc"}, "the string 'abc'"),
        ({"latent": ["a"]}, r"unknown node types \['latent'\]"),
    ):
        with pytest.raises(DataError, match=words):
            build(names={**names, **change})


def test_edge_weights(kit, graph):
    edges, names = graph
    for weights, words in (
        ({kit.FF: torch.ones(3)}, r"must have shape \(17,\), one weight per edge"),
        ({kit.IF: torch.tensor([1.0, float("nan"), 1, 1, 1])}, r"not finite at positions \[1\]"),
        ({("a", "b"): torch.ones(1)}, "edge_weight_dict has the unknown edge type"),
    ):
        with pytest.raises(DataError, match=words):
            GSNN(edges, names, 2, 2, edge_weight_dict=weights)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.ones(2, 4), ValueError, r"x must have shape \(B, I\) with I = 3.*got \(2, 4\)"),
        (torch.ones(3), ValueError, r"got \(3,\)"),
        (torch.ones(2, 3).long(), TypeError, "must be torch.float32.*got torch.int64"),
        (torch.ones(2, 3).double(), TypeError, r"got torch.float64; pass x.to\(torch.float32\)"),
        ([[1.0, 2.0, 3.0]], TypeError, "must be a torch.Tensor, got list"),
        (torch.tensor([[1, float("nan"), float("inf")]]), ValueError, "columns of 'in1', 'in2'; fill or drop"),
    ],
)
def test_inputs(graph, x, error, words):
    with pytest.raises(error, match=words):
        GSNN(*graph, 2, 2)(x)


def test_nan_is_let_through_when_allowed_and_large_values_are_fine(graph):
    x = torch.tensor([[1.0, float("nan"), 0.0]])
    assert GSNN(*graph, 2, 2, allow_nan=True)(x).isnan().any()
    assert GSNN(*graph, 2, 2)(torch.full((4, 3), 3e38)).shape == (4, 3)


def test_masks_and_other_arguments(graph):
    model = GSNN(*graph, 2, 2)
    x = torch.ones(4, 3)
    for name, value, words in (
        ("node_mask", torch.ones(4, 5), r"node_mask must have shape \(4, 12\) or \(6,\) or \(4, 6\), got \(4, 5\)"),
        ("edge_mask", torch.ones(3), rf"edge_mask must have shape \(4, {model.E}\) or \({model.E},\), got \(3,\)"),
        ("e0", torch.ones(model.E), rf"e0 must have shape \(4, {model.E}\)"),
        ("node_errs", [torch.ones(4, 12)], r"one tensor per layer \(2\), got 1"),
        ("node_errs", [torch.ones(4, 2)] * 2, r"node_errs\[l\] must have shape \(4, 12\)"),
    ):
        with pytest.raises(ValueError, match=words):
            model(x, **{name: value})
    with pytest.raises(TypeError, match=r"edge_mask must be a torch\.Tensor, got list"):
        model(x, edge_mask=[1.0])
    with pytest.raises(ValueError, match="threshold must be a number"):
        model.prune(-1.0)


@pytest.mark.parametrize("norm", ["batch", "edgebatch", "batch++"])
def test_one_sample_in_training_with_a_norm_over_the_batch(graph, norm):
    model = GSNN(*graph, 2, 2, norm=norm)
    with pytest.raises(ValueError, match=r"a batch of one sample has no variance.*drop_last"):
        model(torch.ones(1, 3))
    assert model.eval()(torch.ones(1, 3)).shape == (1, 3)


def test_masks_may_be_boolean(graph):
    model = GSNN(*graph, 2, 2)
    mask = torch.rand(model.E) > 0.5
    torch.testing.assert_close(model(torch.ones(2, 3), edge_mask=mask), model(torch.ones(2, 3), edge_mask=mask.float()))
