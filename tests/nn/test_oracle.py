from __future__ import annotations

from itertools import product

import pytest
import torch

from gsnn.nn import GSNN, NORMS

B = 5


def agree(
    kit,
    graph,
    channels,
    layers,
    *,
    training=True,
    seed=0,
    batch=B,
    node_mlp=False,
    node_attn=False,
    copies=1,
    weights=None,
    forward=None,
    **options,
):
    """Outputs, edge states and all gradients of the model against the oracle."""
    # A column that is constant over the batch turns rounding into noise of 1 / sqrt(eps) per layer.
    loose = "batch" in options.get("norm", "layer")
    close = {"rtol": 1e-6, "atol": 1e-7} if loose else {"rtol": 1e-8, "atol": 1e-10}
    edges, names = graph
    model = GSNN(
        edges,
        names,
        channels,
        layers,
        node_mlp=node_mlp,
        node_attn=node_attn,
        edge_channels=copies,
        edge_weight_dict=None if weights is None else {kit.FF: weights},
        **options,
    ).double()
    kit.shake(model, seed).train(training)
    oracle = kit.Oracle(
        edges,
        names,
        channels,
        layers,
        training=training,
        node_mlp=node_mlp,
        node_attn=node_attn,
        copies=copies,
        weights=weights,
        **options,
    )
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, model.I, generator=g, dtype=torch.float64)
    forward = {} if forward is None else forward(model, g)
    p = kit.leaves(model)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    extra = {"node_mask": forward["node_mask"][..., : model.N]} if "node_mask" in forward else {}
    want, want_state = oracle(x1, p, **{**forward, **extra})
    got = model(x2, **forward)
    torch.testing.assert_close(got, want, **close)
    weight = torch.randn(want.shape, generator=g, dtype=torch.float64)
    state_weight = torch.randn(want_state.shape, generator=g, dtype=torch.float64)
    ((want * weight).sum() + (want_state * state_weight).sum()).backward()
    (got * weight).sum().backward()
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state = model(x2, ret_edge_out=True, **forward)
    if model.norm not in ("ema", "channelema") or not training:
        torch.testing.assert_close(state, want_state, **close)
        (state * state_weight).sum().backward()
        # Where no input has an edge, the oracle never touches x.
        x_grad = torch.zeros_like(x) if x1.grad is None else x1.grad
        torch.testing.assert_close(x2.grad, x_grad, **close)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, p[name].grad, **close, msg=lambda m, n=name: f"{n}: {m}")
    return model, oracle, kept


SWITCHES = list(product((True, False), repeat=4))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("empty", [(), "FF", "IF", "FO"])
def test_outputs_and_all_gradients(kit, norm, empty):
    graph = kit.random_graph(1, empty=[getattr(kit, empty)] if empty else [])
    for number, (share, residual, first, bias) in enumerate(SWITCHES):
        if empty and number % 3:
            continue
        agree(
            kit, graph, 3, 3, norm=norm, share_layers=share, residual=residual, norm_first=first, bias=bias, seed=number
        )


@pytest.mark.parametrize("norm", NORMS)
def test_eval_mode_uses_running_statistics(kit, norm):
    for first in (True, False):
        agree(kit, kit.random_graph(2), 3, 2, norm=norm, norm_first=first, training=False)


@pytest.mark.parametrize("norm", ["ema", "channelema"])
def test_running_norms_in_training_have_the_gradients_of_fixed_statistics(kit, norm):
    edges, names = kit.random_graph(3)
    model = kit.shake(GSNN(edges, names, 3, 2, norm=norm).double())
    p, x = kit.leaves(model), torch.randn(B, 3, dtype=torch.float64)
    want, _ = kit.Oracle(edges, names, 3, 2, norm=norm)(x, p)
    want.square().sum().backward()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, p[name].grad)


@pytest.mark.parametrize("norm", NORMS)
def test_channels_per_node(kit, norm):
    for training in (True, False):
        agree(kit, kit.random_graph(4), (1, 2, 3, 4, 2, 1), 2, norm=norm, training=training)


@pytest.mark.parametrize("norm", [n for n in NORMS if n not in ("batch", "edgebatch", "batch++")])
def test_one_sample_one_channel(kit, norm):
    agree(kit, kit.random_graph(5), 1, 2, norm=norm, batch=1)


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("copies", [1, 3])
def test_node_mlp_attention_and_edge_copies(kit, mlp, weighted, copies):
    edges, names = kit.random_graph(6)
    weights = torch.linspace(-1, 1, edges[kit.FF].shape[1], dtype=torch.float64).tolist() if weighted else None
    agree(kit, (edges, names), 3, 2, node_mlp=mlp, node_attn=True, copies=copies, weights=weights)


@pytest.mark.parametrize("flat", [True, False])
def test_masks_start_state_and_node_errors(kit, flat):
    def forward(model, g):
        def draw(*shape):
            return torch.rand(*shape, generator=g, dtype=torch.float64)

        nodes = model.N if flat else model.N + model.I + model.O
        return {
            "node_mask": draw(nodes) if flat else draw(B, nodes),
            "edge_mask": draw(model.E) if flat else draw(B, model.E),
            "e0": draw(B, model.E),
            "node_errs": [draw(B, model.N * 3) for _ in range(model.L)],
        }

    agree(kit, kit.random_graph(7), 3, 3, forward=forward)


def test_node_mask_per_sample_for_functions_only(kit):
    agree(
        kit,
        kit.random_graph(7),
        2,
        2,
        forward=lambda m, g: {"node_mask": torch.rand(B, m.N, generator=g, dtype=torch.float64)},
    )


def test_without_self_edges(kit):
    edges, names = kit.random_graph(8)
    model = kit.shake(GSNN(edges, names, 2, 2, add_function_self_edges=False).double())
    x = torch.randn(B, 3, dtype=torch.float64)
    want, _ = kit.Oracle(edges, names, 2, 2, self_edges=False)(x, kit.leaves(model))
    torch.testing.assert_close(model(x), want)


def test_running_statistics_follow_the_batch(kit):
    edges, names = kit.random_graph(9)
    x = torch.randn(B, 3, dtype=torch.float64)
    for norm, unbiased in (("groupbatch", False), ("ema", False), ("batch", True)):
        model = kit.shake(GSNN(edges, names, 3, 1, norm=norm).double())
        before, taps = kit.leaves(model), []
        kit.Oracle(edges, names, 3, 1, norm=norm)(x, before, taps=taps)
        model(x)
        z = taps[0].detach().view(B, model.N, 3)
        if norm == "batch":
            mean, var = z.flatten(1).mean(0), z.flatten(1).var(0, unbiased=unbiased)
        else:
            mean, var = z.mean((0, 2)), z.var((0, 2), unbiased=unbiased)
        for key, value in (("running_mean", mean), ("running_var", var)):
            want = 0.9 * before[f"blocks.0.norm.{key}"] + 0.1 * value
            torch.testing.assert_close(model.state_dict()[f"blocks.0.norm.{key}"], want)


def test_jacobian_is_zero_exactly_where_no_path_of_at_most_L_blocks_exists(kit):
    """A value crosses one function per block, so output o depends on input i iff a path has at most L functions."""
    for seed, layers in product(range(3), (1, 2, 4)):
        g = torch.Generator().manual_seed(seed)
        n, i, o = 8, 4, 4
        edges = {
            kit.FF: torch.randint(n - 1, (2, 7), generator=g),
            kit.IF: torch.stack([torch.arange(i), torch.randint(n - 1, (i,), generator=g)]),
            kit.FO: torch.stack([torch.randint(n - 1, (o,), generator=g), torch.arange(o)]),
        }
        adjacency = torch.eye(n, dtype=torch.bool)
        adjacency[edges[kit.FF][0], edges[kit.FF][1]] = True
        reach = torch.eye(n, dtype=torch.bool)
        for _ in range(layers - 1):
            reach = (reach.int() @ adjacency.int()) > 0
        expected = torch.zeros(o, i, dtype=torch.bool)
        for s, f in edges[kit.IF].T.tolist():
            for h, t in edges[kit.FO].T.tolist():
                expected[t, s] |= reach[f, h]
        for norm in ("none", "layer"):
            model = kit.shake(GSNN(edges, kit.names(n, i, o), 3, layers, norm=norm).double(), seed)
            x = torch.randn(1, i, dtype=torch.float64)
            jacobian = torch.autograd.functional.jacobian(model, x)[0, :, 0]
            assert torch.equal(jacobian != 0, expected)
