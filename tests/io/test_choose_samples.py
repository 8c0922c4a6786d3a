"""Samples are chosen by columns of obs and by labels, in memory and in streams; labels of unknown samples are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.data import build_data
from gsnn.io import AnnDataResponses, Network, read_responses, stream_responses
from gsnn.io.choose import same_value

pytest.importorskip("h5py")

LABELS = ["A", "B", "control", "A+B", "A", "control", "B", "A+B"]
LINES = ["P", "Q", "P", "Q", "P", "Q", "P", "Q"]
BATCH = [1, 1, 2, 2, 1, 1, 2, 2]
FINE = [True, True, True, False, True, False, True, True]
DOSE = [0.5, 1.5, 0.5, 1.5, 0.5, 1.5, 0.5, 2.5]
VALUES = np.arange(16.0).reshape(8, 2)
COLUMNS = {"line": LINES, "batch": BATCH, "fine": FINE, "uM": DOSE}


def obs(labels=LABELS, *, text=False):
    drug = labels if text else pd.Categorical(labels)
    return pd.DataFrame({"drug": drug, **COLUMNS}, [f"c{i}" for i in range(8)])


@pytest.fixture
def rows(make_h5ad):
    """Numbers of the samples that are left, told by their readouts; in memory, in blocks and in a stream."""

    def chosen(labels=LABELS, *, text=False, where=None, **options):
        path = make_h5ad(obs(labels, text=text), pd.DataFrame(index=["C", "D"]), VALUES)
        given = {"perturbation": "drug", **options}
        whole = read_responses(path, anndata=given, where=where)
        conditions = {} if where is None else {"where": where}
        if isinstance(where, dict | None):
            with AnnDataResponses(path, **given, **conditions, chunk_size=3) as opened:
                parts = list(opened.chunks())
            assert [r for part in parts for r in part.readouts["C"]] == whole.readouts["C"].tolist()
        stream = stream_responses(path, anndata=given, where=where)
        chunks = [pair for a, b in stream.stretches() for pair in stream.read(a, b)]
        np.testing.assert_array_equal(np.concatenate([y for _, y in chunks]), whole.readouts.to_numpy())
        np.testing.assert_array_equal(np.concatenate([x for x, _ in chunks]), whole.treatments.to_numpy())
        stream.close()
        return [int(value) // 2 for value in whole.readouts["C"]]

    return chosen


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"line": "P"}, [0, 2, 4, 6]),
        ({"line": ["P", "Q"]}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"batch": "2"}, [2, 3, 6, 7]),
        ({"batch": 2}, [2, 3, 6, 7]),
        ({"batch": "2.0"}, [2, 3, 6, 7]),
        ({"fine": "True"}, [0, 1, 2, 4, 6, 7]),
        ({"fine": "false"}, [3, 5]),
        ({"fine": "0"}, [3, 5]),
        ({"fine": True}, [0, 1, 2, 4, 6, 7]),
        ({"uM": "1.5"}, [1, 3, 5]),
        ({"uM": 1.50}, [1, 3, 5]),
        ({"line": "P", "batch": "2"}, [2, 6]),
        (["line=P", "batch=2"], [2, 6]),
        (["line = P", "line=Q"], [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"drug": "A"}, [0, 4]),
        ({"drug": ["A", "control"]}, [0, 2, 4, 5]),
    ],
)
def test_samples_with_values_in_columns_of_obs(rows, where, left):
    assert rows(where=where) == left


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    ("exclude", "options", "left"),
    [
        ("A", {}, [1, 2, 3, 5, 6, 7]),
        (["A"], {"separator": "+"}, [1, 2, 5, 6]),
        (["A+B"], {"separator": "+"}, [0, 1, 2, 4, 5, 6]),
        (["A", "B"], {}, [2, 3, 5, 7]),
        (["control"], {}, [0, 1, 3, 4, 6, 7]),
    ],
)
def test_samples_without_a_label(rows, exclude, options, left, text):
    assert rows(text=text, exclude=exclude, **options) == left


def test_both_together(rows):
    assert rows(where={"line": "P"}, exclude="A") == [2, 6]


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "NA", "N/A", "unassigned", "Unassigned", "none", "None", "unknown", "negative"]
)
@pytest.mark.parametrize("text", [False, True])
def test_labels_of_unknown_samples_beside_a_control(make_h5ad, word, text):
    labels = [word, "B", "control", "A+B", "A", word, "B", "A+B"]
    path = make_h5ad(obs(labels, text=text), pd.DataFrame(index=["C", "D"]), VALUES)
    given = {"perturbation": "drug", "separator": "+"}
    found = read_responses(path, anndata=given)
    # It is a treatment of its own, and no control.
    assert found.treatments[word].tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    told = [warning for warning in found.warnings if "nobody knows what was done" in warning]
    assert len(told) == 1
    assert f"exclude=['{word}']" in told[0]
    with flags():
        warnings = read_responses(path, anndata=given).warnings
    assert any(f"--exclude-label {word}" in warning for warning in warnings)
    network = Network.from_edges([("A", "C"), ("B", "D")])
    with pytest.raises(DataError, match=r"may say that nobody knows what was done: pass exclude="):
        build_data(network, found)
    # Dropped or excluded, the samples are gone all the same.
    kept = [[0, 1], [0, 0], [1, 1], [1, 0], [0, 1], [1, 1]]
    dropped = build_data(network, found, on_unmatched="drop")
    assert sorted(dropped.inputs[["TR:A", "TR:B"]].to_numpy().tolist()) == sorted(kept)
    excluded = build_data(network, read_responses(path, anndata={**given, "exclude": word}))
    assert sorted(excluded.inputs[["TR:A", "TR:B"]].to_numpy().tolist()) == sorted(kept)
    # Who says that it is a control is believed.
    believed = read_responses(path, anndata={**given, "control": ["control", word]})
    assert list(believed.treatments) in (["A", "B"], ["B", "A"])


def test_a_control_may_have_blanks_around_it(make_h5ad):
    labels = ["none", "B", "A + control", "A + B", "A", "none", "B", "A + B"]
    found = read_responses(
        make_h5ad(obs(labels), pd.DataFrame(index=["C", "D"]), VALUES),
        anndata={"perturbation": "drug", "separator": "+"},
    )
    assert found.treatments["none"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0]  # beside a control it is none


@pytest.mark.parametrize("word", ["none", "None"])
def test_none_alone_is_a_control_and_told(make_h5ad, word):
    path = make_h5ad(
        obs([word if label == "control" else label for label in LABELS]), pd.DataFrame(index=["C", "D"]), VALUES
    )
    found = read_responses(path, anndata={"perturbation": "drug", "separator": "+"})
    assert list(found.treatments) == ["A", "B"]
    assert found.warnings == [f"'drug': '{word}' taken for controls, without a treatment (control=)"]


@pytest.mark.parametrize("blank", [None, "", " "])
@pytest.mark.parametrize("text", [False, True])
def test_missing_labels_are_refused_or_excluded(make_h5ad, blank, text):
    if blank is None and text:
        return
    labels = [blank, *LABELS[1:]]
    path = make_h5ad(obs(labels, text=text), pd.DataFrame(index=["C", "D"]), VALUES)
    with pytest.raises(DataError, match=r"is empty in row 1 .*exclude='nan'"):
        read_responses(path, anndata={"perturbation": "drug"})
    assert len(read_responses(path, anndata={"perturbation": "drug", "exclude": "nan"}).readouts) == 7


@pytest.mark.parametrize(
    ("options", "where", "words"),
    [
        ({}, {"lime": "P"}, ["no column 'lime'", "did you mean 'line'"]),
        ({}, {"line": "R"}, ["no row has 'R' in column 'line'", "'P', 'Q'"]),
        ({}, {"fine": "yes"}, ["'True', 'False'"]),
        ({}, {"line": "P", "uM": "1.5"}, ["no sample has line=P, uM=1.5"]),
        ({}, ["line"], ['must be "column=value"']),
        ({"exclude": "x"}, None, ["no label 'x' to exclude"]),
        ({"exclude": ["A", "B", "control", "A+B"]}, None, ["no sample is left"]),
    ],
)
def test_choices_that_leave_nothing_are_refused(rows, options, where, words):
    with pytest.raises(DataError) as caught:
        rows(where=where, **options)
    for word in words:
        assert word in str(caught.value)


def test_choices_by_flags(make_h5ad):
    path = make_h5ad(obs(), pd.DataFrame(index=["C", "D"]), VALUES, obsm={"p": np.ones((8, 1))})
    with flags(), pytest.raises(DataError, match=r"--exclude-label is for labels of --perturbation.*--where"):
        read_responses(path, anndata={"obsm": "p", "treatment_names": ["A"], "exclude": "A"})
    with flags(), pytest.raises(DataError, match="by a column of obs with --where"):
        read_responses(path, anndata={"perturbation": "drug"}, cell_line="P")


@pytest.mark.parametrize(
    ("cell", "value", "same"),
    [("1", "1.0", True), ("TRUE", "True", True), ("true", "1", True), ("False", "0", True), ("A", "a", False),
     ("", "0", False), (" A", "A ", True), ("1e3", "1000", True), ("nan", "nan", True), ("True", "2", False),
     ("A", "True", False)],
)  # fmt: skip
def test_values_that_are_the_same(cell, value, same):
    assert same_value(cell, value) == same == same_value(value, cell)
