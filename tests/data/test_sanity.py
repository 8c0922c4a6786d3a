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
