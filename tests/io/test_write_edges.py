from __future__ import annotations

import gzip
import io
import sys
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsnn.base.errors import DataError, MissingExtraError
from gsnn.graph import Graph
from gsnn.io import EDGE_FORMATS, Network, read_edges, read_network, write_edges

h5py = pytest.importorskip("h5py")
FULL = ("csv", "tsv", "parquet", "graphml", "h5ad")  # SIF holds the relation only
NAN = float("nan")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "source": ["MEK", "RAF", "EGF"],
            "target": ["JUN", "ERK", "EGFR"],
            "score": [0.75, NAN, 0.5],
            "rank": pd.array([1, 2, None], dtype="Int64"),
            "p": [0.01, NAN, NAN],
            "q": [0.02, NAN, NAN],
            "known": [False, False, True],
            "precision": [0.1 + 0.2, 0.25, NAN],
            "method": ["magnitude", "corr", ""],
        }
    )


@pytest.fixture
def network():
    return Network.from_edges([("EGF", "EGFR", 1), ("EGFR", "RAF", -1), ("RAF", "MEK")], species=["alone"])


@pytest.fixture
def write(tmp_path, make_h5ad):
    def write(table, format, **kwargs):
        path = tmp_path / f"edges.{format}"
        if format == "h5ad":
            obs, var = pd.DataFrame(index=["c1"]), pd.DataFrame(index=["g1"])
            kwargs["h5ad"] = make_h5ad(obs, var, np.ones((1, 1)), name="before.h5ad")
        return write_edges(table, path, **kwargs)

    return write


def values(frame: pd.DataFrame) -> list[dict]:
    """Rows by edge, without what is undefined: formats differ in how they store that."""
    rows = [{k: v for k, v in row.items() if not (pd.isna(v) or v == "")} for row in frame.to_dict("records")]
    return sorted(rows, key=lambda row: (row["source"], row["target"]))


EXPECTED = [
    {"source": "EGF", "target": "EGFR", "status": "known", "score": 0.5, "sign": 1},
    {"source": "EGFR", "target": "RAF", "status": "known", "sign": -1},
    {"source": "MEK", "target": "JUN", "status": "proposed", "score": 0.75, "rank": 1, "p": 0.01, "q": 0.02,
     "precision": 0.1 + 0.2, "method": "magnitude"},
    {"source": "RAF", "target": "ERK", "status": "proposed", "rank": 2, "precision": 0.25, "method": "corr"},
    {"source": "RAF", "target": "MEK", "status": "known", "sign": 0},
]  # fmt: skip


@pytest.mark.parametrize("format", FULL)
def test_round_trip(write, table, network, format):
    back = read_edges(write(table, format, graph=network))
    assert values(back) == EXPECTED
    assert list(back.columns[:8]) == ["source", "target", "status", "score", "p", "q", "sign", "rank"] or list(
        back.columns[:8]
    ) == ["source", "target", "status", "score", "sign", "rank", "p", "q"]
    assert [str(back[c].dtype) for c in ("score", "sign", "rank", "p", "q")] == [
        "float64", "Int8", "Int64", "float64", "float64",
    ]  # fmt: skip


def test_sif(write, table, network):
    path = write(table, "sif", graph=network)
    assert path.read_text() == (
        "MEK\tproposed-interacts\tJUN\nRAF\tproposed-interacts\tERK\nEGF\tactivates\tEGFR\n"
        "EGFR\tinhibits\tRAF\nRAF\tinteracts\tMEK\nalone\n"
    )
    back = read_edges(path)
    assert [(r["source"], r["target"], r["status"]) for r in values(back)] == [
        (r["source"], r["target"], r["status"]) for r in EXPECTED
    ]
    again = read_network(path)
    assert set(again.species) == {"EGF", "EGFR", "RAF", "MEK", "JUN", "ERK", "alone"}
    assert again.warnings == []
    signed = table.assign(sign=[-1, 1, 0])
    assert "MEK\tproposed-inhibits\tJUN\n" in write(signed, "sif").read_text()
    assert read_network(write(signed, "sif")).edges["sign"].tolist() == [-1, 1, 0]


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "sif", "graphml"])
def test_what_is_written_is_a_network(write, table, network, format):
    found = read_network(write(table, format, graph=network))
    edges = {(s, t): sign for s, t, sign in found.edges.itertuples(index=False, name=None)}
    assert edges == {(r["source"], r["target"]): r.get("sign", 0) for r in EXPECTED}
    if format != "sif":
        assert any("2 edges marked as proposed" in warning for warning in found.warnings)


@pytest.mark.parametrize("format", ["csv", "tsv", "sif", "graphml"])
def test_packed(write, table, network, format):
    plain = write(table, format, graph=network).read_bytes()
    path = write(table, f"{format}.gz", graph=network)
    first = path.read_bytes()
    assert gzip.decompress(first) == plain
    assert write(table, f"{format}.gz", graph=network).read_bytes() == first
    assert len(read_edges(path)) == len(EXPECTED)
    assert len(read_network(path).edges) == len(EXPECTED)


def test_graphml_is_what_cytoscape_and_networkx_read(write, table):
    graph = Graph.from_edges(
        [("TR:EGF", "EGF"), ("EGF", "EGFR", 1), ("MEK", "DV:MEK")],
        input_nodes=["TR:EGF"],
        function_nodes=["EGF", "EGFR", "MEK", "RAF", "JUN", "ERK"],
        output_nodes=["DV:MEK"],
    )
    path = write(table, "graphml", graph=graph)
    root = ElementTree.parse(path).getroot()
    space = "{http://graphml.graphdrawing.org/xmlns}"
    # The types its reader knows; an attribute of another type is dropped without a word.
    types = {key.get("attr.name"): key.get("attr.type") for key in root.iter(f"{space}key")}
    assert set(types.values()) <= {"boolean", "int", "long", "float", "double", "string"}
    assert types["score"] == "double"
    assert types["rank"] == types["sign"] == "long"
    # One key per attribute: with two, the second column would hide the first.
    assert len(list(root.iter(f"{space}key"))) == len(types)
    tags = [element.tag.removeprefix(space) for element in root.iter() if element.tag.endswith(("node", "edge"))]
    assert tags == sorted(tags, reverse=True)  # every node before the first edge, which is looked up among them
    assert "nan" not in path.read_text().casefold()  # Java has another word for it
    G = nx.read_graphml(path)
    assert G.is_directed()
    assert G.edges["MEK", "JUN"] == {
        "interaction": "interacts", "status": "proposed", "score": 0.75, "rank": 1, "p": 0.01, "q": 0.02,
        "precision": 0.1 + 0.2, "method": "magnitude",
    }  # fmt: skip
    assert G.edges["EGF", "EGFR"] == {
        "interaction": "activates",
        "status": "known",
        "score": 0.5,
        "sign": 1,
        "method": "",
    }
    assert G.nodes["EGF"] == {"perturbed": True, "measured": False}
    assert G.nodes["MEK"] == {"perturbed": False, "measured": True}
    assert set(G) == set(graph.functions)


def test_the_table_of_an_inferer(write):
    table = pd.DataFrame(
        {
            "src_func": pd.Categorical(["a", "b"]), "dst_func": pd.Categorical(["b", "a"]), "src_idx": [0, 1],
            "dst_idx": [1, 0], "corr": np.array([0.5, 0.25], np.float32), "has_edge": [True, False],
            "p_value": [0.5, 0.25],
        }
    )  # fmt: skip
    back = read_edges(write(table, "parquet"))
    assert back["status"].tolist() == ["known", "proposed"]
    assert back["corr"].tolist() == [0.5, 0.25]
    assert back["p"].tolist() == [0.5, 0.25]
    assert "src_idx" not in back


def test_the_edges_of_a_run(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,score,rank,p,q,known\nNA,b,0.5,1,,,False\nb,007,,,,,True\n")
    back = read_edges(path)
    assert back["source"].tolist() == ["NA", "b"]
    assert back["target"].tolist() == ["b", "007"]
    assert back["status"].tolist() == ["proposed", "known"]
    assert back["rank"].tolist() == [1, pd.NA]


@pytest.mark.parametrize("format", EDGE_FORMATS)
def test_nothing_proposed(write, network, format):
    empty = pd.DataFrame({"source": [], "target": [], "score": []})
    back = read_edges(write(empty, format, graph=network))
    assert back["status"].tolist() == ["known"] * 3
    if format != "sif":  # an empty SIF file is empty
        assert len(read_edges(write(empty, format))) == 0


# ---------------------------------------------------------------- hostile names

HOSTILE = ["=1+2", "+x", "-y", "@z", 'a"b', "it's", "β-catenin", "日本", "🧬", "a,b", "a;b", "NA", "007", "1e5", "True",
           "a b", "<b>&amp;", "]]>", "#n", "a|b", "é", "e\u0301", "null", "\u202eabc"]  # fmt: skip


@pytest.mark.parametrize("format", EDGE_FORMATS)
def test_hostile_names_survive(write, format):
    names = [n for n in HOSTILE if not (format == "sif" and n.startswith("#"))]
    table = pd.DataFrame({"source": names, "target": names[::-1]})
    table = table[table["source"] != table["target"]].assign(score=1.0)
    back = read_edges(write(table, format))
    assert sorted(zip(back["source"], back["target"], strict=True)) == sorted(
        zip(table["source"], table["target"], strict=True)
    )
    if format != "h5ad":
        assert set(read_network(write(table, format)).species) == set(table["source"]) | set(table["target"])


@pytest.mark.parametrize("format", FULL)
def test_a_tab_and_blanks_survive_where_there_are_quotes(write, format):
    table = pd.DataFrame({"source": ["a\tb", " x"], "target": ["c", "y "]})
    assert values(read_edges(write(table, format))) == [
        {"source": " x", "target": "y ", "status": "proposed"},
        {"source": "a\tb", "target": "c", "status": "proposed"},
    ]


@pytest.mark.parametrize("name", ["a\tb", " a", "a ", "#a", "\ufeffa"])
def test_sif_refuses_what_it_cannot_hold(write, name):
    with pytest.raises(DataError, match=r"cannot stand in SIF.*write CSV, Parquet or GraphML"):
        write(pd.DataFrame({"source": [name], "target": ["b"]}), "sif")


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_formulas(write, format):
    table = pd.DataFrame({"source": ["=cmd()", "b", "@x"], "target": ["c", "-d", "e"], "score": [-0.5, 1, 2]})
    assert read_edges(write(table, format))["source"].tolist() == ["=cmd()", "b", "@x"]
    quoted = read_edges(write(table, format, formulas="quote"))
    assert quoted["source"].tolist() == ["'=cmd()", "b", "'@x"]
    assert quoted["target"].tolist() == ["c", "'-d", "e"]
    assert quoted["score"].tolist() == [-0.5, 1, 2]  # a negative number is a number
    with pytest.raises(DataError, match="column 'source' holds what a spreadsheet would run as a formula: '=cmd"):
        write(table, format, formulas="refuse")
    with pytest.raises(ValueError, match="unknown formulas 'qote'"):
        write(table, format, formulas="qote")


_NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=6,
)
_EDGE = st.tuples(
    _NAME,
    _NAME,
    st.floats(allow_infinity=False),
    st.sampled_from([-1, 0, 1, None]),
    st.sampled_from(["known", "proposed"]),
)


@pytest.mark.parametrize("format", EDGE_FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(_EDGE, min_size=1, max_size=5, unique_by=lambda e: e[:2]))
def test_any_edges_round_trip(write, format, edges):
    if format == "sif":
        edges = [e for e in edges if all(n == n.strip() and not n.startswith(("#", "\ufeff")) for n in e[:2])]
        edges = edges or [("a", "b", 0.0, 1, "known")]
    table = pd.DataFrame(edges, columns=["source", "target", "score", "sign", "status"])
    table["sign"] = table["sign"].astype("Int8")
    back = read_edges(write(table, format))
    if format == "sif":
        table = table.drop(columns="score").assign(sign=table["sign"].fillna(0))
    expected = values(table)
    got = [{k: row[k] for k in row if k in table.columns} for row in values(back)]
    assert got == expected


# ---------------------------------------------------------------- AnnData


def test_uns_of_a_copy_and_in_place(tmp_path, make_h5ad, table):
    before = make_h5ad(pd.DataFrame({"d": [1]}, index=["c"]), pd.DataFrame(index=["g"]), np.ones((1, 1)), name="a.h5ad")
    original = before.read_bytes()
    copy = write_edges(table, tmp_path / "b.h5ad", h5ad=before)
    assert before.read_bytes() == original
    assert len(read_edges(copy)) == 3
    write_edges(table.iloc[:1], copy)  # in place; replaces the first
    assert len(read_edges(copy)) == 1
    write_edges(table, copy, key="more")
    assert len(read_edges(copy)) == 1
    assert len(read_edges(copy, key="more")) == 3
    with h5py.File(copy) as file:
        assert file["X"][:].tolist() == [[1.0]]
        assert file["obs/d"][:].tolist() == [1]
    with pytest.raises(DataError, match=r"no table uns\['mre'\] \(did you mean 'more'\?\)"):
        read_edges(copy, key="mre")
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_uns_errors_leave_the_file_alone(tmp_path, make_h5ad, table):
    path = make_h5ad(pd.DataFrame(index=["c"]), pd.DataFrame(index=["g"]), np.ones((1, 1)))
    with h5py.File(path, "r+") as file:
        file["uns"]["mine"] = [1, 2]
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"uns\['mine'\] is there already and is no table; pass another key="):
        write_edges(table, path, key="mine")
    with pytest.raises(DataError, match="key must be a name without '/'"):
        write_edges(table, path, key="a/b")
    assert path.read_bytes() == before
    with pytest.raises(DataError, match=r"does not exist; pass h5ad="):
        write_edges(table, tmp_path / "new.h5ad")
    (tmp_path / "bad.h5ad").write_bytes(before[:600])
    with pytest.raises(DataError, match="cannot be opened as HDF5"):
        write_edges(table, tmp_path / "bad.h5ad")
    with pytest.raises(DataError, match="h5ad= is for AnnData"):
        write_edges(table, tmp_path / "edges.csv", h5ad=path)


def test_the_real_package_reads_uns(tmp_path, table, network):
    anndata = pytest.importorskip("anndata", reason="AnnData is not installed; its format is tested without it")
    anndata.AnnData(np.ones((2, 2), np.float32), uns={"other": {"x": 1}}).write_h5ad(tmp_path / "a.h5ad")
    write_edges(table, tmp_path / "b.h5ad", graph=network, h5ad=tmp_path / "a.h5ad")
    data = anndata.read_h5ad(tmp_path / "b.h5ad")
    assert data.uns["other"]["x"] == 1
    found = data.uns["gsnn_edges"]
    assert values(found) == EXPECTED
    data.write_h5ad(tmp_path / "c.h5ad")
    assert values(read_edges(tmp_path / "c.h5ad")) == EXPECTED


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="target"), "edges must have the columns source and target, got 'source', 'score'"),
        (lambda t: t.assign(source=[None, "b", "c"]), "column 'source' must hold names as text, got nothing in row 1"),
        (lambda t: t.assign(source=["a", "", "c"]), "column 'source' must hold names as text, got nothing in row 2"),
        (lambda t: t.assign(target=[1, 2, 3]), "column 'target' must hold names as text, got 1 in row 1"),
        (lambda t: t.assign(target=["a", "b\nc", "d"]), "the name 'b\\nc' in row 2 holds a control character"),
        (
            lambda t: t.assign(target=pd.Series(["a", "b\ud800", "d"], dtype=object)),
            "the name 'b\\ud800' in row 2 holds a control character",
        ),
        (lambda t: pd.concat([t, t]), "3 edges more than once in the table: 'MEK -> JUN', 'RAF -> ERK'"),
        (lambda t: t.assign(score=["0.5", "x", "1"]), "column 'score' must hold numbers, got 'x' in row 2"),
        (lambda t: t.assign(score=[True, False, True]), "column 'score' must hold numbers, got"),
        (lambda t: t.assign(sign=[1, 2, 0]), "column 'sign' must hold -1, 0 or 1, got 2 in row 2"),
        (lambda t: t.assign(rank=[1.5, 2, 3]), "column 'rank' must hold integers from 1, got 1.5 in row 1"),
        (lambda t: t.assign(rank=[1, 0, 3]), "column 'rank' must hold integers from 1, got 0 in row 2"),
        (
            lambda t: t.assign(status=["known", "new", "known"]),
            "column 'status' must hold 'known' or 'proposed', got 'new'",
        ),
        (lambda t: t.assign(known=[True, None, False]), "column 'known' must hold True or False in every row"),
        (lambda t: t.set_axis([*t.columns[:-1], "score"], axis=1), "edges have two columns 'score'"),
    ],
)
@pytest.mark.parametrize("format", ["csv", "graphml"])
def test_errors(write, table, tmp_path, change, message, format):
    with pytest.raises(DataError) as caught:
        write(change(table), format)
    assert message in str(caught.value)
    assert list(tmp_path.glob("edges*")) == []


def test_an_edge_cannot_be_proposed_and_known(write, table, network):
    with pytest.raises(DataError, match="1 edge proposed in the table and known in the graph: 'EGF -> EGFR'"):
        write(table.assign(known=False), "csv", graph=network)
    # A table that says nothing about it takes the word of the graph.
    back = read_edges(write(table.drop(columns="known"), "csv", graph=network))
    assert values(back)[0]["status"] == "known"


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("edges.xlsx", {}, "unknown extension '.xlsx' for edges; use .csv, .tsv, .tab, .parquet, .pq, .sif, .graphml"),
        ("edges.grapml", {}, "unknown extension '.grapml' (did you mean '.graphml'?)"),
        ("edges", {}, "unknown extension '(none)'"),
        ("edges.gz", {}, "unknown extension '(none)'"),
        ("edges.csv", {"format": "xml"}, "unknown format 'xml'"),
        ("edges.parquet.gz", {}, "Parquet is packed already"),
    ],
)
def test_unknown_formats_name_the_known(table, tmp_path, name, kwargs, message):
    with pytest.raises(DataError) as caught:
        write_edges(table, tmp_path / name, **kwargs)
    assert message in str(caught.value)


def test_graphml_has_no_place_for_what_is_no_character(write, table):
    with pytest.raises(DataError, match=r"hold a character that XML has no place for; write CSV or Parquet"):
        write(table.assign(target=["a", "b\uffff", "c"]), "graphml")


def test_columns_of_booleans_come_back_as_such(tmp_path):
    mine = pd.DataFrame({"source": ["a", "b"], "target": ["b", "a"], "score": [2.0, 1.0], "seen": [True, False]})
    mine["unsure"] = pd.array([True, None], dtype="boolean")
    back = read_edges(write_edges(mine, tmp_path / "e.txt", format="csv"), format="csv")
    assert back["seen"].tolist() == [True, False]
    assert back["unsure"].isna().tolist() == [False, True]


def test_graphml_has_no_word_for_infinity(write, table):
    with pytest.raises(DataError, match="column 'score' holds an infinite value"):
        write(table.assign(score=[np.inf, 1, 2]), "graphml")


def test_other_arguments(table, tmp_path):
    with pytest.raises(TypeError, match="pandas DataFrame, got list"):
        write_edges([], tmp_path / "edges.csv")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        write_edges(table, tmp_path / "nowhere" / "edges.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "source,target,score\na,b,x\n", "e.csv': column 'score' must hold numbers, got 'x' in row 1"),
        ("e.csv", "a,b\n1,2\n", "e.csv': edges must have the columns source and target"),
        ("e.sif", "a\tfrobs\tb\n", "relations 'frobs' are none that write_edges writes"),
        ("e.parquet", "nonsense", "e.parquet' is called Parquet and is not"),
        ("e.parquet", "PAR1", "e.parquet' is not a complete Parquet file"),
        ("e.graphml", "<graphml", "line 1, column 1: not well-formed XML (unclosed token)"),
        ("e.h5ad", "text", "is not HDF5"),
    ],
)
def test_reading_errors(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_edges(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("format", "module", "extra"), [("parquet", "pyarrow", "parquet"), ("h5ad", "h5py", "anndata")]
)
def test_missing_extras_are_named(table, tmp_path, monkeypatch, format, module, extra):
    (tmp_path / "e.h5ad").touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"gsnn\[{extra}\]"):
        write_edges(table, tmp_path / f"e.{format}")


def test_parquet_is_read_by_pandas(write, table):
    frame = pd.read_parquet(io.BytesIO(write(table, "parquet").read_bytes()))
    assert frame["source"].tolist() == ["MEK", "RAF", "EGF"]
    assert str(frame["rank"].dtype) == "Int64"
