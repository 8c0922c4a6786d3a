from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.io import read_responses

NAN = float("nan")


@pytest.fixture
def write(tmp_path):
    def write(content, name="d.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def read(write):
    return lambda content, name="d.csv", **kwargs: read_responses(write(content, name), **kwargs)


def same(frame: pd.DataFrame, values) -> None:
    np.testing.assert_array_equal(frame.to_numpy(), np.array(values, dtype=float))


# ---------------------------------------------------------------- MIDAS


def test_midas(read):
    found = read("TR:HepG2:CellLine,TR:egf,TR:meki,DA:erk,DA:akt,DV:erk,DV:akt\n"
                 "1,0,0,0,0,0,0\n1,1,0,30,30,0.5,NaN\n1,1,1,30,30,-1e-2,.25\n")  # fmt: skip
    assert list(found.treatments.columns) == ["egf", "meki"]
    assert list(found.readouts.columns) == ["erk", "akt"]
    same(found.treatments, [[1, 0], [1, 1]])
    same(found.readouts, [[0.5, NAN], [-0.01, 0.25]])
    assert list(found.treatments.index) == [3, 4]
    assert (found.times, found.n_baseline, found.warnings) == ([30.0], 1, [])
    assert "2 samples, 2 treatments, 2 readouts, 1 missing value, time 30 (1 baseline row left out)" in str(found)


@pytest.mark.parametrize("cell", ["", " ", "NA", "na", "NaN", "nan", " NAN ", '""', '"NA"'])
def test_missing_cells(read, cell):
    found = read(f"TR:a,DV:b,DV:c\n1,{cell},2\n0,1,{cell}\n")
    same(found.readouts, [[NAN, 2], [1, NAN]])


def test_spreadsheet_export(read):
    found = read("\ufeffTR:a;DV:b\r\n1;0.5\r\n0;\r\n;\r\n")
    same(found.readouts, [[0.5], [NAN]])


def test_last_time_is_used_unless_told(read):
    content = "TR:a,DA:ALL,DV:b\n0,0,0\n1,10,1\n0,10,2\n1,30,3\n0,30,4\n"
    found = read(content)
    same(found.readouts, [[3], [4]])
    assert found.times == [30]
    assert "2 rows at other times left out (times in the file: 10, 30)" in found.warnings
    same(read(content, time=10).readouts, [[1], [2]])
    same(read(content, time="10").readouts, [[1], [2]])
    with pytest.raises(DataError, match=r"no rows at time 20; its times after 0: 10, 30"):
        read(content, time=20)
    with pytest.raises(DataError, match="baseline"):
        read(content, time=0)
    with pytest.raises(DataError, match="must be a number"):
        read(content, time="soon")


def test_a_condition_that_lacks_the_last_time_is_noted(read):
    found = read("TR:a,DA:ALL,DV:b\n1,10,1\n0,10,2\n1,30,3\n")
    assert "1 condition without a row at the chosen time left out" in found.warnings


def test_times_may_differ_between_readouts(read):
    found = read(
        "TR:a,DA:b,DA:c,DV:b,DV:c\n"
        "0,0,0,9,9\n"  # baseline of both
        "1,0,10,9,1\n"  # baseline of b only: c counts
        "0,10,10,2,3\n"
        "1,30,0,4,9\n"
        "0,30,5,5,9\n"
    )
    same(found.treatments, [[1], [0], [1], [0]])
    same(found.readouts, [[NAN, 1], [NAN, 3], [4, NAN], [5, NAN]])
    assert found.n_baseline == 1
    assert found.times == [10, 30]
    assert any("different times" in w for w in found.warnings)


def test_only_baseline(read):
    with pytest.raises(DataError, match="every row is at time 0"):
        read("TR:a,DA:ALL,DV:b\n0,0,0\n1,0,0\n")
    assert len(read("TR:a,DA:ALL,DV:b\n0,0,0\n1,0,0\n", format="matrix").treatments) == 2


def test_cell_lines(read):
    content = "TR:X:CellLine,TR:Y:CellLine,TR:a,DV:b\n1,0,1,1\n1,0,0,2\n0,1,1,3\n"
    pooled = read(content)
    assert len(pooled.treatments) == 3
    assert "'X', 'Y'" in pooled.warnings[0]
    same(read(content, cell_line="Y").readouts, [[3]])
    with pytest.raises(DataError, match="no cell line 'Z'"):
        read(content, cell_line="Z")
    assert read("TR:a b:cellline,TR:a,DV:b\nyes,1,1\nyes,0,2\n").warnings == []


def test_suffixes_and_ignored_columns(read):
    found = read("ID:plate,TR:egf:Stimuli,TR:mek:Inhibitors,TR:NOCYTO,remark,DV:erk\np1,1,0,0,good,1\np2,0,1,1,,2\n")
    assert list(found.treatments.columns) == ["egf", "meki"]
    assert found.kinds == {"egf": "stimulus", "meki": "inhibitor"}
    assert list(found.treatments.index) == ["p1", "p2"]
    assert found.warnings == ["columns without TR:, DA: or DV: ignored: 'remark'"]


def test_a_first_column_without_prefix_is_a_label_if_it_is_text(read):
    assert list(read("who,TR:a,DV:b\nx,1,1\ny,0,2\n").treatments.index) == ["x", "y"]
    assert list(read(",TR:a,DV:b\n7,1,1\n8,0,2\n").treatments.index) == ["7", "8"]
    repeated = read("who,TR:a,DV:b\nx,1,1\nx,0,2\n")
    assert list(repeated.treatments.index) == [2, 3]
    numbers = read("dose,TR:a,DV:b\n7,1,1\n8,0,2\n")
    assert numbers.warnings == ["columns without TR:, DA: or DV: ignored: 'dose'"]


def test_times_of_all_and_of_one(read):
    found = read("TR:a,DA:ALL,DA:c,DA:x,DV:b,DV:c\n0,0,5,1,9,1\n1,10,0,1,2,9\n")
    same(found.readouts, [[NAN, 1], [2, NAN]])
    assert "times without a readout ignored: 'x'" in found.warnings


def test_prefixes_in_any_case_and_names_with_colons(read):
    found = read("tr: egf ,dv:p:38\n1,1\n")
    assert (list(found.treatments), list(found.readouts)) == (["egf"], ["p:38"])


def test_names_stay_text(read):
    names = ["NA", "nan", "007", "1e5", "TRUE", '"q"', "<", "x=y", "β"]
    header = ",".join('"TR:{}"'.format(n.replace('"', '""')) for n in names)
    assert list(read(f"{header},DV:NA\n{'1,' * len(names)}2\n").treatments) == names


# ---------------------------------------------------------------- matrices


@pytest.mark.parametrize("first", ["", "sample", "Condition", "what"])
def test_matrices_are_aligned_by_identifier(write, first):
    found = read_responses(
        inputs=write(f"{first}\tegf\tmeki\ns1\t1\t0\ns2\t0\t1\n", "x.tsv"),
        outputs=write(f"{first},erk\ns2,2\ns1,\n", "y.csv"),
    )
    assert list(found.treatments.index) == ["s1", "s2"] == list(found.readouts.index)
    same(found.readouts, [[NAN], [2]])
    assert set(found.paths) == set(found.sha256) == {"inputs", "outputs"}


def test_matrices_without_identifiers(write):
    found = read_responses(inputs=write("egf,ras\n1,0\n0,1\n", "x.csv"), outputs=write("erk\n1\n2\n", "y.csv"))
    same(found.treatments, [[1, 0], [0, 1]])
    same(found.readouts, [[1], [2]])


def test_numeric_identifiers_without_a_name(write):
    found = read_responses(inputs=write(",egf\n1,1\n01,0\n", "x.csv"), outputs=write(",erk\n01,5\n1,6\n", "y.csv"))
    assert list(found.treatments.index) == ["1", "01"]
    same(found.readouts, [[6], [5]])


def test_prefixes_are_taken_off_matrices(write):
    found = read_responses(inputs=write("TR:egf,TR:meki\n1,0\n", "x.csv"), outputs=write("DV:erk\n1\n", "y.csv"))
    assert (list(found.treatments), list(found.readouts)) == (["egf", "meki"], ["erk"])


def test_identifiers_in_one_table_only(write):
    found = read_responses(inputs=write("id,egf\na,1\nb,0\n", "x.csv"), outputs=write("erk\n1\n2\n", "y.csv"))
    assert list(found.readouts.index) == ["a", "b"]
    assert "paired in order" in found.warnings[0]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ("id,a\ns1,1\ns2,2\n", "id,b\ns1,1\ns3,2\n", ["'s2'", "'s3'", "different samples"]),
        ("id,a\ns1,1\ns1,2\n", "id,b\ns2,1\ns1,2\n", ["'s1'", "more than once"]),
        ("a\n1\n2\n", "b\n1\n", ["2 rows", "1"]),
        ("id,a\ns1,\n", "id,b\ns1,1\n", ["x.csv, line 2, column 'a'", "write 0"]),
        ("a,,c\n1,2,3\n", "b\n1\n", ["column 2 has no name"]),
        ("id\ns1\n", "id,b\ns1,1\n", ["no treatment columns"]),
        ("id,a\ns1,1\n", "id,b\ns1,x\n", ["y.csv, line 2, column 'b'", "'x' is not a number"]),
    ],
)
def test_matrix_errors(write, x, y, words):
    with pytest.raises(DataError) as caught:
        read_responses(inputs=write(x, "x.csv"), outputs=write(y, "y.csv"))
    for word in words:
        assert word in str(caught.value)


def test_a_slip_in_the_first_of_numeric_columns_is_no_identifier(write):
    with pytest.raises(DataError, match=r"line 3, column 'a' \(column 1\): 'o' is not a number"):
        read_responses(inputs=write("a,b\n1,1\no,2\n", "x.csv"), outputs=write("c\n1\n2\n", "y.csv"))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("content", "kwargs", "words"),
    [
        ("", {}, ["is empty"]),
        (b"\x00\x01", {}, ["binary"]),
        ("a,b\n1,2\n", {}, ["no treatment (TR:) and readout (DV:) columns", "'a', 'b'", "inputs="]),
        ("a\t1\tb\nb\t-1\tc\n", {}, ["a network in SIF", "swapped"]),
        ("TR:a,b\n1,2\n", {}, ["no readout (DV:)"]),
        ("DV:a,b\n1,2\n", {}, ["no treatment (TR:)"]),
        ("TR:a,DV:b\n1,1\n0,abc\n0,def\n", {}, ["line 3, column 'DV:b' (column 2)", "'abc'", "1 more"]),
        ("TR:a;DV:b\n1;0,5\n", {}, ["'0,5'", "decimal point"]),
        ("TR:a,DV:b\n1,inf\n", {}, ["line 2", "'inf'"]),
        ("TR:a,DV:b\n1,1_000\n", {}, ["line 2", "'1_000'"]),
        ("# c\n\nTR:a,DV:b\n\nx,1\n", {}, ["line 5, column 'TR:a'"]),
        ("TR:a,DV:b\n1,1\n1\n", {}, ["line 3", "1 field where"]),
        ("TR:a,DA:b,DA:b,DV:b\n1,1,1,1\n", {}, ["duplicated time columns"]),
        ("TR:,DV:b\n1,1\n", {}, ["column 1", "without a species"]),
        ("TR:a,DA:x,DV:b\n1,1,1\n", {}, ["no time for the readouts 'b'", "DA:ALL"]),
        ("TR:a,DA:b,DV:b\n1,1,1\n1,,1\n", {}, ["line 3, column 'DA:b'", "time"]),
        ("TR:a,DA:b,DV:b\n1,x,1\n", {}, ["column 'DA:b'", "'x'"]),
        ("TR:a,DV:b\n1,1\n", {"time": 3}, ["no times"]),
        ("TR:a,DV:b\n1,1\n", {"format": "midas"}, ["no DA: columns"]),
        ("TR:a,DV:b\n1,1\n", {"format": "xls"}, ["unknown format 'xls'"]),
        ("TR:a,DV:b\n", {}, ["a header and no rows"]),
        ("TR:X:CellLine,TR:a,DV:b\n0,1,1\n0,1,2\n", {"cell_line": "X"}, ["no row is of cell line 'X'"]),
        ("TR:a,DV:b\n1,1\n", {"cell_line": "X"}, ["no cell line 'X'; it has none"]),
    ],
)
def test_errors_say_where_and_what_to_do(read, content, kwargs, words):
    with pytest.raises(DataError) as caught:
        read(content, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_time_of_a_missing_value_is_fine(read):
    same(read("TR:a,DA:b,DA:c,DV:b,DV:c\n1,,5,NA,1\n0,5,5,2,3\n").readouts, [[NAN, 1], [2, 3]])


@pytest.mark.parametrize(
    "arguments", [{}, {"inputs": "x"}, {"outputs": "y"}, {"path": "d", "inputs": "x", "outputs": "y"}]
)
def test_what_to_read_must_be_clear(arguments):
    with pytest.raises(DataError, match="either one response file, or both"):
        read_responses(**arguments)


def test_times_belong_to_midas(write):
    x = write("a\n1\n", "x.csv")
    with pytest.raises(DataError, match="belong to a MIDAS file"):
        read_responses(inputs=x, outputs=x, time=3)
    with pytest.raises(DataError, match=r"belong to one \.h5ad file"):
        read_responses(inputs=x, outputs=x, anndata={"perturbation": "drug"})


def test_the_object_says_what_it_holds(read):
    found = read("TR:a,TR:b,DA:c,DV:c\n0,0,0,0.5\n1,0,30,1\n0,1,30,\n")
    assert str(found).splitlines()[0].endswith("time 30 (1 baseline row left out)")
    assert "time" not in str(read("TR:a,DV:c\n0,1\n1,2\n", name="plain.csv"))
