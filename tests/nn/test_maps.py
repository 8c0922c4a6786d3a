from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gsnn.nn.layer_norm import layer_norm
from gsnn.nn.maps import sampled, to_channels, to_edges
from gsnn.nn.norms import ChannelGroups
from gsnn.nn.sparse import EdgeChannelPattern

PATTERNS = {
    "uniform": ([0, 2, 1, -1, 0, 2, 2], [3, 3, 3, 3]),
    "ragged": ([0, 2, 1, -1, 0, 3, 3], [1, 2, 4, 3]),
    "one channel": ([1, 1, 0], [1, 1]),
    "empty": ([-1, -1], [2, 3]),
}


def make(name, batch=4):
    nodes, counts = PATTERNS[name]
    pattern = EdgeChannelPattern(torch.tensor(nodes), torch.tensor(counts))
    starts = [sum(counts[:k]) for k in range(len(counts))]
    where = [(e, starts[n] + c) for e, n in enumerate(nodes) if n >= 0 for c in range(counts[n])]
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)

    return pattern, where, draw(len(where)), draw(len(nodes), batch), draw(sum(counts), batch)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_products_are_those_of_the_dense_matrix(name, batch):
    pattern, where, values, x, h = make(name, batch)
    dense = torch.zeros(x.shape[0], h.shape[0], dtype=torch.float64)
    for (e, c), v in zip(where, values.tolist(), strict=True):
        dense[e, c] = v
    torch.testing.assert_close(to_channels(pattern, values, x), dense.T @ x)
    torch.testing.assert_close(to_edges(pattern, values, h), dense @ h)
    full = x @ h.T
    want = torch.stack([full[e, c] for e, c in where]) if where else torch.zeros(0, dtype=torch.float64)
    torch.testing.assert_close(sampled(pattern, x, h), want)
    edge, channel = pattern.positions()
    assert list(zip(edge.tolist(), channel.tolist(), strict=True)) == where


@pytest.mark.parametrize("name", PATTERNS)
def test_first_and_second_derivatives(name):
    pattern, _, values, x, h = make(name)
    for function, arguments in ((to_channels, (values, x)), (to_edges, (values, h)), (sampled, (x, h))):
        assert gradcheck(lambda a, b, f=function: f(pattern, a, b), arguments)
        assert gradgradcheck(lambda a, b, f=function: f(pattern, a, b), arguments)


def test_only_the_gradients_asked_for_are_computed(monkeypatch):
    pattern, _, values, x, _ = make("uniform")
    monkeypatch.setattr(pattern, "sampled", lambda *_: pytest.fail("no weight gradient was asked for"))
    to_channels(pattern, values.detach(), x).sum().backward()
    assert x.grad is not None
    monkeypatch.undo()
    monkeypatch.setattr(pattern, "to_edges", lambda *_: pytest.fail("no state gradient was asked for"))
    to_channels(pattern, values, x.detach()).sum().backward()
    assert values.grad is not None


def test_compiled_operators_agree_with_the_eager_functions():
    pattern, _, values, x, h = make("ragged")
    operators = torch.ops.gsnn
    for op, function, arguments in (
        (operators.to_channels, to_channels, (values, x)),
        (operators.to_edges, to_edges, (values, h)),
        (operators.sampled, sampled, (x, h)),
    ):
        torch.testing.assert_close(op(*arguments, pattern.handle), function(pattern, *arguments))
        assert gradcheck(lambda a, b, op=op: op(a, b, pattern.handle), arguments)
        assert gradgradcheck(lambda a, b, op=op: op(a, b, pattern.handle), arguments)


def test_copies_have_handles_of_their_own():
    pattern, *_ = make("uniform")
    twins = [copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))]
    assert len({pattern.handle, *(twin.handle for twin in twins)}) == 3


def test_a_graph_whose_model_is_gone_says_so():
    pattern, _, values, x, _ = make("uniform")
    handle = pattern.handle
    del pattern
    with pytest.raises(RuntimeError, match="no longer exists"):
        torch.ops.gsnn.to_channels(values.detach(), x.detach(), handle)


def test_layer_norm_derivatives():
    g = torch.Generator().manual_seed(0)
    x, gamma, beta = (
        torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4), (2,), (2,))
    )
    assert gradcheck(layer_norm, (x, gamma, beta))
    assert gradgradcheck(layer_norm, (x, gamma, beta))
    frozen = gamma.detach()
    assert gradgradcheck(lambda x, beta: layer_norm(x, frozen, beta), (x, beta))
    assert not frozen.requires_grad


def test_layer_norm_of_equal_channels_has_finite_gradients():
    x = torch.ones(2, 3, 4, dtype=torch.float64, requires_grad=True)
    gamma, beta = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    weight = torch.arange(24, dtype=torch.float64).view(2, 3, 4)
    for create_graph in (False, True):
        (grad,) = torch.autograd.grad((layer_norm(x, gamma, beta) * weight).sum(), x, create_graph=create_graph)
        torch.testing.assert_close(grad, (weight - weight.mean(1, keepdim=True)) / 0.1)


def test_groups_of_unequal_size_are_those_of_equal_size():
    """The flat path that unequal channel counts need, on equal counts."""
    counts = torch.tensor([3, 3])
    equal, flat = ChannelGroups(counts), ChannelGroups(counts)
    flat.width = None
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flat.mean(flat.split(x)), equal.mean(equal.split(x)))
    torch.testing.assert_close(flat.spread(torch.tensor([1.0, 2.0])), torch.tensor([1.0] * 3 + [2.0] * 3)[:, None])
