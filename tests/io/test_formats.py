from __future__ import annotations

import gzip
import pickle
import sys

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsnn.base.errors import DataError, MissingExtraError
from gsnn.io import Network, read_network, read_responses

pytest.importorskip("pyarrow")
pytest.importorskip("defusedxml")


def triples(network: Network) -> list[tuple[str, str, int]]:
    return list(network.edges.itertuples(index=False, name=None))


@pytest.fixture
def save(tmp_path):
    def save(content, name):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return save


# ---------------------------------------------------------------- packed, and refused


def test_packed_text(save, tmp_path):
    packed = save(gzip.compress(b"a\t1\tb\nb\t-1\tc\n"), "n.sif.gz")
    assert triples(read_network(packed)) == [("a", "b", 1), ("b", "c", -1)]
    assert triples(read_network(save(gzip.compress(b"source,target\na,b\n"), "n.csv.gz"))) == [("a", "b", 0)]
    found = read_responses(save(gzip.compress(b"TR:a,DV:b\n1,2\n"), "d.csv.gz"))
    assert found.readouts["b"].tolist() == [2]
    whole = packed.read_bytes()
    with pytest.raises(DataError, match="broken or truncated gzip archive"):
        read_network(save(whole[:-9], "short.sif.gz"))
    with pytest.raises(DataError, match="a gzip archive in a gzip archive"):
        read_network(save(gzip.compress(whole), "twice.sif.gz"))


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["n.gpickle", "n.pkl", "n.pickle", "n.csv", "n.sif", "n.gpickle.gz"])
def test_pickles_are_refused_unopened(save, protocol, name):
    content = pickle.dumps(_Trap(), protocol)
    path = save(gzip.compress(content) if name.endswith(".gz") else content, name)
    with pytest.raises(DataError) as caught:
        read_network(path)
    message = str(caught.value)
    assert "is a Python pickle, which runs code when it is opened and is never read here" in message
    assert "save it with networkx.write_graphml(G, 'network.graphml')" in message
    with pytest.raises(DataError, match=r"is a Python pickle.*frame\.to_csv\('table\.csv'\)"):
        read_responses(path)


def test_a_network_is_not_in_hdf5(save):
    with pytest.raises(
        DataError, match=r"is HDF5 .*give a network as one of 'sif', 'csv', 'tsv', 'parquet', 'graphml'"
    ):
        read_network(save(b"\x89HDF\r\n\x1a\nabc", "n.h5ad"))


# ---------------------------------------------------------------- OmniPath and SIGNOR

OMNIPATH = """source	target	source_genesymbol	target_genesymbol	is_directed	is_stimulation	is_inhibition	consensus_direction	consensus_stimulation	consensus_inhibition	sources
P1	P2	A	B	1	1	0	1	1	0	x
P2	P3	B	C	1	0	1	1	0	1	x
P3	P4	C	D	1	1	1	1	0	1	x
P4	P5	D	E	1	1	1	1	1	1	x
P5	P6	E	F	0	0	0	0	0	0	x
P6	P1	F	A	1	0	0	1	0	0	x
"""  # noqa: E501


def test_omnipath(save):
    network = read_network(save(OMNIPATH, "omnipath.tsv"))
    assert triples(network) == [
        ("P1", "P2", 1), ("P2", "P3", -1), ("P3", "P4", -1), ("P4", "P5", 0), ("P5", "P6", 0), ("P6", "P1", 0),
        ("P6", "P5", 0),
    ]  # fmt: skip
    assert network.warnings == [
        "1 edge both stimulating and inhibiting: the sign is the consensus",
        "names are taken from the columns 'source' and 'target'; gene symbols stand in source_genesymbol and "
        "target_genesymbol (source=, target=)",
        "1 undirected edge ('is_directed' says no) read in both directions; pass undirected='drop' to leave them out",
    ]


def test_omnipath_by_gene_symbol_and_without_undirected(save):
    network = read_network(
        save(OMNIPATH, "o.tsv"), source="source_genesymbol", target="target_genesymbol", undirected="drop"
    )
    assert [e[:2] for e in triples(network)] == [("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"), ("F", "A")]
    assert "1 undirected edge ('is_directed' says no) left out" in network.warnings
    header, *rows = OMNIPATH.splitlines()
    symbols = "\n".join("\t".join(line.split("\t")[2:]) for line in [header, *rows])
    assert triples(read_network(save(symbols, "s.tsv")))[0] == ("A", "B", 1)
    consensus = symbols.replace("is_", "was_")
    assert [e[2] for e in triples(read_network(save(consensus, "c.tsv")))][:4] == [1, -1, -1, 0]


def test_undirected_edges_that_stand_both_ways(save):
    content = "source,target,is_directed,is_stimulation,is_inhibition\na,b,0,1,0\nb,a,1,0,1\nc,c,0,0,0\nd,e,,0,0\n"
    network = read_network(save(content, "n.csv"))
    assert triples(network) == [("a", "b", 1), ("b", "a", -1), ("c", "c", 0), ("d", "e", 0), ("e", "d", 0)]
    assert network.duplicates == []
    with pytest.raises(DataError, match="no edge has a direction"):
        read_network(save("source,target,is_directed\na,b,0\n", "n.csv"), undirected="drop")
    with pytest.raises(DataError, match=r"line 2, column 'is_directed' \(column 3\): 'so' is neither yes nor no"):
        read_network(save("source,target,is_directed\na,b,so\n", "n.csv"))
    with pytest.raises(DataError, match="unknown undirected 'keep'; use one of 'both', 'drop'"):
        read_network(save(content, "n.csv"), undirected="keep")


def test_signor(save):
    content = (
        "ENTITYA\tTYPEA\tIDA\tENTITYB\tTYPEB\tIDB\tEFFECT\tMECHANISM\tDIRECT\n"
        "EGF\tprotein\tP1\tEGFR\tprotein\tP2\tup-regulates activity\tbinding\tt\n"
        "DUSP1\tprotein\tP3\tERK\tprotein\tP4\tdown-regulates quantity by destabilization\t\tf\n"
        "JUN\tprotein\tP5\tAP1\tcomplex\tC1\tform complex\tbinding\tt\n"
        "X\tprotein\tP6\tY\tprotein\tP7\tunknown\t\tt\n"
    )
    network = read_network(save(content, "signor.tsv"))
    assert triples(network) == [("EGF", "EGFR", 1), ("DUSP1", "ERK", -1), ("JUN", "AP1", 0), ("X", "Y", 0)]
    assert network.warnings == []
    assert triples(read_network(save(content, "s.tsv"), source="IDA", target="IDB"))[0] == ("P1", "P2", 1)


# ---------------------------------------------------------------- Parquet


def test_parquet_network(tmp_path):
    frame = pd.DataFrame(
        {
            "source": pd.Categorical(["a", "b", "c"]), "target": ["b", "c", "=d"], "weight": [0.5, 2.0, np.nan],
            "is_stimulation": [True, False, True], "is_inhibition": [False, True, False],
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "n.parquet")
    network = read_network(tmp_path / "n.parquet")
    assert triples(network) == [("a", "b", 1), ("b", "c", -1), ("c", "=d", 1)]
    assert network.sha256
    (tmp_path / "n.parquet").rename(tmp_path / "n.dat")
    assert triples(read_network(tmp_path / "n.dat")) == triples(network)  # by its content
    assert triples(read_network(tmp_path / "n.dat", format="parquet", sign="weight"))[1] == ("b", "c", 1)
    pd.DataFrame({"source": [1956, 5], "target": [5, 7]}).to_parquet(tmp_path / "entrez.parquet")
    assert triples(read_network(tmp_path / "entrez.parquet")) == [("1956", "5", 0), ("5", "7", 0)]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "unknown column layout; found columns 'a', 'b'"),
        (
            pd.DataFrame({"source": [1.0, 2.0], "target": ["b", "c"]}),
            "column 'source' holds double, where names must be",
        ),
        (pd.DataFrame({"source": ["a", None], "target": ["b", "c"]}), "row 2: a species name is empty"),
        (pd.DataFrame({"source": ["a", "b\nc"], "target": ["b", "c"]}), "row 2: the name 'b\\nc' holds a control"),
        (pd.DataFrame({"source": [], "target": []}), "holds a header and no rows"),
        (pd.DataFrame({"source": ["a"], "target": ["b"], "is_directed": ["so"]}), "row 1, column 'is_directed'"),
    ],
)
def test_parquet_network_errors(tmp_path, frame, message):
    frame.to_parquet(tmp_path / "n.parquet")
    with pytest.raises(DataError) as caught:
        read_network(tmp_path / "n.parquet")
    assert message in str(caught.value)


def test_parquet_without_columns(tmp_path):
    pd.DataFrame(index=range(3)).to_parquet(tmp_path / "n.parquet", index=False)
    with pytest.raises(DataError, match=r"n\.parquet' has no columns"):
        read_network(tmp_path / "n.parquet")


def test_notes_of_pandas_that_nobody_can_read_are_not_needed(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"source": ["a"], "target": ["b"]})
    parquet.write_table(table.replace_schema_metadata({"pandas": "{"}), tmp_path / "n.parquet")
    assert len(read_network(tmp_path / "n.parquet").edges) == 1


def test_broken_parquet(tmp_path, save):
    pd.DataFrame({"source": ["a"], "target": ["b"]}).to_parquet(tmp_path / "n.parquet")
    whole = (tmp_path / "n.parquet").read_bytes()
    with pytest.raises(DataError, match=r"is called Parquet and is not"):
        read_network(save(b"source,target\na,b\n", "n.parquet"))
    for content in (whole[:-20], b"PAR1"):
        with pytest.raises(DataError, match=r"is not a complete Parquet file \(.*write it again"):
            read_network(save(content, "n.parquet"))
    with pytest.raises(DataError, match=r"n\.dat' is parquet, and format='csv' was given; leave format out"):
        read_network(save(whole, "n.dat"), format="csv")


def test_parquet_responses(tmp_path):
    frame = pd.DataFrame(
        {"TR:egf": [0, 1, 1], "TR:meki": [False, False, True], "DA:ALL": [0, 30, 30], "DV:erk": [0, 0.1, None]}
    )
    frame.to_parquet(tmp_path / "midas.parquet")
    found = read_responses(tmp_path / "midas.parquet")
    assert found.treatments.to_numpy().tolist() == [[1, 0], [1, 1]]
    np.testing.assert_array_equal(found.readouts.to_numpy(), [[0.1], [np.nan]])
    assert (found.times, found.n_baseline, found.treatments.index.name) == ([30], 1, "row")


@pytest.mark.parametrize("name", [None, "sample"])
def test_parquet_matrices_are_paired_by_their_index(tmp_path, name):
    index = pd.Index(["s1", "s2"], name=name)
    pd.DataFrame({"a": [1.5, 0], "b": [0, 1]}, index).to_parquet(tmp_path / "x.parquet")
    pd.DataFrame({"c": [1, 2]}, index[::-1]).to_parquet(tmp_path / "y.parquet")
    found = read_responses(inputs=tmp_path / "x.parquet", outputs=tmp_path / "y.parquet")
    assert found.readouts["c"].tolist() == [2, 1]
    assert list(found.treatments.columns) == ["a", "b"]
    assert found.warnings == []


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("DV:b", [1.0, np.inf], "row 2, column 'DV:b' (column 2): 'inf' is not a number"),
        ("DV:b", ["1", "x"], "row 2, column 'DV:b' (column 2): 'x' is not a number"),
    ],
)
def test_parquet_response_errors(tmp_path, column, values, message):
    pd.DataFrame({"TR:a": [1, 0], column: values, "DV:c": [1, 2]}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError) as caught:
        read_responses(tmp_path / "d.parquet")
    assert message in str(caught.value)


# ---------------------------------------------------------------- GraphML


def graphml(body: str, keys: str = "", edgedefault: str = "directed") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
        f'{keys}<graph edgedefault="{edgedefault}">{body}</graph></graphml>'
    )


@pytest.mark.parametrize(
    ("attribute", "cells"),
    [
        ("sign", [1, -1]),
        ("interaction", ["activates", "inhibits"]),
        ("effect", ["up", "down"]),
        ("weight", [0.5, -2.0]),
    ],
)
def test_graphml_of_networkx(tmp_path, attribute, cells):
    G = nx.DiGraph()
    G.add_nodes_from(["z", "alone"])
    G.add_edge("a & b", "<c>", **{attribute: cells[0]})
    G.add_edge("<c>", "日本", **{attribute: cells[1]})
    nx.write_graphml_xml(G, tmp_path / "n.graphml")
    network = read_network(tmp_path / "n.graphml")
    assert triples(network) == [("a & b", "<c>", 1), ("<c>", "日本", -1)]
    assert network.species == ["z", "alone", "a & b", "<c>", "日本"]
    assert network.warnings == []


def test_graphml_flags_defaults_and_undirected(tmp_path, save):
    G = nx.Graph([("a", "b"), ("b", "c")])
    nx.write_graphml_xml(G, tmp_path / "n.graphml")
    network = read_network(tmp_path / "n.graphml")
    assert sorted(e[:2] for e in triples(network)) == [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")]
    assert "2 undirected edges" in network.warnings[0]
    keys = '<key id="d" for="edge" attr.name="sign" attr.type="int"><default>-1</default></key>'
    nodes = '<node id="a"/><node id="b"/><node id="c"/>'
    edges = '<edge source="a" target="b"/><edge source="b" target="c" directed="false"><data key="d">1</data></edge>'
    network = read_network(save(graphml(nodes + edges, keys), "d.graphml"))
    assert triples(network) == [("a", "b", -1), ("b", "c", 1), ("c", "b", 1)]
    assert [e[:2] for e in triples(read_network(save(graphml(nodes + edges), "d.graphml"), undirected="drop"))] == [
        ("a", "b")
    ]


KEYS = '<key id="v" for="node" attr.name="name" attr.type="string"/><key id="w" for="node" attr.name="place"/>'


def test_graphml_nodes_that_are_only_counted(save):
    body = (
        '<node id="62"><data key="v">EGF</data></node><node id="63"><data key="v">EGFR</data></node>'
        '<edge source="62" target="63"/>'
    )
    path = save(graphml(body, KEYS), "cytoscape.graphml")
    network = read_network(path)
    assert triples(network) == [("EGF", "EGFR", 0)]
    assert "named by their attribute 'name'" in network.warnings[0]
    assert triples(read_network(path, name="id")) == [("62", "63", 0)]
    assert triples(read_network(path, name="name")) == [("EGF", "EGFR", 0)]
    with pytest.raises(DataError, match=r"no node has the attribute 'nme' \(did you mean 'name'\?\)"):
        read_network(path, name="nme")
    twice = save(graphml(body.replace("EGFR", "EGF"), KEYS), "twice.graphml")
    with pytest.raises(DataError, match=r"'name' stands more than once: 'EGF' \(ids '62', '63'\)"):
        read_network(twice)
    assert triples(read_network(twice, name="id")) == [("62", "63", 0)]
    with pytest.raises(DataError, match="the attribute 'name' stands more than once: 'EGF'"):
        read_network(twice, name="name")
    named = save(graphml(body.replace('"62"', '"TP53"'), KEYS), "named.graphml")
    assert triples(read_network(named))[0][0] == "TP53"
    with pytest.raises(DataError, match="name= is for GraphML"):
        read_network(save("a\t1\tb\n", "n.sif"), name="id")


def test_a_chosen_name_must_name_every_node_once(save):
    key = '<key id="k" for="node" attr.name="gene" attr.type="string"/>'
    for second, message in (("", "'gene' leaves 1 node without a name"), ("A", "'gene' stands more than once: 'A'")):
        content = graphml(
            f'<node id="1"><data key="k">A</data></node><node id="2"><data key="k">{second}</data></node>'
            '<edge source="1" target="2"/>',
            key,
        )
        with pytest.raises(DataError, match=message):
            read_network(save(content, "n.graphml"), name="gene")


def test_graphml_of_yed(save):
    keys = '<key for="node" id="d6" yfiles.type="nodegraphics"/>'
    node = '<node id="{}"><data key="d6"><y:ShapeNode><y:NodeLabel>{}</y:NodeLabel></y:ShapeNode></data>{}</node>'
    group = node.format("n0", "cell", '<graph edgedefault="directed">' + node.format("n0::n0", "RAF", "") + "</graph>")
    body = group + node.format("n1", "MEK", "") + '<edge source="n0::n0" target="n1"/>'
    content = graphml(body, keys).replace("<graphml ", '<graphml xmlns:y="http://www.yworks.com/xml/graphml" ')
    network = read_network(save(content, "yed.graphml"))
    assert triples(network) == [("RAF", "MEK", 0)]
    assert set(network.species) == {"cell", "RAF", "MEK"}


BOMB = '<?xml version="1.0"?>\n<!DOCTYPE lolz [<!ENTITY lol "lol">' + "".join(
    f'<!ENTITY lol{i} "{f"&lol{i - 1 or chr(0)};".replace(chr(0), "") * 10}">' for i in range(1, 10)
) + "]>\n<graphml><graph><node id='&lol9;'/></graph></graphml>"  # fmt: skip
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><graphml><graph>&x;</graph></graphml>'
)


@pytest.mark.parametrize("content", [BOMB, OUTSIDE], ids=["bomb", "outside"])
def test_entities_are_refused(save, content):
    with pytest.raises(DataError, match="declares XML entities or refers to other files, which is refused"):
        read_network(save(content, "n.graphml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (graphml('<node id="a"/>')[:-20], "not well-formed XML"),
        ('<?xml version="1.0"?><svg/>', "is XML, not GraphML: its root is <svg>"),
        (graphml(""), "holds no nodes"),
        (graphml("") + "x", "line 2, column"),
        (graphml('<node id="a"/><node id="a"/>'), "has two nodes with the id 'a'"),
        (graphml('<node id="a"/><edge source="a" target="b"/>'), "edge 1: the node 'b' is not declared in the file"),
        (graphml('<node id=""/>'), "a species name is empty"),
        (graphml('<hyperedge><endpoint node="a"/></hyperedge>'), "has hyperedges"),
        (graphml('<node id="a"/></graph><graph>'), "holds 2 graphs; export one graph a file"),
        ("no xml", "is called GraphML and is no XML"),
        ("<a", "not well-formed XML (unclosed token)"),
        ("", "is empty"),
    ],
)
def test_graphml_errors(save, content, message):
    with pytest.raises(DataError) as caught:
        read_network(save(content, "n.graphml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("n.parquet", "pyarrow", "parquet"), ("n.graphml", "defusedxml.ElementTree", "graphml")],
)
def test_missing_extras_are_named(save, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'gsnn\[{extra}\]'"):
        read_network(save("PAR1" if extra == "parquet" else graphml(""), name))


_NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=5,
).filter(lambda name: name == name.strip())


@pytest.mark.parametrize("format", ["parquet", "graphml"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=st.lists(
        st.tuples(_NAME, _NAME, st.sampled_from([-1, 0, 1])), min_size=1, max_size=6, unique_by=lambda e: e[:2]
    )
)
def test_any_network_round_trips(tmp_path, format, edges):
    path = tmp_path / f"n.{format}"
    if format == "parquet":
        pd.DataFrame(edges, columns=["source", "target", "sign"]).to_parquet(path)
    else:
        G = nx.DiGraph()
        G.add_edges_from((s, t, {"sign": sign}) for s, t, sign in edges)
        nx.write_graphml_xml(G, path)
    network = read_network(path, **({"name": "id"} if format == "graphml" else {}))
    assert sorted(triples(network)) == sorted(edges)
    assert set(network.species) == {name for edge in edges for name in edge[:2]}
