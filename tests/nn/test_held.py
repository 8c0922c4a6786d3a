"""Edge states that are set by hand, by the kernels and step by step."""

from __future__ import annotations

import pytest
import torch

from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.held import Held, held_states

GRAPH = Graph.from_edges(
    [("x", "a"), ("x", "b"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y"), ("b", "y"), ("a", "z")],
    input_nodes=["x"],
    function_nodes=["a", "b", "c"],
    output_nodes=["y", "z"],
)


def model(**options):
    torch.manual_seed(0)
    made = GSNN.from_graph(
        GRAPH, **({"channels": 3, "layers": 4, "share_layers": False, "norm": "groupbatch"} | options)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        made(torch.randn(9, 1))
    return made.eval()


@pytest.mark.parametrize("options", [{}, {"norm": "none", "residual": False}, {"norm": "layer", "bias": False}])
def test_kernels_and_steps_hold_the_same(options):
    made, x = model(**options), torch.randn(7, 1)
    held = Held(torch.tensor([0, 3, 7, 0]), torch.tensor([2, 2, 6, 0]), torch.randn(4, 4))
    with torch.no_grad():
        fast = made.forward_with_taps(x, held=held)
        # A tap that may change what passes is not for the kernels.
        slow = made.forward_with_taps(x, held=held, post=lambda *_: None)
        plain = made(x)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    touched = [0, 2, 6]
    untouched = [1, 3, 4, 5]
    torch.testing.assert_close(fast[untouched], plain[untouched], atol=1e-6, rtol=1e-6)
    assert (fast[touched] - plain[touched]).abs().amax(1).min() > 1e-4


def test_states_that_the_model_has_anyway_change_nothing():
    made, x, seen = model(), torch.randn(5, 1), []
    with torch.no_grad():
        plain = made.forward_with_taps(x, post=lambda _, h: seen.append(h))
        start = torch.zeros(made.E, 5)
        start[made.layout.input_edges] = x.t()[made.input_source]
        states = held_states(made, seen, start)
        torch.testing.assert_close(states[-1].t() / made.L**0.5, made(x, ret_edge_out=True))
        edges, samples = (v.flatten() for v in torch.meshgrid(torch.arange(made.E), torch.arange(5), indexing="ij"))
        held = Held(edges, samples, states[:, edges, samples])
        torch.testing.assert_close(made.forward_with_taps(x, held=held), plain, atol=1e-5, rtol=1e-5)


def test_gradients_pass_by_what_is_held():
    made, x = model(), torch.randn(3, 1, requires_grad=True)
    edges, samples = (v.flatten() for v in torch.meshgrid(torch.arange(made.E), torch.tensor([1]), indexing="ij"))
    held = Held(edges, samples, torch.zeros(4, len(edges)))
    made.forward_with_taps(x, held=held).sum().backward()
    assert x.grad[1] == 0
    assert x.grad[[0, 2]].abs().min() > 0
