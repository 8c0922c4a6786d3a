from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from gsnn.nn import GSNN, NORMS
from gsnn.nn.init import INITIALISERS, initial_scale, initial_weights
from gsnn.simulation import convergence_graph, held_out_edges


def benchmark_model(kit, n, **options):
    """The converging graph without its held-out edges."""
    graph, inputs, functions, outputs, _ = convergence_graph(n)
    names = {"input": inputs, "function": functions, "output": outputs}
    kept = [e for e in graph.edges if e not in set(held_out_edges(n))]
    place = {name: (kind, k) for kind, members in names.items() for k, name in enumerate(members)}
    edges = {kind: [[], []] for kind in (kit.FF, kit.IF, kit.FO)}
    for source, target in kept:
        (s, i), (t, j) = place[source], place[target]
        edges[s, "to", t][0].append(i)
        edges[s, "to", t][1].append(j)
    return GSNN({k: torch.tensor(v) for k, v in edges.items()}, names, **options)


@pytest.mark.parametrize(
    ("n", "channels", "norm", "count"),
    [
        (25, 8, "none", 13980),
        (25, 8, "groupbatch", 14580),
        (12, 8, "none", 6636),
        (12, 8, "groupbatch", 6924),
        (25, 10, "none", 17268),
    ],
)
def test_parameter_counts(kit, n, channels, norm, count):
    model = benchmark_model(kit, n, channels=channels, layers=6, share_layers=False, norm=norm)
    assert sum(p.numel() for p in model.parameters()) == count


def test_representation_has_the_sizes_of_every_layer(kit):
    edges, names = kit.random_graph(0)
    model = GSNN(edges, names, 2, 2, norm="layer", bias=False)
    first = model.blocks[0]
    assert f"{model.E} -> 12, nnz={first.lin_in.weight.numel()}, bias=False" in repr(first.lin_in)
    assert f"12 -> {model.E}, nnz={first.lin_out.weight.numel()}, bias=False" in repr(first.lin_out)
    assert "6 x 2" in repr(first.norm)
    uneven = GSNN(edges, names, (1, 2, 3, 1, 2, 3), 2, norm="batch")
    assert "6 groups, 12" in repr(uneven.groups)
    running = GSNN(edges, names, 2, 2, norm="channelema").blocks[0].edge_norm
    assert f"({model.E})" in repr(running)


def test_sharing_shares_the_maps_and_nothing_else(kit):
    model = GSNN(*kit.random_graph(0), 3, 3)
    first, second = model.blocks[0], model.blocks[1]
    assert first.lin_in is second.lin_in
    assert first.lin_out is second.lin_out
    assert first.norm.gamma is not second.norm.gamma
    assert first.residual_weight is not second.residual_weight
    assert first.residual_weight.shape == ()
    own = GSNN(*kit.random_graph(0), 3, 3, share_layers=False)
    assert own.blocks[0].lin_in.weight is not own.blocks[1].lin_in.weight
    assert not torch.equal(own.blocks[0].lin_in.weight, own.blocks[1].lin_in.weight)


def test_attributes_other_modules_rely_on(kit):
    edges, names = kit.random_graph(0)
    model = GSNN(edges, names, (1, 2, 3, 1, 2, 3), 4)
    assert (model.N, model.I, model.O, model.L, model.norm) == (6, 3, 3, 4, "layer")
    assert model.E == len(kit.homogeneous(edges, names))
    assert (model.function_nodes, model.input_nodes, model.output_nodes) == tuple(
        names[k] for k in ("function", "input", "output")
    )
    assert model.channel_node.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5]
    assert model.edge_index.T.tolist() == [list(pair) for pair in kit.homogeneous(edges, names)]
    assert model.tap_layout == "channels_batch"
    assert len(model.blocks) == 4
    for kind, index in model.edge_index_dict.items():
        assert torch.equal(index, edges[kind])
    assert model.function_edges == [(f"f{s}", f"f{t}") for s, t in edges[kit.FF].T.tolist()]
    copies = GSNN(edges, names, 2, 1, edge_channels=3)
    assert copies.E == model.E + 2 * edges[kit.FF].shape[1]
    assert torch.equal(copies.edge_index_dict[kit.FF], edges[kit.FF])


def test_arguments_are_neither_changed_nor_kept(kit):
    edges, names = kit.random_graph(0)
    weights = {kit.FF: torch.ones(edges[kit.FF].shape[1])}
    before = copy.deepcopy((edges, names, weights))
    model = GSNN(edges, names, 2, 2, edge_channels=2, node_attn=True, edge_weight_dict=weights)
    model(torch.zeros(2, 3)).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(edges.values(), before[0].values(), strict=True))
    assert names == before[1]
    assert torch.equal(weights[kit.FF], before[2][kit.FF])
    wanted = model(torch.ones(2, 3))
    for tensor in (*edges.values(), *weights.values()):
        tensor.zero_()
    names["input"].clear()
    assert torch.equal(model(torch.ones(2, 3)), wanted)


def test_a_type_that_is_absent_has_no_edges(kit):
    edges, names = kit.random_graph(0, empty=[kit.FF])
    given = GSNN(edges, names, 2, 2, init="zeros")
    del edges[kit.FF]
    assert torch.equal(GSNN(edges, names, 2, 2, init="zeros").edge_index, given.edge_index)


def test_from_graph_takes_names_edges_and_weights(kit):
    edges, names = kit.random_graph(0)

    class Like:
        edge_index_dict, node_names_dict = edges, names
        edge_weight_dict = {kit.FF: torch.ones(edges[kit.FF].shape[1])}  # noqa: RUF012

    model = GSNN.from_graph(Like(), 3, 2, norm="none", node_attn=True)
    assert model.edge_weight is not None
    assert model.norm == "none"
    with pytest.raises(TypeError, match="edge_index_dict"):
        GSNN.from_graph(object(), 3, 2)


@pytest.mark.filterwarnings("ignore")
def test_from_a_graph_of_pyg(kit):
    data = pytest.importorskip("torch_geometric.data").HeteroData()
    edges, names = kit.random_graph(0)
    with pytest.raises(TypeError, match="must have edge_index_dict, got HeteroData"):
        GSNN.from_graph(data, 3, 2)
    for kind, index in edges.items():
        data[kind].edge_index = index
    data.node_names_dict = names
    assert torch.equal(GSNN.from_graph(data, 3, 2).edge_index, GSNN(edges, names, 3, 2).edge_index)


def test_initialisers_follow_the_fans_of_each_nonzero(kit):
    edges, names = kit.random_graph(0, n=5)
    pairs = kit.homogeneous(edges, names)
    into, out = ([sum(p[side] == k for p in pairs) for k in range(5)] for side in (1, 0))
    counts = [2, 3, 2, 2, 3]
    model = GSNN(edges, names, counts, 1, init="degree_normalized")
    for lin, side in ((model.blocks[0].lin_in, 1), (model.blocks[0].lin_out, 0)):
        bounds = []
        for e, _ in kit.nonzeros(pairs, counts, side):
            node = pairs[e][side]
            bounds.append((counts[node] * (into if side else out)[node]) ** -0.5)
        ratio = lin.weight.detach().abs() / torch.tensor(bounds)
        assert ratio.max() <= 1.0 + 1e-6
        assert ratio.max() > 0.8
        assert not lin.bias.any()


@pytest.mark.parametrize(
    ("name", "bound", "deviation"),
    [
        ("degree_normalized", (4 * 9) ** -0.5, (4 * 9 * 3) ** -0.5),
        ("xavier_uniform", (6 / 13) ** 0.5, (2 / 13) ** 0.5),
        ("xavier_normal", None, (2 / 13) ** 0.5),
        ("kaiming_uniform", (3 / 4) ** 0.5, 0.5),
        ("kaiming_normal", None, 0.5),
        ("uniform", 1.0, 3**-0.5),
        ("normal", None, 1.0),
        ("zeros", 0.0, 0.0),
    ],
)
def test_initialiser_distributions(name, bound, deviation):
    torch.manual_seed(0)
    draws = torch.rand(20000, dtype=torch.float64)
    w = initial_weights(name, draws, initial_scale(name, torch.full((20000,), 4), torch.full((20000,), 9)))
    assert w.std().item() == pytest.approx(deviation, rel=0.03)
    assert w.mean().item() == pytest.approx(0.0, abs=0.03)
    if bound is not None:
        assert w.abs().max() <= bound
        assert w.abs().max() >= 0.99 * bound
    assert name in INITIALISERS


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_changes_nothing_but_memory(kit, norm, dropout):
    edges, names = kit.random_graph(1)
    plain = kit.shake(GSNN(edges, names, 3, 3, norm=norm, dropout=dropout).double())
    saving = GSNN(edges, names, 3, 3, norm=norm, dropout=dropout, checkpoint=True).double()
    saving.load_state_dict(plain.state_dict())
    assert saving.recomputes
    x = torch.randn(4, 3, dtype=torch.float64)
    for model in (plain, saving):
        torch.manual_seed(7)
        # Two forward passes before one backward: the second moves the running statistics on.
        first = model(x).square().sum()
        (first + model(2 * x).square().sum()).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda m, n=name: f"{n}: {m}")
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(saving.state_dict()[key], value, msg=lambda m, n=key: f"{n}: {m}")


def test_checkpointing_recomputes_in_training_only(kit):
    model = GSNN(*kit.random_graph(1), 3, 2, checkpoint=True)
    calls = []
    model.blocks[0].pre_tap.register_forward_hook(lambda *_: calls.append(1))
    model(torch.ones(2, 3)).sum().backward()
    assert len(calls) == 2
    model.eval()
    model(torch.ones(2, 3)).sum().backward()
    assert len(calls) == 3
    assert not model.recomputes


def test_dropout_is_on_channels_and_off_in_eval_mode(kit):
    model = GSNN(*kit.random_graph(1), 3, 1, dropout=0.5, norm="none")
    seen = []
    model.forward_with_taps(torch.ones(200, 3), post=lambda _, h: seen.append(h))
    reached = model.eval().get_node_activations(torch.ones(1, 3))["f1"]
    assert reached.abs().min() > 0
    rows = seen[0][model.channel_node == 1]
    assert 0.4 < (rows == 0).float().mean() < 0.6
    assert torch.equal(model(torch.ones(2, 3)), model(torch.ones(2, 3)))


class TestTaps:
    @pytest.fixture
    def model(self, kit):
        torch.manual_seed(0)
        return GSNN(*kit.random_graph(1), 3, 3).double()

    def test_forward_is_the_same_with_taps_that_only_look(self, model):
        x, seen = torch.randn(4, 3, dtype=torch.float64), {"pre": [], "post": []}
        out = model.forward_with_taps(
            x, pre=lambda k, z: seen["pre"].append((k, z)), post=lambda k, h: seen["post"].append((k, h))
        )
        assert torch.equal(out, model(x))
        for kind in seen.values():
            assert [k for k, _ in kind] == [0, 1, 2]
            assert all(t.shape == (18, 4) for _, t in kind)

    def test_what_a_tap_returns_is_used(self, model):
        x, held = torch.randn(4, 3, dtype=torch.float64), {}

        def leaf(k, z):
            held[k] = z.detach().requires_grad_()
            return held[k]

        out = model.forward_with_taps(x, pre=leaf)
        assert torch.equal(out, model(x))
        (grad,) = torch.autograd.grad(out.sum(), held[2])
        assert grad.abs().sum() > 0
        zeroed = model.forward_with_taps(x, post=lambda k, h: torch.zeros_like(h))
        assert not torch.equal(zeroed, out)

    def test_hooks_on_the_tap_modules_see_the_tensor_that_is_used(self, model):
        x, hooked, called = torch.randn(4, 3, dtype=torch.float64), [], []
        handle = model.blocks[1].pre_tap.register_forward_hook(lambda m, i, z: hooked.append(z))
        model.forward_with_taps(x, pre=lambda k, z: called.append(z + 1) or called[-1])
        handle.remove()
        assert hooked[0] is called[1]

    def test_detached_parameters_leave_the_other_gradients(self, model):
        x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        (want,) = torch.autograd.grad(model(x).sum(), x)
        out = model.forward_with_taps(x, detach_parameters=True).sum()
        weight = model.blocks[0].lin_in.weight
        got, none = torch.autograd.grad(out, [x, weight], allow_unused=True)
        torch.testing.assert_close(got, want)
        assert none is None

    def test_masks_reach_the_same_code(self, model):
        x, mask = torch.randn(4, 3, dtype=torch.float64), torch.rand(model.E, dtype=torch.float64)
        assert torch.equal(model.forward_with_taps(x, edge_mask=mask), model(x, edge_mask=mask))


def test_activations_of_each_node(kit):
    edges, names = kit.random_graph(1)
    model = GSNN(edges, names, 3, 3).double()
    x, post = torch.randn(4, 3, dtype=torch.float64), []
    model.eval().forward_with_taps(x, post=lambda _, h: post.append(h.t().reshape(4, 6, 3)))
    model.train()
    stack = torch.stack(post)
    wanted = {"sum": stack.sum(0), "mean": stack.mean(0), "max": stack.amax(0), "last": stack[-1]}
    for agg, value in wanted.items():
        got = model.get_node_activations(x, agg)
        assert list(got) == names["function"]
        for k, name in enumerate(names["function"]):
            torch.testing.assert_close(got[name], value[:, k])
    everything = model.get_node_activations(x, "all")["f2"]
    torch.testing.assert_close(everything, torch.cat([p[:, 2] for p in post], 1))
    assert model.training
    with pytest.raises(ValueError, match="'sum', 'mean', 'max', 'last', 'all'"):
        model.get_node_activations(x, "median")
    ragged = GSNN(edges, names, (1, 2, 3, 1, 2, 3), 2)
    assert [v.shape for v in ragged.get_node_activations(x.float(), "all").values()] == [
        (4, 2 * c) for c in (1, 2, 3, 1, 2, 3)
    ]


def test_getters_do_not_touch_running_statistics(kit):
    model = GSNN(*kit.random_graph(1), 3, 2, norm="groupbatch", dropout=0.5)
    model.blocks[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.get_node_activations(torch.randn(4, 3))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.blocks[0].norm.training
    assert not model.blocks[1].norm.training


def test_attention_logits(kit):
    edges, names = kit.random_graph(1)
    model = GSNN(edges, names, 3, 2, node_attn=True)
    logits = model.get_node_attention(torch.randn(4, 3))
    assert list(logits) == names["function"]
    assert all(v.shape == (2, 4) for v in logits.values())
    with pytest.raises(RuntimeError, match="node_attn=True"):
        GSNN(edges, names, 3, 2).get_node_attention(torch.randn(4, 3))


@pytest.mark.parametrize("share", [True, False])
def test_pruned_weights_stay_zero_in_training(kit, share):
    model = kit.shake(GSNN(*kit.random_graph(1), 3, 3, share_layers=share))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)

    def step():
        optimiser.zero_grad()
        model(torch.randn(8, 3)).square().sum().backward()
        optimiser.step()

    step()  # from here on the optimiser has momentum
    keys = {k: v.shape for k, v in model.state_dict().items()}
    small = {
        name: torch.stack([getattr(b, name).weight.detach().abs() for b in model.blocks]).amax(0) < 0.4
        for name in ("lin_in", "lin_out")
    }
    count = sum(int(s.sum()) for s in small.values())
    assert 0 < count < sum(s.numel() for s in small.values())
    assert model.prune(0.4) == count
    assert model.prune(0.4) == 0
    for _ in range(3):
        step()
        for name, dropped in small.items():
            for k in range(3):
                weight = model.state_dict()[f"blocks.{k}.{name}.weight"]
                assert not weight[dropped].any()
                assert weight[~dropped].all()
    masks = {f"blocks.{k}.{name}.kept": small[name].shape for k in range(3) for name in small}
    assert {k: v.shape for k, v in model.state_dict().items()} == keys | masks
    twin = copy.deepcopy(model)
    assert twin.prune(0.0) == 0
    assert torch.equal(twin(torch.ones(1, 3)), model(torch.ones(1, 3)))
    assert "pruned" in model.summary()
    everything = sum(getattr(model.blocks[0], name).weight.numel() for name in ("lin_in", "lin_out"))
    assert model.prune(1e9) == everything - count
    assert GSNN(*kit.random_graph(1), 3, 3).prune(0.0) == 0


def train_steps(model, n=3):
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        optimiser.zero_grad()
        model(torch.randn(8, 3, generator=generator)).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("norm", ["none", "groupbatch"])
def test_pruning_survives_a_state_dict(kit, share, norm, tmp_path):
    def fresh(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return kit.shake(GSNN(*kit.random_graph(1), 3, 3, share_layers=share, norm=norm))

    x = torch.linspace(-1, 1, 12).view(4, 3)
    model = fresh(0)
    train_steps(model)
    whole = copy.deepcopy(model.state_dict())
    assert not any(key.endswith("kept") for key in whole)
    model.prune(0.4)
    train_steps(model)
    dropped = [~block.lin_in.kept for block in model.blocks]
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)

    def check(twin):
        assert torch.equal(twin.eval()(x), model.eval()(x))
        for trained in (model.train(), twin.train()):
            train_steps(trained)
        assert torch.equal(twin.eval()(x), model.eval()(x))
        for block, gone in zip(twin.blocks, dropped, strict=True):
            assert gone.any()
            assert not block.lin_in.coefficients()[0][gone].any()
        model.load_state_dict(state)

    for assign in (False, True):
        twin = fresh(1)
        twin.load_state_dict(copy.deepcopy(state), assign=assign)
        check(twin)
    # Another pruning gives way to that of the state dict, and all of it to one from before.
    twin = fresh(1)
    twin.prune(0.8)
    twin.load_state_dict(state)
    check(twin)
    twin.load_state_dict(whole)
    plain = fresh(2)
    plain.load_state_dict(whole)
    assert all(block.lin_in.kept is None for block in twin.blocks)
    assert torch.equal(twin.eval()(x), plain.eval()(x))
    # State dicts of earlier versions hold the zeros alone: what is pruned stays so.
    old = {key: value for key, value in state.items() if not key.endswith("kept")}
    twin = fresh(1)
    twin.load_state_dict(state)
    twin.load_state_dict(old)
    check(twin)
    # Strict loading still says what is missing.
    with pytest.raises(RuntimeError, match=r"blocks\.0\.lin_in\.kept"):
        twin.load_state_dict({**state, "blocks.0.lin_in.kept": torch.ones(1, dtype=torch.bool)})
    del old["blocks.0.lin_in.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*blocks\.0\.lin_in\.weight"):
        twin.load_state_dict(old)


def test_prune_takes_the_largest_value_over_the_layers(kit):
    model = GSNN(*kit.random_graph(1), 2, 2, share_layers=False, init="uniform")
    with torch.no_grad():
        for block, value in zip(model.blocks, (0.1, -0.9), strict=True):
            block.lin_in.weight[0] = value
            block.lin_in.weight[1] = 0.01
    kept = model.blocks[0].lin_in.weight[0].item()
    model.prune(0.05)
    assert model.blocks[0].lin_in.weight[0].item() == kept
    assert [b.lin_in.weight[1].item() for b in model.blocks] == [0.0, 0.0]


def test_summary_and_repr_can_be_read(kit):
    model = GSNN(*kit.random_graph(1), 3, 3, node_mlp=True, node_attn=True, edge_channels=2)
    text = model.summary()
    total = sum(p.numel() for p in model.parameters())
    for part in ("inputs", "functions", "self", "2 copies", "norm", "lin_in", "node_attn", f"{total:,}"):
        assert part in text
    assert max(len(line) for line in text.splitlines()) < 80
    assert "\n" not in repr(model)
    assert f"parameters={total}" in repr(model)
    parts = [int(line.split()[-1].replace(",", "")) for line in text.split("parameters")[1].splitlines()[1:]]
    assert sum(parts) == total


def test_one_layer_and_one_node(kit):
    names = kit.names(1, 1, 1)
    edges = {kit.IF: torch.tensor([[0], [0]]), kit.FO: torch.tensor([[0], [0]])}
    model = GSNN(edges, names, 1, 1)
    model(torch.ones(1, 1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model(torch.ones(0, 1)).shape == (0, 1)


def test_nonlinearities_with_parameters_or_arguments(kit):
    for nonlin in (torch.nn.ReLU, torch.nn.PReLU, partial(torch.nn.ELU, alpha=0.5), torch.nn.SiLU):
        model = GSNN(*kit.random_graph(1), 3, 2, nonlin=nonlin)
        model(torch.ones(2, 3)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_channels_may_come_as_an_array(kit):
    model = GSNN(*kit.random_graph(1), torch.tensor([1, 2, 3, 1, 2, 3]).numpy(), 2)
    assert model.channels == (1, 2, 3, 1, 2, 3)
    assert GSNN(*kit.random_graph(1), torch.full((6,), 4), 2).channels == 4


def test_no_tensor_has_a_row_for_each_weight_and_sample(kit):
    """Gathering an edge's value for each of its channels costs B x nonzeros; the state is B x (edges or channels).

    The tap looks in between, or the kernels would hold all states in one tensor.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else [out]:
                if isinstance(value, torch.Tensor) and value.layout == torch.strided:
                    self.numel = max(self.numel, value.numel())
            return out

    for n, batch in ((20, 8), (80, 8), (80, 32)):
        model = GSNN(*kit.random_graph(1, n=n), 16, 2)
        with Largest() as mode:
            model.forward_with_taps(torch.ones(batch, 3), pre=lambda layer, z: None).sum().backward()
        assert mode.numel < 0.8 * batch * model.blocks[0].lin_in.weight.numel()
