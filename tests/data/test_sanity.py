"""What looks wrong is said: where it is so, and nowhere else; of data in memory and of streams."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.data import build_data, stream_data
from gsnn.data.sanity import MOST_CONTROLS, NEAR_ZERO, odd_fit, oddities
from gsnn.data.scan import scan
from gsnn.io import ArrayResponses, Network, Responses

EDGES = [("A", "B"), ("B", "C"), ("D", "C")]
NAMES = ["A", "D"], ["B", "C"]


def arrays(n=40, untreated=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 2)).astype(float)
    x[(x == 0).all(1), 0] = 1
    x[:untreated] = 0
    return x, x @ np.array([[1.0, 0.5], [0.0, 1.0]]) + rng.normal(scale=0.01, size=(n, 2))


def told(x, y, edges=EDGES, names=NAMES, left_out=None):
    """In memory, and streamed; both must say the same."""
    network = Network.from_edges(edges)
    table = Responses(pd.DataFrame(x, columns=names[0]), pd.DataFrame(y, columns=names[1]))
    found = oddities(build_data(network, table), left_out, network)
    data = stream_data(network, ArrayResponses(x, y, treatments=names[0], readouts=names[1], stretch=16))
    streamed = [w for w in scan(data, data.split()).warnings if w.startswith("looks wrong")]
    assert streamed == [line for line in found if "ridge" not in line]
    return found


def test_nothing_is_said_of_data_that_are_right():
    x, y = arrays()
    assert told(x, y, left_out={"ridge": 0.9}) == []
    assert told(x, y, left_out={"ridge": float("nan")}) == []
    assert told(x, y, left_out={}) == []


@pytest.mark.parametrize(("share", "said"), [(0.4, False), (MOST_CONTROLS, False), (0.55, True), (0.9, True)])
def test_samples_without_treatment(share, said):
    x, y = arrays(untreated=int(40 * share))
    found = told(x, y)
    assert bool(found) == said
    assert not said or f"{int(40 * share)} of 40 samples have no treatment" in found[0]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_readout_that_never_varies(value):
    x, y = arrays()
    y[:, 1] = value
    y[3, 1] = np.nan
    assert told(x, y) == ["looks wrong: 1 readout never varies: 'DV:C'; is it measured, and read with its decimals?"]
    y[:, 0] = value
    assert told(x, y)[0].startswith("looks wrong: 2 readouts never vary: 'DV:B', 'DV:C'; are they measured")


@pytest.mark.parametrize(
    ("ridge", "said"), [(0.9, 0), (NEAR_ZERO, 0), (NEAR_ZERO - 1e-9, 1), (-0.6, 1), (float("nan"), 0)]
)
def test_a_fit_near_0(ridge, said):
    assert len(odd_fit(ridge)) == said
    x, y = arrays()
    assert len(told(x, y, left_out={"ridge": ridge})) == said


@pytest.mark.parametrize("levels", [0.0, 3.0])
def test_rows_in_another_order_are_noticed_whatever_the_levels_of_the_readouts(levels):
    from gsnn.training.left_out import left_out_correlations

    rng = np.random.default_rng(0)
    x = np.array([[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)] * 2, float)
    y = x @ rng.normal(size=(4, 6)) + rng.normal(scale=0.1, size=(32, 6)) + levels * np.arange(6)
    names = ["A", "B", "D", "E"], list("CFGHIJ")
    edges = [(s, t) for s in names[0] for t in names[1]]
    assert told(x, y, edges, names, left_out_correlations(x, y)) == []
    shuffled = y[rng.permutation(32)]
    found = told(x, shuffled, edges, names, left_out_correlations(x, shuffled))
    assert len(found) == 1
    assert "predicts no" in found[0]


def test_where_each_treatment_stands_alone_nothing_can_be_predicted():
    x, y = np.eye(8), np.random.default_rng(0).normal(size=(8, 2)) + np.array([0.0, 5.0])
    names = list("ABDEFGHI"), ["C", "J"]
    edges = [(s, t) for s in names[0] for t in names[1]]
    assert told(x, y, edges, names, {"ridge": 0.9, "mean": 0.9}) == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("0.6", "B"), "is a number that the data do not have: '0.6'"),
        (("source", "target"), "are words of files, not a name: 'source', 'target'"),
        (("V1", "B"), "is a word of files"),
    ],
)
def test_species_that_are_none(extra, words):
    found = told(*arrays(), edges=[*EDGES, extra])
    assert len(found) == 1
    assert words in found[0]


def test_identifiers_that_are_numbers_are_none():
    number = {"A": "1950", "B": "1956", "C": "5594", "D": "207"}
    edges = [(number[s], number[t]) for s, t in EDGES]
    assert told(*arrays(), edges=edges, names=tuple([number[n] for n in side] for side in NAMES)) == []


def test_a_network_without_any_path():
    found = told(*arrays(), edges=[(t, s) for s, t in EDGES], names=(["A"] * 0 + ["A", "D"], ["C", "B"]))
    assert found == [
        "looks wrong: no treatment has a path to any readout; are treatments and readouts swapped, or the sources and "
        "targets of the network?"
    ]
    # One path is enough.
    assert told(*arrays(), edges=[("A", "B"), ("C", "D")]) == []


@pytest.mark.parametrize("stream", [False, True])
def test_training_says_so_too(tmp_path, stream):
    from gsnn.runs import train_files

    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    x, _ = arrays(n=400, untreated=250)
    y = np.stack([rng.normal(size=400), np.zeros(400)], axis=1)
    frame = pd.DataFrame(np.hstack([x, y]), columns=["TR:A", "TR:D", "DV:B", "DV:C"])
    frame.to_parquet(tmp_path / "m.parquet", row_group_size=100)
    lines = [f"{s}\t1\t{t}\n" for s, t in [*EDGES, ("source", "B")]]
    (tmp_path / "n.sif").write_text("".join(lines))
    told: list[str] = []
    settings = {"epochs": 1, "channels": 1, "layers": 3}
    _, result = train_files(
        tmp_path / "run",
        graph=tmp_path / "n.sif",
        data=tmp_path / "m.parquet",
        responses_options={"stream": stream},
        settings=settings,
        notify=told.extend,
    )
    found = [line for line in {*told, *result.warnings} if line.startswith("looks wrong")]
    assert len(found) == 4
    for words in ("250 of 400 samples have no treatment", "'DV:C'", "predicts nothing", "'source'"):
        assert any(words in line for line in found)
