"""Checkpoints of the research code, built here from the description of their keys, read and compared."""

from __future__ import annotations

import pytest
import torch

from gsnn.nn import GSNN, NORMS


def checkpoint(
    kit,
    graph,
    channels,
    layers,
    p,
    *,
    norm,
    share,
    order=None,
    optional=True,
    bias=True,
    residual=True,
    copies=1,
    shuffle=None,
):
    """Entries as the research code writes them, from the oracle's parameters ``p``.

    ``order`` lists our edges in the order of the file; ``shuffle`` is a generator that mixes nonzeros and keys.
    """
    edges, names = graph
    pairs = kit.homogeneous(edges, names, copies=copies)
    n, i, o = (len(names[k]) for k in ("function", "input", "output"))
    order = list(range(len(pairs))) if order is None else order
    place = {ours: theirs for theirs, ours in enumerate(order)}
    counts = [channels] * n if isinstance(channels, int) else list(channels)
    out = {}
    for layer in range(layers):
        lin = "blocks.0." if share else f"blocks.{layer}."
        for name, side in (("lin_in", 1), ("lin_out", 0)):
            where = [(place[e], c) for e, c in kit.nonzeros(pairs, counts, side)]
            values = p[f"{lin}{name}.weight"]
            mix = torch.arange(len(where)) if shuffle is None else torch.randperm(len(where), generator=shuffle)
            index = torch.tensor(where).T.reshape(2, -1)[:, mix]
            out[f"ResBlocks.{layer}.{name}.values"] = values[mix]
            out[f"ResBlocks.{layer}.{name}.indices"] = index if name == "lin_in" else index.flip(0)
            if bias:
                b = p[f"{lin}{name}.bias"]
                out[f"ResBlocks.{layer}.{name}.bias"] = (b if name == "lin_in" else b[order])[:, None]
        for key, value in p.items():
            head = f"blocks.{layer}."
            if key.startswith(head) and not key.startswith((head + "lin_in", head + "lin_out")):
                rest = key.removeprefix(head)
                if rest.startswith("edge_norm"):
                    rest, value = "_" + rest, value[order] if value.ndim else value
                out[f"ResBlocks.{layer}.{rest}"] = value
    if optional:
        index = torch.tensor(pairs).T[:, order]
        node, (s, t) = torch.arange(n + i + o), index
        out |= {
            "edge_index": index,
            "input_node_mask": (node >= n) & (node < n + i),
            "output_node_mask": node >= n + i,
            "function_edge_mask": (s < n) & (t < n),
            "input_edge_mask": (s >= n) & (s < n + i),
            "output_edge_mask": t >= n + i,
            "ResBlocks.0.norm.channel_groups": torch.repeat_interleave(torch.arange(n), torch.tensor(counts)),
            "ResBlocks.0.norm.n_channels": torch.tensor(counts),
        }
    if shuffle is not None:
        keys = list(out)
        out = {keys[k]: out[keys[k]] for k in torch.randperm(len(keys), generator=shuffle).tolist()}
    return {key: value.detach().clone() for key, value in out.items()}


def written(kit, graph, *, norm="layer", share=True, seed=0, **options):
    """A model with random weights and its parameters."""
    model = GSNN(*graph, norm=norm, share_layers=share, **{"channels": 3, "layers": 3, **options})
    kit.shake(model, seed)
    return model, {k: v.clone() for k, v in model.state_dict().items()}


X = torch.linspace(-1, 1, 12).view(4, 3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", [True, False])
def test_same_weights_give_the_same_output(kit, norm, share):
    graph = kit.random_graph(1)
    source, p = written(kit, graph, norm=norm, share=share)
    g = torch.Generator().manual_seed(0)
    order = torch.randperm(source.E, generator=g).tolist()
    state = checkpoint(kit, graph, 3, 3, p, norm=norm, share=share, order=order, shuffle=g)
    model = GSNN(*graph, 3, 3, norm=norm, share_layers=share)
    model.load_research_state_dict(state)
    oracle = kit.Oracle(*graph, 3, 3, norm=norm, share_layers=share, training=False)
    want, edge_state = oracle(X.double(), {k: v.double() for k, v in p.items()})
    torch.testing.assert_close(model.eval()(X).double(), want, rtol=1e-5, atol=1e-5)
    # Parallel edges are interchangeable pairwise; everything else stands where it stood.
    torch.testing.assert_close(model(X, ret_edge_out=True).double().sum(1), edge_state.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": False},
        {"residual": False},
        {"channels": (1, 2, 3, 1, 2, 3)},
        {"norm": "batch", "layers": 1},
    ],
)
def test_options(kit, options):
    graph = kit.random_graph(2)
    source, p = written(kit, graph, **options)
    full = {"norm": "layer", "channels": 3, "layers": 3, **options}
    names = {k: full[k] for k in ("bias", "residual") if k in full}
    state = checkpoint(kit, graph, full["channels"], full["layers"], p, norm=full["norm"], share=True, **names)
    if not full.get("residual", True):
        state |= {f"ResBlocks.{k}.residual_weight": torch.tensor(1.0) for k in range(3)}
    model, _ = written(kit, graph, seed=1, **options)
    model.load_research_state_dict(state)
    assert torch.equal(model.eval()(X), source.eval()(X))


def test_hidden_widths_are_read_from_the_shapes(kit):
    graph = kit.random_graph(3)
    source, p = written(kit, graph, node_mlp=True, node_attn=True, node_mlp_hidden=7, node_attn_hidden=5)
    state = checkpoint(kit, graph, 3, 3, p, norm="layer", share=True)
    model, _ = written(kit, graph, seed=1, node_mlp=True, node_attn=True)
    before = torch.get_rng_state()
    model.load_research_state_dict(state)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model(X), source(X))
    assert (model.options["node_mlp_hidden"], model.options["node_attn_hidden"]) == (7, 5)
    state["ResBlocks.1.mlp.mlp.0.weight"] = torch.zeros(9, 3)
    with pytest.raises(ValueError, match=r"wrong shape: ResBlocks.1.mlp.mlp.0.weight \(9, 3\) \(expected \(7, 3\)\)"):
        model.load_research_state_dict(state)


def test_without_optional_entries_edges_are_taken_by_position(kit):
    graph = kit.random_graph(1)
    source, p = written(kit, graph, norm="batch")
    state = checkpoint(kit, graph, 3, 3, p, norm="batch", share=True, optional=False)
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    model, _ = written(kit, graph, norm="batch", seed=1)
    model.load_research_state_dict(state)
    assert torch.equal(model.eval()(X), source.eval()(X))


@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("optional", [True, False])
def test_copies_of_an_edge_may_stand_together_or_apart(kit, tiled, optional):
    graph = kit.random_graph(4)
    source, p = written(kit, graph, edge_channels=2)
    n = graph[0][kit.FF].shape[1]
    order = list(range(source.E))
    if tiled:
        order[: 2 * n] = [2 * k for k in range(n)] + [2 * k + 1 for k in range(n)]
    state = checkpoint(kit, graph, 3, 3, p, norm="layer", share=True, copies=2, order=order, optional=optional)
    model, _ = written(kit, graph, edge_channels=2, seed=1)
    model.load_research_state_dict(state)
    torch.testing.assert_close(model(X), source(X))


def test_parallel_edges_meet_by_occurrence(kit):
    """With position unknown, the k-th of several parallel edges in the file is our k-th."""
    graph = kit.random_graph(1)
    _, p = written(kit, graph)
    state = checkpoint(kit, graph, 3, 3, p, norm="layer", share=True)
    model, _ = written(kit, graph, seed=1)
    model.load_research_state_dict(state)
    assert all(torch.equal(v, p[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("ResBlocks.1.lin_in.values"), "missing: ResBlocks.1.lin_in.values"),
        (lambda s: s.pop("ResBlocks.0.lin_out.indices"), "missing: ResBlocks.0.lin_out.indices"),
        (lambda s: s.pop("ResBlocks.2.norm.gamma"), "missing: ResBlocks.2.norm.gamma"),
        (lambda s: s.pop("ResBlocks.2.residual_weight"), "missing: ResBlocks.2.residual_weight"),
        (lambda s: s.update(other=torch.ones(1)), "unexpected: other"),
        (lambda s: s.update({"ResBlocks.3.lin_in.values": torch.ones(1)}), "unexpected: ResBlocks.3.lin_in.values"),
        (
            lambda s: s.update({"ResBlocks.0.norm.gamma": torch.ones(5)}),
            r"wrong shape: ResBlocks.0.norm.gamma \(5,\) \(expected \(6,\)\)",
        ),
        (lambda s: s.update({"ResBlocks.0.lin_in.values": torch.ones(5)}), r"wrong shape: .*lin_in.values \(5,\)"),
        (
            lambda s: s.update({"ResBlocks.0.lin_out.indices": torch.ones(2, 5)}),
            r"wrong shape: ResBlocks.0.lin_out.indices \(2, 5\)",
        ),
        (lambda s: s.update({"ResBlocks.0.lin_in.bias": torch.ones(5, 1)}), r"wrong shape: .*lin_in.bias \(5, 1\)"),
        (lambda s: s.update(edge_index=s["edge_index"][:, 1:]), "wrong shape: edge_index"),
        (lambda s: s["edge_index"].copy_(s["edge_index"].flip(0)), "does not match this model: edge_index"),
        (lambda s: s["ResBlocks.0.lin_in.indices"][0].sub_(1), "does not match this model: ResBlocks.0.lin_in.indices"),
        (lambda s: s["ResBlocks.0.lin_in.indices"][1].fill_(0), "does not match this model"),
        (lambda s: s["input_node_mask"].logical_not_(), "does not match this model: input_node_mask"),
        (lambda s: s.update(output_edge_mask=torch.ones(2).bool()), "wrong shape: output_edge_mask"),
        (lambda s: s["ResBlocks.0.norm.channel_groups"].fill_(0), "channel_groups"),
        (lambda s: s["ResBlocks.0.norm.n_channels"].add_(1), "n_channels"),
        (
            lambda s: s.update({"ResBlocks.1.lin_in.values": s["ResBlocks.1.lin_in.values"] + 1}),
            r"ResBlocks.1.lin_in.values \(differs from block 0, but share_layers=True\)",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(kit, change, words):
    graph = kit.random_graph(1)
    _, p = written(kit, graph)
    state = checkpoint(kit, graph, 3, 3, p, norm="layer", share=True)
    change(state)
    model, before = written(kit, graph, seed=1)
    with pytest.raises(ValueError, match=words):
        model.load_research_state_dict(state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_everything_wrong_is_said_at_once(kit):
    graph = kit.random_graph(1)
    _, p = written(kit, graph)
    state = checkpoint(kit, graph, 3, 3, p, norm="layer", share=True)
    del state["ResBlocks.0.norm.beta"]
    state["surplus"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"missing: ResBlocks\.0\.norm\.beta; unexpected: surplus"):
        written(kit, graph)[0].load_research_state_dict(state)
