"""Responses as people have them: right, or refused with what to do."""

from importlib.metadata import PackageNotFoundError, files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.data import build_data, stream_data
from gsnn.io import ArrayResponses, Network, Responses, read_responses

NETWORK = Network.from_edges([("A", "B"), ("B", "C"), ("D", "C")])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_dropped_treatments_drop_their_samples_in_memory_and_streams(seed, n_unknown):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (30, 2 + n_unknown)).astype(float)
    x[:4, 2:] = 0
    y = rng.normal(size=(30, 2))
    names = ["A", *(f"x{i}" for i in range(n_unknown)), "B"]
    x = np.ascontiguousarray(x[:, [0, *range(2, 2 + n_unknown), 1]])
    keep = (x[:, 1:-1] == 0).all(1)
    table = Responses(pd.DataFrame(x, columns=names), pd.DataFrame(y, columns=["C", "zzz"]))
    data = build_data(NETWORK, table, on_unmatched="drop")
    np.testing.assert_array_equal(data.x, x[keep][:, [0, -1]])
    np.testing.assert_allclose(data.y, y[keep][:, :1], rtol=1e-6)
    assert any(w.startswith(f"{(~keep).sum()} sample") for w in data.warnings)
    streamed = stream_data(NETWORK, ArrayResponses(x, y, treatments=names, readouts=["C", "zzz"]), on_unmatched="drop")
    parts = [(a[code == 0], b[code == 0]) for _, code, a, b in streamed.chunks()]
    np.testing.assert_array_equal(np.concatenate([a for a, _ in parts]), x[keep][:, [0, -1]])
    assert any(w.startswith(f"{(~keep).sum()} sample") for w in streamed.warnings)


def test_nothing_left_is_an_error():
    x, y = np.ones((5, 2)), np.ones((5, 1))
    table = Responses(pd.DataFrame(x, columns=["A", "x"]), pd.DataFrame(y, columns=["C"]))
    with pytest.raises(DataError, match="0 usable samples after 5 samples with a treatment that was dropped"):
        build_data(NETWORK, table, on_unmatched="drop")
    with pytest.raises(DataError, match="5 samples left out"):
        stream_data(NETWORK, ArrayResponses(x, y, treatments=["A", "x"], readouts=["C"]), on_unmatched="drop")


@pytest.mark.parametrize("separator", ["+", ";", "_", "|", " || ", "/", ",", ":"])
@pytest.mark.parametrize("on_unmatched", ["error", "drop"])
def test_a_separator_is_found(separator, on_unmatched):
    x = pd.DataFrame(np.eye(3), columns=["A", separator.join("BD"), separator.join("AB")])
    table = Responses(x, pd.DataFrame({"C": [1.0, 2, 3]}), labels=True)
    with pytest.raises(DataError) as caught:
        build_data(NETWORK, table, on_unmatched=on_unmatched)
    assert f"separator={separator!r}" in str(caught.value)
    assert "--" not in str(caught.value)
    with flags(), pytest.raises(DataError) as caught:
        build_data(NETWORK, table, on_unmatched=on_unmatched)
    assert "--separator" in str(caught.value)
    assert "separator=" not in str(caught.value)


@pytest.mark.parametrize("header", ["Sample ID", "well", "barcode", "GSM", "A number"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_are_paired_by_identifiers(tmp_path_factory, header, seed):
    tmp_path = tmp_path_factory.mktemp("t")
    ids = np.random.default_rng(seed).permutation(9) + 1
    pd.DataFrame({header: range(1, 10), "A": range(9)}).to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({header: ids, "C": ids * 0.5}).to_csv(tmp_path / "y.csv", index=False)
    found = read_responses(inputs=tmp_path / "x.csv", outputs=tmp_path / "y.csv")
    assert list(found.readouts["C"]) == [0.5 * i for i in range(1, 10)]
    assert (list(found.treatments), list(found.readouts)) == (["A"], ["C"])


def test_labels_of_frames_are_aligned_or_refused():
    x, y = pd.DataFrame({"A": [0.0, 1, 2]}, ["a", "b", "c"]), pd.DataFrame({"C": [2.0, 0, 1]}, ["c", "a", "b"])
    assert list(Responses(x, y).readouts["C"]) == [0, 1, 2]
    frame = pd.DataFrame({"A": [0.0, 1, 2], "C": [0.0, 1, 2]})
    assert list(Responses(frame[["A"]], frame[["C"]].iloc[::-1]).readouts["C"]) == [0, 1, 2]
    assert list(Responses(x, y.reset_index(drop=True)).readouts["C"]) == [2, 0, 1]
    with pytest.raises(DataError, match="different labels"):
        Responses(x, y.set_axis(["c", "a", "d"]))


@pytest.mark.parametrize("blank", ["", " ", "NA", "nan", "N/A"])
def test_a_blank_treatment_is_0_and_told_once(tmp_path, blank):
    (tmp_path / "m.csv").write_text(f"TR:A,TR:B,DA:ALL,DV:C\n1,{blank},10,1\n{blank},1,10,{blank}\n1,1,10,2\n")
    found = read_responses(tmp_path / "m.csv")
    assert found.treatments.to_numpy().tolist() == [[1, 0], [0, 1], [1, 1]]
    assert found.warnings == ["2 blank treatments read as 0 (not applied)"]


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("header", ["CellLine", "cell_line", "Cell line", "TR:CellLine", "ID:CellLine"])
def test_a_column_of_cell_lines_anywhere(tmp_path, place, header):
    rows = [["1", "10", "1"], ["0", "10", "2"], ["1", "10", "3"]]
    columns = ["TR:A", "DA:ALL", "DV:C"]
    lines = [",".join([*r[:place], c, *r[place:]]) for r, c in zip([columns, *rows], [header, *"PQP"], strict=True)]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    assert "'P', 'Q'" in read_responses(tmp_path / "m.csv").warnings[0]
    for chosen in ({"cell_line": "P"}, {"where": {header: "P"}}, {"where": [f"{header}=P"]}):
        assert list(read_responses(tmp_path / "m.csv", **chosen).readouts["C"]) == [1, 3]
    with pytest.raises(DataError, match="'P', 'Q'"):
        read_responses(tmp_path / "m.csv", cell_line="HEK")


@pytest.mark.parametrize("head", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_excel(tmp_path, head):
    (tmp_path / "m.csv").write_bytes((head + "TR:A;DV:C\n0;0,5\n1;N/A\n").encode())
    with pytest.raises(DataError, match="decimal=','"):
        read_responses(tmp_path / "m.csv")
    found = read_responses(tmp_path / "m.csv", decimal=",")
    np.testing.assert_array_equal(found.readouts["C"], [0.5, np.nan])


def test_case_is_ignored_on_request_and_offered():
    table = Responses(pd.DataFrame({"a": [0.0, 1, 2], "Di": [1.0, 0, 0]}), pd.DataFrame({"c": [1.0, 2, 3]}))
    with pytest.raises(DataError, match="ignore_case=True"):
        build_data(NETWORK, table)
    assert build_data(NETWORK, table, ignore_case=True).graph.inputs == ("TR:A", "TR:Di")


def test_published_midas_files_are_read():
    try:
        shipped = files("cellnopt.data") or []
    except PackageNotFoundError:
        pytest.skip("cellnopt.data is not installed (extra test)")
    midas = [f for f in shipped if f.name.startswith("MD-") and f.suffix == ".csv"]
    assert len(midas) == 20
    for file in midas:
        found = read_responses(file.locate().resolve())
        assert len(found.treatments) > 1, file
        assert found.treatments.shape[1] > 1, file
        assert np.isfinite(found.treatments.to_numpy()).all(), file


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("sides", ["one", "two"])
def test_decimal_commas_of_any_table(tmp_path, separator, sides):
    rows = [["TR:A", "TR:B", "DV:C"], ["0", "1", "-0,5"], ["1", "0,25", "1,5e-1"], ["1", "0", "N/A"], ["0", "0", "7"]]
    quote = '"{}"' if separator == "," else "{}"
    parts = {"m": slice(0, 3)} if sides == "one" else {"x": slice(0, 2), "y": slice(2, 3)}
    for name, part in parts.items():
        lines = [separator.join(quote.format(cell) for cell in row[part]) for row in rows]
        if sides == "two":
            lines = [separator.join([f"{title}", line]) for title, line in zip(["id", *"pqrs"], lines, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    paths = (
        {"path": tmp_path / "m.csv"}
        if sides == "one"
        else {"inputs": tmp_path / "x.csv", "outputs": tmp_path / "y.csv"}
    )
    with pytest.raises(DataError, match="decimal=','"):
        read_responses(**paths)
    with flags(), pytest.raises(DataError, match="--decimal ,"):
        read_responses(**paths)
    found = read_responses(**paths, decimal=",")
    np.testing.assert_array_equal(found.treatments.to_numpy(), [[0, 1], [1, 0.25], [1, 0], [0, 0]])
    np.testing.assert_array_equal(found.readouts["C"], [-0.5, 0.15, np.nan, 7])


def test_decimal_commas_in_text_of_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"TR:A": [0.0, 1, 1], "DV:C": ["0,5", "N/A", "-1,25"]})
    frame.to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="decimal=','"):
        read_responses(tmp_path / "m.parquet")
    found = read_responses(tmp_path / "m.parquet", decimal=",")
    np.testing.assert_array_equal(found.readouts["C"], [0.5, np.nan, -1.25])


@pytest.mark.parametrize("cell", ["1.234,5", "1 234,5", "0,5%", "1,2,3", "0;5"])
def test_other_numbers_are_refused_with_either_decimal(tmp_path, cell):
    (tmp_path / "m.tsv").write_text(f"TR:A\tDV:C\n0\t{cell}\n1\t2\n")
    for decimal in (".", ","):
        with pytest.raises(DataError, match="is not a number"):
            read_responses(tmp_path / "m.tsv", decimal=decimal)
    with pytest.raises(DataError, match=r"decimal must be '\.' or ','"):
        read_responses(tmp_path / "m.tsv", decimal=";")


def test_commas_cannot_be_both(tmp_path):
    (tmp_path / "m.csv").write_text("TR:A,DV:C\n0,5\n1,2\n")
    with pytest.raises(DataError, match="cannot be decimal commas too"):
        read_responses(tmp_path / "m.csv", decimal=",")


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("1,234", "part thousands"),
        ("12,345.6", "part thousands"),
        ("0,5", "use a decimal point"),
        ("\u22120.5", "minus"),
    ],
)
def test_a_number_in_another_way_says_what_to_do(tmp_path, cell, hint):
    (tmp_path / "m.tsv").write_text(f"TR:A\tDV:C\n0\t{cell}\n1\t2\n", encoding="utf-8")
    with pytest.raises(DataError, match=hint):
        read_responses(tmp_path / "m.tsv")
