"""Rows are paired by identifiers wherever there are any: in text, Parquet, streams and Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.io import Responses, read_responses, stream_responses

N = 12
X = pd.DataFrame({"A": np.arange(N) % 2, "B": np.arange(N) % 3}).astype(float)
Y = pd.DataFrame({"C": np.arange(N) * 0.5})
ORDERS = st.permutations(range(N)).filter(lambda order: list(order) != sorted(order))


def named(table, header, ids):
    table = table.reset_index(drop=True)
    table.insert(0, header, list(ids))
    return table


def right(found, order):
    """Whether each row has what belongs to it, the rows of the treatments being in this order."""
    return found.readouts["C"].tolist() == Y["C"].iloc[list(order)].tolist() and list(found.readouts) == ["C"]


@pytest.fixture
def save(tmp_path):
    def write(x, y, ext, **options):
        for name, table in (("x", x), ("y", y)):
            path = tmp_path / f"{name}.{ext}"
            if ext == "parquet":
                pytest.importorskip("pyarrow")
                table.to_parquet(path, row_group_size=5)
            else:
                table.to_csv(path, sep={"csv": ",", "tsv": "\t", "txt": ";"}[ext], **{"index": False, **options})
        return {"inputs": tmp_path / f"x.{ext}", "outputs": tmp_path / f"y.{ext}"}

    return write


IDS = {
    "numbers": (lambda i: i, lambda i: i),
    "numbers from 100": (lambda i: 100 + i, lambda i: 100 + i),
    "words": (lambda i: f"s{i}", lambda i: f"s{i}"),
    "barcodes": (lambda i: f"{i}AC", lambda i: f"{i}AC"),
}
TEXT_IDS = IDS | {
    "of pandas": (lambda i: i, lambda i: f"{i}.0"),
    "padded": (lambda i: f"{i:03d}", lambda i: i),
    "of a spreadsheet": (lambda i: f"{i}.00", lambda i: f"{i:02d}"),
}
HEADERS = [("Sample ID", "Sample ID"), ("well", "well"), ("well", "nr"), ("Sample", "GSM")]


@pytest.mark.parametrize("ext", ["csv", "tsv", "txt", "parquet"])
@pytest.mark.parametrize("headers", HEADERS, ids=str)
@pytest.mark.parametrize("kind", TEXT_IDS)
def test_a_first_column_of_identifiers_pairs_the_rows(save, kind, headers, ext):
    if ext == "parquet" and kind not in IDS:
        return
    one, other = TEXT_IDS[kind]
    order = np.random.default_rng(3).permutation(N)
    files = save(named(X, headers[0], map(one, range(N))), named(Y.iloc[order], headers[1], map(other, order)), ext)
    assert right(read_responses(**files), range(N))


@settings(max_examples=20, deadline=None)
@given(one=ORDERS, other=ORDERS)
def test_any_two_orders(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("orders")
    named(X.iloc[one], "well", one).to_csv(folder / "x.csv", index=False)
    named(Y.iloc[other], "nr", other).to_csv(folder / "y.csv", index=False)
    assert right(read_responses(inputs=folder / "x.csv", outputs=folder / "y.csv"), one)
    assert right(Responses(named(X.iloc[one], "well", one), named(Y.iloc[other], "nr", other)), one)
    assert right(Responses(X.iloc[one], Y.iloc[other]), one)


def test_a_species_of_the_network_is_no_identifier(save):
    x, y = named(X, "D", range(1, N + 1)), named(Y, "D", range(1, N + 1))
    files = save(x, y, "csv")
    assert list(read_responses(**files, species=["A", "D"]).treatments) == ["D", "A", "B"]
    assert list(read_responses(**files).treatments) == ["A", "B"]
    files = save(x, y, "parquet")
    assert stream_responses(**files, species=["D"]).treatments == ["D", "A", "B"]
    assert stream_responses(**files).treatments == ["A", "B"]


@pytest.mark.parametrize("ext", ["csv", "parquet"])
@pytest.mark.parametrize("ids", [range(5, 5 + N), [f"s{i}" for i in range(5, 5 + N)]], ids=["numbers", "words"])
def test_other_samples_are_an_error(save, ids, ext):
    mine = range(N) if ids == range(5, 5 + N) else [f"s{i}" for i in range(N)]
    with pytest.raises(DataError, match="different samples: 5 only in"):
        read_responses(**save(named(X, "well", mine), named(Y, "well", ids), ext))


@pytest.mark.parametrize("bare", [0, 1])
def test_row_numbers_that_pandas_noted_in_parquet(save, bare):
    order = np.random.default_rng(1).permutation(N)
    x, y = (X, Y.iloc[order]) if bare == 0 else (X.iloc[order], Y)
    files = save(x, y, "parquet")
    found = read_responses(**files)
    assert right(found, range(N) if bare == 0 else order)
    assert found.warnings == []
    with pytest.raises(DataError, match="row numbers in another order"):
        stream_responses(**files)
    same = save(X, Y, "parquet")
    assert stream_responses(**same).warnings == []


@pytest.mark.parametrize("first", [0, 1, 7])
def test_row_numbers_in_another_order_without_a_partner(save, tmp_path, first):
    order = np.random.default_rng(1).permutation(N)
    x = X.iloc[order].set_axis(order + first)
    x.to_csv(tmp_path / "x.csv")
    Y.to_csv(tmp_path / "y.csv", index=False)
    files = {"inputs": tmp_path / "x.csv", "outputs": tmp_path / "y.csv"}
    if first == 7:  # these are no numbers of rows
        assert read_responses(**files).warnings == [
            "only one of the two tables has sample identifiers; rows were paired in order"
        ]
        return
    with pytest.raises(DataError, match="are row numbers in another order"):
        read_responses(**files)


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_streams_have_the_same_order_or_are_refused(save, kind, headers):
    one, other = IDS[kind]
    x = named(X, headers[0], map(one, range(N)))
    with stream(save(x, named(Y, headers[1], map(other, range(N))), "parquet")) as streamed:
        assert (streamed.treatments, streamed.readouts, streamed.warnings) == (["A", "B"], ["C"], [])
        assert [y.ravel().tolist() for a, b in streamed.stretches() for _, y in streamed.read(a, b)] == [
            [0, 0.5, 1, 1.5, 2], [2.5, 3, 3.5, 4, 4.5], [5, 5.5]
        ]  # fmt: skip
    order = [1, 0, *range(2, N)]
    with stream(save(x, named(Y.iloc[order], headers[1], map(other, order)), "parquet")) as streamed:
        with pytest.raises(DataError, match="same samples in the same order"):
            list(streamed.read(*streamed.stretches()[0]))


class stream:
    """A stream that is closed."""

    def __init__(self, files):
        self.responses = stream_responses(**files)

    def __enter__(self):
        return self.responses

    def __exit__(self, *_):
        self.responses.close()


def test_identifiers_that_repeat_are_told(save):
    repeated = ["a", "b"] * (N // 2)
    found = read_responses(**save(named(X, "cells", repeated), named(Y, "cells", repeated), "csv"))
    assert "the identifiers of the samples repeat ('a', 'b')" in found.warnings[0]
    with pytest.raises(DataError, match="stand more than once"):
        read_responses(**save(named(X, "cells", repeated), named(Y, "cells", repeated[::-1]), "csv"))


@pytest.mark.parametrize("header", ["CellLine", "Cells", "cell_type"])
@pytest.mark.parametrize(
    "lines", [["P", "Q"], ["HeLa", "293"], ["293", "3"]], ids=["words", "a number among words", "numbers"]
)
def test_cell_lines_are_not_pooled_without_a_word(tmp_path, header, lines):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({header: lines * 40, "TR:A": [0.0, 1] * 40, "DV:C": np.arange(80.0)})
    frame.to_csv(tmp_path / "m.csv", index=False)
    found = read_responses(tmp_path / "m.csv")
    assert "pooled" in found.warnings[0]
    assert all(line in found.warnings[0] for line in lines)
    assert len(read_responses(tmp_path / "m.csv", cell_line=lines[1]).treatments) == 40
    frame.to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="several cell lines"):
        stream_responses(tmp_path / "m.parquet")
    # The second cell line may come late.
    frame.assign(**{header: [lines[0]] * 79 + [lines[1]]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="several cell lines"):
        stream_responses(tmp_path / "m.parquet")
    frame.assign(**{header: lines[0]}).to_parquet(tmp_path / "m.parquet")
    assert len(stream_responses(tmp_path / "m.parquet")) == 80


def test_words_that_repeat_name_no_samples(tmp_path):
    pd.DataFrame({"tissue": ["P", "Q"] * 4, "TR:A": range(8), "DV:C": range(8)}).to_csv(tmp_path / "m.csv", index=False)
    assert "where={'tissue': 'P'} chooses rows by it" in read_responses(tmp_path / "m.csv").warnings[0]
    with flags():
        assert "--where tissue=P chooses" in read_responses(tmp_path / "m.csv").warnings[0]
    assert len(read_responses(tmp_path / "m.csv", where=["tissue=P"]).treatments) == 4


# ---------------------------------------------------------------- transposed, swapped


@pytest.mark.parametrize("side", ["inputs", "outputs", "both"])
def test_tables_whose_samples_are_columns(save, side):
    ids = [f"s{i}" for i in range(N)]
    x, y = X.set_axis(ids), Y.assign(E=1.0, F=2.0).set_axis(ids)
    files = save(x.T if side != "outputs" else x, y.T if side != "inputs" else y, "csv", index=True)
    with pytest.raises(DataError, match="transposed: the samples are the columns") as caught:
        read_responses(**files)
    assert [str(path) in str(caught.value) for path in files.values()] == [side != "outputs", side != "inputs"]


def test_tables_of_the_same_species_are_not_transposed(save):
    # Every species perturbed and measured: the columns are the same, the values are not.
    x = pd.DataFrame(np.eye(4), columns=list("ABDE"))
    y = pd.DataFrame(np.arange(16.0).reshape(4, 4) + 0.25, columns=list("ABDE"))
    assert read_responses(**save(x, y, "csv")).readouts.to_numpy().tolist() == y.to_numpy().tolist()


def test_sides_that_are_swapped_by_their_prefixes(save):
    files = save(Y.add_prefix("DV:").assign(**{"DV:E": 1.0}), X.add_prefix("TR:"), "csv")
    with pytest.raises(DataError, match=r"begin with DV:; are inputs= and outputs= swapped"):
        read_responses(**files)
    with flags(), pytest.raises(DataError, match="--inputs and --outputs swapped"):
        read_responses(**files)


@pytest.mark.parametrize("header", [True, False])
def test_midas_that_is_transposed(tmp_path, header):
    frame = pd.concat([X.add_prefix("TR:"), Y.add_prefix("DV:")], axis=1)
    frame.T.to_csv(tmp_path / "m.csv", header=header)
    with pytest.raises(DataError, match="transposed: its rows are the columns of responses"):
        read_responses(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("My data,,\nTR:A,TR:B,DV:C\n1,0,2\n", "stand in line 2; delete what stands before them"),
        ("TR:A TR:B DV:C\n1 0 2\n", "nothing separates the columns"),
        ("sep=;\nTR:A,TR:B,DV:C\n1,0,2\n", "nothing separates the columns"),
    ],
)
def test_headers_that_are_not_found(tmp_path, content, words):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        read_responses(tmp_path / "m.csv")


# ---------------------------------------------------------------- Python


def test_prefixes_of_frames_are_taken_off():
    found = Responses(X.add_prefix("TR:"), Y.add_prefix("DV:"))
    assert (list(found.treatments), list(found.readouts)) == (["A", "B"], ["C"])
    with pytest.raises(DataError, match="swapped"):
        Responses(Y.add_prefix("DV:"), X.add_prefix("TR:"))


@pytest.mark.parametrize(
    "table", [X.to_numpy(), dict(X), X.to_numpy().tolist(), X["A"], "x.csv"], ids=lambda t: type(t).__name__
)
def test_tables_must_be_frames(table):
    with pytest.raises(TypeError, match="treatments must be a pandas DataFrame"):
        Responses(table, Y)
    with pytest.raises(TypeError, match="readouts must be a pandas DataFrame"):
        Responses(X, table)


def test_numbers_that_are_taken_for_identifiers_are_told():
    x, y = named(X, "well", range(N)), named(Y, "nr", range(N))
    assert Responses(x, y).warnings == [
        "the first columns ('well', 'nr') hold the same whole numbers and were taken for identifiers"
    ]
    assert Responses(named(X, "well", map(str, "abcdefghijkl")), named(Y, "well", "abcdefghijkl")).warnings == []


def test_columns_have_names():
    with pytest.raises(DataError, match="columns of treatments have no names"):
        Responses(pd.DataFrame(X.to_numpy()), Y)
    assert list(Responses(X.set_axis([1950, 1956], axis=1), Y).treatments) == ["1950", "1956"]
    with pytest.raises(DataError, match=r"named by text, got 1\.5"):
        Responses(X.set_axis(["A", 1.5], axis=1), Y)


def test_frames_of_text_are_numbers_or_refused():
    from gsnn.data import build_data
    from gsnn.io import Network

    network = Network.from_edges([("A", "C"), ("B", "C")])
    x, y = X.astype(str), Y.astype(str)
    y.iloc[2, 0] = "N/A"
    data = build_data(network, Responses(x, y))
    assert data.inputs.to_numpy().tolist() == np.delete(X.to_numpy(), 2, 0).tolist()
    y.iloc[3, 0] = "high"
    with pytest.raises(DataError, match="readout 'DV:C' holds 'high' in row 3"):
        build_data(network, Responses(x, y))
    with pytest.raises(DataError, match="infinite"):
        build_data(network, Responses(X, Y.replace(1.0, np.inf)))
