from __future__ import annotations

import copy
import io
import json
import pickle
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.nn import GSNN, NORMS, load_model, save_model
from gsnn.nn.files import read_metadata

GOLDEN = Path(__file__).parent / "golden" / "state_dict.json"
GOLDEN_OPTIONS = {
    **{f"norm={norm}": {"norm": norm} for norm in NORMS},
    "own layers": {"share_layers": False},
    "no bias, no residual": {"bias": False, "residual": False},
    "node modules": {"node_mlp": True, "node_attn": True},
    "edge copies, no self-edges": {"edge_channels": 2, "add_function_self_edges": False},
    "channels per node": {"channels": (1, 2, 3)},
}


def golden_model(options):
    names = {"function": ["f", "g", "h"], "input": ["x"], "output": ["y"]}
    edges = {
        ("function", "to", "function"): torch.tensor([[0, 1, 0], [1, 2, 1]]),
        ("input", "to", "function"): torch.tensor([[0], [0]]),
        ("function", "to", "output"): torch.tensor([[2], [0]]),
    }
    return GSNN(edges, names, **{"channels": 2, "layers": 2, **options})


def test_keys_and_shapes_of_the_state_dict_are_those_of_the_golden_file():
    """Files of older versions must stay readable: change the golden file only together with a conversion."""
    now = {
        label: {key: list(value.shape) for key, value in golden_model(options).state_dict().items()}
        for label, options in GOLDEN_OPTIONS.items()
    }
    assert now == json.loads(GOLDEN.read_text())


def test_order_of_the_weights_is_edge_major_channel_minor():
    """What the golden file cannot say: which number belongs to which edge and channel."""
    model = golden_model({"norm": "none", "bias": False, "residual": False, "layers": 1, "nonlin": torch.nn.Identity})
    state = model.state_dict()
    # Edges: fg gh fg | xf | hy | ff gg hh. Into functions: all but hy. Out of functions: all but xf.
    state["blocks.0.lin_in.weight"].copy_(torch.arange(14.0))
    state["blocks.0.lin_out.weight"].copy_(torch.arange(14.0) * 10)
    start = torch.zeros(1, 8)
    start[0, 3], start[0, 0] = 1.0, 2.0
    out = model(torch.zeros(1, 1), e0=start, ret_edge_out=True)[0]
    # f holds (6, 7) from xf; g holds 2 * (0, 1) from the first fg; h nothing.
    f, g = torch.tensor([6.0, 7.0]), torch.tensor([0.0, 2.0])
    w = torch.arange(14.0).view(7, 2) * 10
    wanted = torch.stack(
        [f @ w[0], g @ w[1], f @ w[2], f.new_zeros(()), f.new_zeros(()), f @ w[4], g @ w[5], f.new_zeros(())]
    )
    torch.testing.assert_close(out, wanted)


@pytest.fixture
def model(kit):
    torch.manual_seed(0)
    return kit.shake(GSNN(*kit.random_graph(1), 3, 2, norm="groupbatch"))


X = torch.linspace(-1, 1, 12).view(4, 3)


def edge_weights(model):
    return {kind: torch.arange(1.0, index.shape[1] + 1) for kind, index in model.edge_index_dict.items()}


def check_twin(twin, model):
    assert torch.equal(twin.eval()(X), model.eval()(X))
    assert [p is q for p, q in zip(twin.parameters(), model.parameters(), strict=True)] == [False] * len(
        list(model.parameters())
    )
    twin.train()(X).sum().backward()
    assert twin.blocks[0].lin_in is twin.blocks[1].lin_in


def test_copies(model):
    check_twin(copy.deepcopy(model), model)
    check_twin(pickle.loads(pickle.dumps(model)), model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    check_twin(torch.load(buffer, weights_only=False), model)


def test_state_dict_through_torch_save(model, kit):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    twin = GSNN(*kit.random_graph(1), 3, 2, norm="groupbatch")
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    check_twin(twin, model)


class TestFile:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"share_layers": False, "channels": (1, 2, 3, 1, 2, 3), "layers": 3},
            {"edge_channels": 2, "node_attn": True, "node_mlp": True, "node_mlp_hidden": 5, "node_attn_hidden": 4},
            {"nonlin": torch.nn.SiLU, "dropout": 0.1, "bias": False, "add_function_self_edges": False},
            {"norm": "channelema", "init": "zeros", "residual": False, "norm_first": False},
        ],
    )
    def test_round_trip(self, kit, tmp_path, options):
        edges, names = kit.random_graph(2)
        weights = {kit.FF: torch.rand(edges[kit.FF].shape[1])} if options.get("node_attn") else None
        model = kit.shake(GSNN(edges, names, **{"channels": 3, "layers": 2, **options}, edge_weight_dict=weights))
        before = torch.get_rng_state()
        save_model(model.eval(), tmp_path / "m.safetensors", {"note": "α"})
        twin = load_model(tmp_path / "m.safetensors")
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(twin(X), model(X))
        assert twin.config(edges=True) == model.config(edges=True)
        assert list(twin.state_dict()) == list(model.state_dict())
        assert not twin.training
        assert read_metadata(tmp_path / "m.safetensors") == {"note": "α"}
        assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
        if options.get("share_layers", True):
            assert twin.blocks[0].lin_in is twin.blocks[1].lin_in

    def test_double_precision_pruning_and_mode_survive(self, model, tmp_path):
        model.double().train().prune(0.3)
        save_model(model, tmp_path / "m")
        twin = load_model(tmp_path / "m")
        assert twin.dtype == torch.float64
        assert twin.training
        assert twin.prune(0.3) == 0
        assert torch.equal(twin.blocks[0].lin_in.kept, model.blocks[0].lin_in.kept)
        assert torch.equal(twin.eval()(X.double()), model.eval()(X.double()))

    def test_custom_nonlinearity_must_be_passed_again(self, kit, tmp_path):
        nonlin = partial(torch.nn.ELU, alpha=0.3)
        model = GSNN(*kit.random_graph(1), 3, 2, nonlin=nonlin)
        save_model(model, tmp_path / "m")
        with pytest.raises(DataError, match=r"load_model\(path, nonlin=...\)"):
            load_model(tmp_path / "m")
        assert torch.equal(load_model(tmp_path / "m", nonlin=nonlin)(X), model(X))

    def test_bad_files_are_told_apart(self, model, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / "m"
        with pytest.raises(DataError, match="no model file"):
            load_model(path)
        path.write_bytes(b"not a model at all")
        with pytest.raises(DataError, match="not a whole safetensors file"):
            load_model(path)
        save_file({"a": torch.ones(1)}, path)
        with pytest.raises(DataError, match="not a gsnn model"):
            load_model(path)
        save_model(model, path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        with pytest.raises(DataError, match="not a whole safetensors file"):
            load_model(path)
        path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
        with pytest.raises(DataError, match="format 9"):
            load_model(path)
        path.write_bytes(whole.replace(b"state.blocks.0.lin_in.bias", b"state.blocks.0.lin_in.bios"))
        with pytest.raises(DataError, match=r"not a model.*lin_in\.bi"):
            load_model(path)
        path.write_bytes(whole.replace(b'groupbatch\\"', b'groupbotch\\"'))
        with pytest.raises(DataError, match="groupbotch"):
            load_model(path)

    def test_a_failed_save_leaves_the_old_file(self, model, tmp_path, monkeypatch):
        import safetensors.torch

        save_model(model, tmp_path / "m")
        old = (tmp_path / "m").read_bytes()
        monkeypatch.setattr(safetensors.torch, "save_file", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_model(model, tmp_path / "m")
        assert (tmp_path / "m").read_bytes() == old
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(ValueError, match="reserved name 'gsnn'"):
            save_model(model, tmp_path / "m", {"gsnn": "1"})
        with pytest.raises(TypeError, match="must be a GSNN, got Linear"):
            save_model(torch.nn.Linear(1, 1), tmp_path / "m")

    def test_config_is_json_and_rebuilds_the_model(self, model):
        config = json.loads(json.dumps(model.config(edges=True)))
        twin = GSNN.from_config(config)
        twin.load_state_dict(model.state_dict())
        check_twin(twin, model)
        with pytest.raises(DataError, match="holds no edges"):
            GSNN.from_config(model.config())
        weighted = GSNN(model.edge_index_dict, model.node_names_dict, 3, 2, edge_weight_dict=edge_weights(model))
        again = GSNN.from_config(json.loads(json.dumps(weighted.config(edges=True))))
        assert torch.equal(again.edge_weight, weighted.edge_weight)
        del config["nonlin"]
        with pytest.raises(DataError, match="lacks 'nonlin'"):
            GSNN.from_config(config)


def test_a_model_built_and_run_under_inference_mode_trains_afterwards(kit):
    edges, names = kit.random_graph(1)
    for norm in ("layer", "groupbatch", "ema", "batch"):
        with torch.inference_mode():
            given = {k: v.clone() for k, v in edges.items()}
            model = GSNN(given, names, 3, 2, norm=norm, node_attn=True, edge_weight_dict={kit.FF: torch.ones(17)})
            model(X)
        assert not any(t.is_inference() for t in [*model.parameters(), *model.buffers(), model.layout.edge_index])
        before = model.blocks[0].lin_in.weight.detach().clone()
        optimiser = torch.optim.Adam(model.parameters())
        model(X).square().sum().backward()
        optimiser.step()
        assert not torch.equal(model.blocks[0].lin_in.weight, before)


def test_the_default_device_is_respected(kit):
    graph = kit.random_graph(1)
    with torch.device("meta"):
        model = GSNN(*graph, 3, 2)
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize("options", [{}, {"norm": "groupbatch", "node_mlp": True, "node_attn": True}])
def test_autocast(kit, options):
    torch.manual_seed(0)
    model = GSNN(*kit.random_graph(1), 3, 2, **options)
    wanted = model(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(X)
        half = model(X.bfloat16())
    assert out.dtype == half.dtype == torch.float32
    torch.testing.assert_close(out, wanted, rtol=0.05, atol=0.05)
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if not options:
        # Only linear layers of the node modules are done in half precision; here there are none.
        assert torch.equal(out, wanted)


def test_double_precision_is_exact_in_the_output_degrees(kit):
    """A degree kept as a float32 root would spoil the seventh digit."""
    names = kit.names(3, 1, 1)
    edges = {kit.IF: torch.tensor([[0, 0, 0], [0, 1, 2]]), kit.FO: torch.tensor([[0, 1, 2], [0, 0, 0]])}
    model = GSNN(edges, names, 1, 1, norm="none", residual=False).double()
    x = torch.ones(2, 1, dtype=torch.float64)
    state = model(x, ret_edge_out=True)
    torch.testing.assert_close(model(x)[:, 0], state[:, 3:6].sum(1) / 3**0.5, rtol=1e-15, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "groupbatch", "checkpoint": True},
        {"checkpoint": True},
        {"norm": "ema", "node_attn": True},
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_as_one_graph(kit, options):
    torch._dynamo.reset()
    model = kit.shake(GSNN(*kit.random_graph(1), 3, 2, **options))
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for x in (X, X[:3]):
        model.zero_grad(), twin.zero_grad()
        a, b = model(x), compiled(x)
        torch.testing.assert_close(a, b)
        a.square().sum().backward(), b.square().sum().backward()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    bad = X.clone()
    bad[0, 1] = torch.nan
    with pytest.raises(ValueError, match="columns of 'in1'"):
        compiled(bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_by_the_default_backend(kit, tmp_path):
    torch._dynamo.reset()
    model = GSNN(*kit.random_graph(1), 3, 2)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    with torch.no_grad():  # gradients of compiled models are compared above
        torch.testing.assert_close(compiled(X), model(X))
    save_model(compiled, tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m")(X), model(X))


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(model, tmp_path):
    import torch.distributed as dist

    wanted = copy.deepcopy(model)
    wanted(X).sum().backward()
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        parallel(X).sum().backward()
    finally:
        dist.destroy_process_group()
    for p, q in zip(model.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    save_model(parallel, tmp_path / "m")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_that_can_be_differentiated_again_are_the_same_gradients(kit, norm, share):
    """With shared layers the input of a block depends on the block's own weights: no path may count twice."""
    model = kit.shake(GSNN(*kit.random_graph(1), 3, 3, norm=norm, share_layers=share).double()).eval()
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (X.double(),)).square().sum()

    model(X.double()).square().sum().backward()
    functional = torch.func.grad(loss)(parameters)
    again = torch.autograd.grad(loss(parameters), list(parameters.values()), create_graph=True)
    for found, (name, p) in zip(again, parameters.items(), strict=True):
        torch.testing.assert_close(found, p.grad, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(functional[name], p.grad, msg=lambda m, n=name: f"{n}: {m}")


def test_second_derivatives_of_the_weights(kit):
    for options in ({"norm": "none"}, {}, {"norm": "none", "residual": False, "bias": False}):
        model = kit.shake(GSNN(*kit.random_graph(1, n=4, i=3, o=2), 2, 2, **options).double())
        weights = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}

        def function(*values, model=model, names=tuple(weights)):
            return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (X[:2].double(),))

        assert torch.autograd.gradcheck(function, tuple(weights.values()), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, tuple(weights.values()), fast_mode=True)


def test_second_derivatives_of_the_whole_model(kit):
    for options in ({}, {"norm": "none"}, {"norm": "groupbatch", "share_layers": False}, {"node_mlp": True}):
        model = kit.shake(GSNN(*kit.random_graph(1), 2, 2, **options).double())
        x = X.double().requires_grad_()
        assert torch.autograd.gradgradcheck(model, (x,))


def test_nothing_is_printed_or_warned(kit, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GSNN(*kit.random_graph(1), 3, 2, verbose=True)(X).sum().backward()
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_gpu(kit, norm):
    model = kit.shake(GSNN(*kit.random_graph(1), 3, 2, norm=norm).double())
    twin = copy.deepcopy(model).cuda()
    a, b = model(X.double()), twin(X.double().cuda())
    torch.testing.assert_close(b.cpu(), a)
    a.square().sum().backward(), b.square().sum().backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad.cpu(), p.grad)
