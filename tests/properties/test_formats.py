"""Files: what is written comes back, whatever it is called."""

from __future__ import annotations

import csv
import json
import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gsnn.base.files import plain, write_json, write_text
from gsnn.data import fingerprint
from gsnn.io import read_edges, read_network, read_responses, write_edges
from gsnn.nn import GSNN, load_model, save_model
from gsnn.runs import Run
from gsnn.training import TrainConfig
from gsnn.training.checkpoint import SafetensorsCheckpointIO

from .strategies import dense_graphs, examples, names, printable, seeds, with_gaps

signed_edges = st.lists(
    st.tuples(printable, printable, st.sampled_from([-1, 0, 1])), min_size=1, max_size=6, unique_by=lambda e: e[:2]
)


def triples(network):
    edges = network.edges
    return sorted(zip(edges["source"], edges["target"], edges["sign"].tolist(), strict=True))


def write_table(path, edges):
    kind = path.suffix
    frame = pd.DataFrame(edges, columns=["source", "target", "sign"])
    if kind == ".parquet":
        frame.to_parquet(path)
    elif kind == ".graphml":
        G = nx.DiGraph()
        G.add_edges_from((a, b, {"sign": sign}) for a, b, sign in edges)
        nx.write_graphml_xml(G, path)
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, delimiter="," if kind == ".csv" else "\t").writerows([list(frame), *edges])


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".graphml"])
@examples()
@given(edges=signed_edges)
def test_network_files(tmp_path, kind, edges):
    write_table(tmp_path / f"n{kind}", edges)
    network = read_network(tmp_path / f"n{kind}", **({"name": "id"} if kind == ".graphml" else {}))
    assert triples(network) == sorted(edges)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".graphml", ".sif"])
@examples()
@given(edges=signed_edges)
def test_proposed_edges(tmp_path, kind, edges):
    edges = [(a, b, sign) for a, b, sign in edges if not (a + b).startswith("#")]
    if not edges:
        return
    table = pd.DataFrame(edges, columns=["source", "target", "sign"]).assign(score=np.arange(len(edges)) / 7)
    back = read_edges(write_edges(table, tmp_path / f"e{kind}"))
    assert sorted(zip(back["source"], back["target"], back["sign"].tolist(), strict=True)) == sorted(edges)
    if kind != ".sif":  # which has no place for a score
        assert sorted(back["score"]) == sorted(table["score"])


@examples()
@given(
    st.lists(st.tuples(names, names, with_gaps), min_size=1, max_size=6),
    st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.booleans(), st.text(max_size=4)), max_size=3),
)
def test_edges_of_a_run(tmp_path, edges, inference):
    info = {"format": 1, "status": "complete", "id": "r"}
    write_json(tmp_path / "run.json", info)
    run = Run(tmp_path, info)
    edges = [(a.replace("\r", ""), b.replace("\r", ""), v) for a, b, v in edges]  # line ends are one kind
    table = pd.DataFrame(edges, columns=["source", "target", "score"])
    run.write_edges(table, inference)
    pd.testing.assert_frame_equal(Run.open(tmp_path).edges(), table, check_exact=True)
    assert Run.open(tmp_path).info["inference"] == inference


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet"])
@examples()
@given(data=st.data())
def test_response_matrices(tmp_path, kind, data):
    treatments, readouts = (
        data.draw(st.lists(st.text("abcXYZ-_.∂", min_size=1, max_size=5), min_size=1, max_size=3, unique=True))
        for _ in range(2)
    )
    rows = data.draw(st.integers(2, 5))
    x = data.draw(hnp.arrays(np.float64, (rows, len(treatments)), elements=st.floats(0, 1e6)))
    y = data.draw(hnp.arrays(np.float64, (rows, len(readouts)), elements=with_gaps))
    y[0] = np.nan_to_num(y[0])  # a readout that was never measured is left out
    for name, columns, values in (("x", treatments, x), ("y", readouts, y)):
        frame = pd.DataFrame(values, columns=columns)
        path = tmp_path / f"{name}{kind}"
        if kind == ".parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, sep="," if kind == ".csv" else "\t", na_rep="NA")
    found = read_responses(inputs=tmp_path / f"x{kind}", outputs=tmp_path / f"y{kind}")
    np.testing.assert_array_equal(found.treatments.to_numpy(), x)
    np.testing.assert_array_equal(found.readouts.to_numpy(), y)
    assert [name.split(":", 1)[-1] for name in found.treatments] == treatments
    assert [name.split(":", 1)[-1] for name in found.readouts] == readouts


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    hnp.arrays(st.sampled_from([np.float64, np.float32, np.int64, bool]), hnp.array_shapes(max_dims=2, max_side=3)),
)
keys = st.one_of(
    st.text(max_size=4), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text(max_size=2))
)
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


def identical(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(identical(k, m) and identical(a[k], b[m]) for k, m in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a.hex() == b.hex() if isinstance(a, float) else a == b


@examples(2)
@given(nested)
def test_checkpoints(tmp_path, value):
    state = {"value": value, "tensor": torch.arange(3.0)}
    SafetensorsCheckpointIO().save_checkpoint(state, tmp_path / "c")
    assert identical(SafetensorsCheckpointIO().load_checkpoint(tmp_path / "c"), state)


@examples()
@given(
    dense_graphs(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["none", "layer", "batch", "groupbatch", "rms", "ema"]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    seeds,
)
def test_models(tmp_path, graph, channels, layers, norm, share, dtype, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSNN.from_graph(graph, channels=channels, layers=layers, norm=norm, share_layers=share).to(dtype)
        x = torch.randn(4, graph.I, dtype=dtype)
        model.train()
        model(x)  # norms have seen something
    save_model(model, tmp_path / "m", extra={"note": "α"})
    again = load_model(tmp_path / "m")
    assert identical(dict(again.state_dict()), dict(model.state_dict()))
    assert again.training is model.training
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model.eval()(x))


config_fields = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 10**6),
        "channels": st.integers(1, 99),
        "norm": st.sampled_from(["none", "layer", "groupbatch", "rms"]),
        "lr": st.floats(1e-12, 1e3),
        "dropout": st.floats(0, 0.99),
        "patience": st.one_of(st.none(), st.integers(1, 99)),
        "restore_best": st.booleans(),
        "seed": st.integers(0, 2**63 - 1),
        "split_seed": st.one_of(st.none(), st.integers(0, 2**63 - 1)),
        "test": st.floats(0.01, 0.5),
    },
)


@examples()
@given(config_fields)
def test_settings(values):
    config = TrainConfig(**values)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@examples()
@given(st.text(max_size=20))
def test_texts_are_written_as_they_are(tmp_path, text):
    if "\r" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        return
    write_text(tmp_path / "t", text)
    assert (tmp_path / "t").read_bytes() == text.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


def without_undefined(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_undefined(item) for key, item in value.items()}
    return [without_undefined(item) for item in value] if isinstance(value, list) else value


@examples()
@given(json_like)
def test_json_of_a_run(tmp_path, value):
    write_json(tmp_path / "j", plain(value))
    assert json.loads((tmp_path / "j").read_text(encoding="utf-8")) == without_undefined(value)


@examples()
@given(dense_graphs(), seeds)
def test_fingerprint_is_of_the_content(graph, seed):
    from gsnn.data import PerturbationData

    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.normal(size=(4, graph.I)), columns=graph.inputs)
    y = pd.DataFrame(rng.normal(size=(4, graph.O)), columns=graph.outputs)
    data = PerturbationData(graph, x, y)
    assert fingerprint(PerturbationData(graph, x.copy(), y.copy())) == fingerprint(data)
    for frame in (x, y):
        changed = frame.copy()
        row, column = rng.integers(4), rng.integers(frame.shape[1])
        changed.iloc[row, column] = np.float32(frame.iloc[row, column]) * 2 + 1
        other = PerturbationData(graph, *((changed, y) if frame is x else (x, changed)))
        assert fingerprint(other) != fingerprint(data)
