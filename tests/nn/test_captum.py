"""Attributions by captum: the model is a function of its inputs like any other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gsnn.graph import Graph
from gsnn.nn import GSNN, NORMS

captum = pytest.importorskip("captum.attr", reason="captum is not installed")

# x2 has no path to y1, and x3 none to any output.
GRAPH = Graph.from_edges(
    [("x1", "a"), ("x2", "b"), ("x3", "d"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "y1"), ("b", "y2")],
    input_nodes=["x1", "x2", "x3"],
    function_nodes=["a", "b", "c", "d"],
    output_nodes=["y1", "y2"],
)


def trained(norm: str = "groupbatch", **options: object) -> GSNN:
    """A model after some steps, so that running statistics are not those of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GSNN.from_graph(GRAPH, 3, 4, norm=norm, **options).double()
        x = torch.randn(64, 3, dtype=torch.float64)
        y = torch.stack([x[:, 0].tanh(), x[:, 0] * x[:, 1]], 1)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(30):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
    return model.eval()


def points() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_attributions_sum_to_the_change_of_the_output(norm):
    model, x = trained(norm), points()
    baseline = torch.full_like(x, 0.1)
    with torch.no_grad():
        change = model(x) - model(baseline)
    assert change.abs().amax(0).min() > 1e-3
    # A norm over the channels of a node is steep where all of them pass 0 together: rms needs this many steps.
    steps = 1600 if norm == "rms" else 400
    for target, expected in enumerate(change.T):
        found, delta = captum.IntegratedGradients(model).attribute(
            x, baseline, target=target, n_steps=steps, return_convergence_delta=True
        )
        torch.testing.assert_close(found.sum(1), expected, rtol=0, atol=5e-3 * float(expected.abs().max()))
        torch.testing.assert_close(delta, found.sum(1) - expected)


def test_no_path_no_attribution():
    model, x = trained(), points()
    for target, silent in ((0, ["x2", "x3"]), (1, ["x3"])):
        found = captum.IntegratedGradients(model).attribute(x, target=target)
        zero = (found == 0).all(0)
        assert [name for name, none in zip(model.input_nodes, zero.tolist(), strict=True) if none] == silent


def test_a_linear_model_has_its_closed_form():
    """Then the integral is (x - baseline) times the Jacobian, whatever the number of steps."""
    model, x = trained("none", nonlin=nn.Identity), points()
    jacobian = torch.autograd.functional.jacobian(model, x[:1])[0, :, 0]
    baseline = torch.full_like(x, -0.5)
    for target in (0, 1):
        found = captum.IntegratedGradients(model).attribute(x, baseline, target=target, n_steps=7)
        torch.testing.assert_close(found, (x - baseline) * jacobian[target])


def test_leaves_the_model_as_it_was():
    model, x = trained(), points()
    before = model(x)
    captum.IntegratedGradients(model).attribute(x, target=0)
    assert torch.equal(model(x), before)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
