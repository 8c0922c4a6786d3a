"""Networks as people really have them: the right edges, or a refusal that says how to read the file."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.graph import Graph
from gsnn.io import Network, read_network
from gsnn.io.names import spreadsheet_dates

EDGES = [("EGF", "EGFR", 1), ("TNF", "TNFR", 1), ("EGFR", "RAS", 1), ("RAS", "RAF", 1), ("AKT", "RAF", -1)]
SIF = [[s, str(sign), t] for s, t, sign in EDGES]


@pytest.fixture
def read(tmp_path):
    def write_and_read(rows, file="n.sif", separator="\t", **kwargs):
        path = tmp_path / file
        content = rows if isinstance(rows, str) else "".join(separator.join(row) + "\n" for row in rows)
        path.write_text(content, encoding="utf-8")
        return read_network(path, **kwargs)

    return write_and_read


def triples(network):
    return list(network.edges.itertuples(index=False, name=None))


def pairs(edges):
    return [edge[:2] for edge in edges]


# ---------------------------------------------------------------- tables without a header

NUMBERED = {
    "name id name id": (lambda s, t, v, i: [s, str(1900 + i), t, str(2000 + i)], (1, 3, None)),
    "with a score and notes": (lambda s, t, v, i: [s, str(1900 + i), t, str(2000 + i), "0.7", "pmids:1"], (1, 3, None)),
    "ids, score": (lambda s, t, v, i: [f"19{ord(s[0])}", f"20{ord(t[0])}{i}", f"0.6{i}"], (1, 2, None)),
    "ids, score, directed": (lambda s, t, v, i: [f"19{ord(s[0])}", f"20{ord(t[0])}{i}", f"0.6{i}", "1"], (1, 2, None)),
    "names, score": (lambda s, t, v, i: [s, t, f"{i + 1}30"], (1, 2, None)),
    "names, sign": (lambda s, t, v, i: [s, t, str(v)], (1, 2, 3)),
    "names, word": (lambda s, t, v, i: [s, t, "activates" if v > 0 else "inhibits"], (1, 2, 3)),
    "row numbers, SIF": (lambda s, t, v, i: [str(i + 1), s, str(v), t], (2, 4, 3)),
    "SIF, score": (lambda s, t, v, i: [s, str(v), t, f"0.{i + 1}"], (1, 3, 2)),
    "SIF, database": (lambda s, t, v, i: [s, str(v), t, "SIGNOR"], (1, 3, 2)),
    "SIF, article": (lambda s, t, v, i: [s, str(v), t, f"PMID:{i}"], (1, 3, 2)),
}


@pytest.mark.parametrize("name", ["n.sif", "n.txt", "n.net", "n"])
@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("layout", NUMBERED)
def test_a_table_without_header_is_refused_and_read_as_the_refusal_says(read, layout, separator, name):
    row, (source, target, sign) = NUMBERED[layout]
    rows = [row(*edge, i) for i, edge in enumerate(EDGES)]
    with pytest.raises(DataError) as caught:
        read(rows, name, separator)
    message = str(caught.value)
    assert f"source='{source}', target='{target}'" in message
    assert (f"sign='{sign}'" in message) == (sign is not None)
    assert "--" not in message
    with flags(), pytest.raises(DataError, match=f"--source-column {source} --target-column {target}"):
        read(rows, name, separator)
    numbers = {"source": str(source), "target": str(target), "sign": None if sign is None else str(sign)}
    network = read(rows, name, separator, **numbers)
    expected = [(r[source - 1], r[target - 1]) for r in rows]
    assert pairs(triples(network)) == expected
    assert network.edges["sign"].tolist() == [0 if sign is None else e[2] for e in EDGES]


@pytest.mark.parametrize(("separator", "name"), [(",", "n.csv"), (";", "n.csv"), ("\t", "n.tsv"), ("|", "n.txt")])
def test_columns_by_number_in_any_table(read, separator, name):
    rows = [[s, "x", t, str(sign)] for s, t, sign in EDGES]
    with pytest.raises(DataError, match=r"first line is data and no header.*source='1', target='2'"):
        read([[s, t, str(sign)] for s, t, sign in EDGES], name, separator)
    assert triples(read(rows, name, separator, source="1", target="3", sign="4")) == EDGES
    with pytest.raises(DataError, match="no column 9: its 4 columns count from 1"):
        read(rows, name, separator, source="1", target="9")


def test_numbers_point_at_the_columns_of_a_header_too(read):
    rows = [["Gene A", "score", "Gene B"], *([s, "0.5", t] for s, t, _ in EDGES)]
    network = read(rows, "n.csv", ",", source="1", target="3")
    assert pairs(triples(network)) == pairs(EDGES)
    assert "line 1 read as a header" in network.warnings[0]
    counted = [["0", "1", "2"], *([s, t, str(sign)] for s, t, sign in EDGES)]
    assert triples(read(counted, "n.csv", ",", source="0", target="1", sign="2")) == EDGES


def test_a_first_edge_between_numbers_is_not_lost(read):
    assert pairs(triples(read([["1", "2"], ["2", "3"]], "n.tsv", source="1", target="2"))) == [("1", "2"), ("2", "3")]


@pytest.mark.parametrize("relation", ["0.6", "2", "-3", "1951", "1e-3", "inf", "0.99"])
def test_a_relation_is_a_word_or_one(read, relation):
    with pytest.raises(DataError, match=re.escape(f"the relation '{relation}' is a number")):
        read([*SIF, ["A", relation, "B"]])


@pytest.mark.parametrize("relation", ["1", "-1", "+1", "1.0", "-1.0", "+", "-", "activates", "pp", "0", "−1"])
def test_relations_that_stay_legal(read, relation):
    assert len(triples(read([["A", relation, "B"], ["B", relation, "C"]]))) == 2


def test_identifiers_that_are_numbers_stay_legal(read):
    rows = [["1950", "1", "1956"], ["1956", "-1", "5894"], ["5894", "pp", "1950", "1956"]]
    assert [s for *_, s in triples(read(rows))] == [1, -1, 0, 0]


# ---------------------------------------------------------------- relations of several words

PHRASES = [
    ("interacts with", 0),
    ("binds to", 0),
    ("acts on", 0),
    ("positively regulates", 1),
    ("negatively regulates", -1),
    ("up-regulates activity", 1),
    ("down-regulates quantity by repression", -1),
    ("directly activates", 1),
    ("in complex with", 0),
]


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
@pytest.mark.parametrize(("phrase", "sign"), PHRASES)
def test_relations_of_several_words(read, phrase, sign, separator):
    network = read([[s, phrase, t] for s, t, _ in EDGES], separator=separator)
    assert triples(network) == [(s, t, sign) for s, t, _ in EDGES]


def test_several_targets_are_no_phrase(read):
    assert triples(read("a activates b c\nd pp IN e\n")) == [
        ("a", "b", 1),
        ("a", "c", 1),
        ("d", "IN", 0),
        ("d", "e", 0),
    ]


@pytest.mark.parametrize("line", ["EGF does activates EGFR", "EGF talks inhibits EGFR"])
def test_other_words_before_a_relation_are_no_target(read, line):
    with pytest.raises(DataError, match="one relation"):
        read(line + "\nRAS 1 RAF\n")


@pytest.mark.parametrize("relation", ["activated by", "is inhibited by", "phosphorylated-by", "driven_by"])
def test_a_passive_names_the_target_first(read, relation):
    with pytest.raises(DataError, match="acts on 'EGF'"):
        read([["EGF", relation, "EGFR"], *SIF[1:]])


# ---------------------------------------------------------------- tabs, blanks, quotes, headers


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_each_line_may_have_its_own_separators(tmp_path_factory, data):
    separator = st.sampled_from(["\t", " ", "  ", "   "])
    lines = ["\t".join(SIF[0])]
    for row in SIF[1:]:
        one, other = data.draw(st.tuples(separator, separator))
        lines.append(f"{row[0]}{one}{row[1]}{other}{row[2]}")
    lines = data.draw(st.permutations(lines))
    path = tmp_path_factory.mktemp("mixed") / "n.sif"
    path.write_text("\n".join(lines))
    assert sorted(triples(read_network(path))) == sorted(EDGES)


def test_a_lone_name_of_two_words_is_a_species(read):
    network = read("EGF\t1\tEGFR\nkinase C\n")
    assert network.species == ["EGF", "EGFR", "kinase C"]
    with pytest.raises(DataError, match=r"line 2.*blanks"):
        read("EGF\t1\tEGFR\nEGF frobs EGFR\n")


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("name", ["n.sif", "n.txt"])
def test_quotes_around_every_field_are_taken_off(read, separator, signs, name):
    rows = [[f'"{s}"', f'"{r}"' if signs else r, f'"{t}"'] for s, r, t in SIF]
    assert triples(read(rows, name, separator)) == EDGES


@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_table_of_r_with_names_of_rows(read, separator):
    header = separator.join(['"V1"', '"V2"', '"V3"'])
    rows = [separator.join(f'"{cell}"' for cell in (str(i), *row)) for i, row in enumerate(SIF, 1)]
    content = "\n".join([header, *rows])
    with pytest.raises(DataError, match="source='2', target='4', sign='3'"):
        read(content)
    assert triples(read(content, source="2", target="4", sign="3")) == EDGES


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize(("relation", "sign"), [("(pp)", 0), ("(interacts with)", 0), ("(activates)", 1)])
def test_relations_in_brackets_as_cytoscape_names_an_edge(read, relation, sign, separator):
    assert triples(read([["EGF", relation, "EGFR"]], separator=separator)) == [("EGF", "EGFR", sign)]


def test_quotes_around_names_with_blanks(read):
    assert triples(read('"protein kinase C" "activates" "EGFR"\n"EGFR" "activates" "RAS"\n'))[0] == (
        "protein kinase C",
        "EGFR",
        1,
    )


@pytest.mark.parametrize(
    "header",
    ["V1 V2 V3", "X1 X2 X3", "Source Interaction Target", "node1 relation node2", "ProteinA Effect ProteinB",
     "source sign target"],
)  # fmt: skip
@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_header_of_words_of_files_is_no_edge(read, header, separator):
    network = read([header.split(), *SIF], separator=separator)
    assert triples(network) == EDGES
    assert network.oddities() == []


def test_a_line_that_may_be_a_header_is_refused_and_can_be_kept(read):
    rows = [["Ursache", "Art", "Wirkung"], *SIF]
    with pytest.raises(DataError, match=r"line 1.*reads like a header.*format='sif'"):
        read(rows)
    assert triples(read(rows, format="sif"))[0] == ("Ursache", "Wirkung", 0)


def test_responses_in_place_of_the_network(read):
    with pytest.raises(DataError, match="swapped"):
        read("TR:mock:CellLine,TR:egf,DA:raf1,DV:raf1\n1,0,0,0.1\n")


def test_a_table_of_blanks_with_a_header(read):
    assert triples(read("source target sign\nEGF EGFR 1\nAKT RAF -1\n", "n.txt")) == [EDGES[0], EDGES[-1]]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("numbers", [{}, {"source": "1", "target": "2", "sign": "3"}])
def test_the_line_in_which_excel_says_what_separates(read, line, numbers):
    rows = [[s, t, str(sign)] for s, t, sign in EDGES]
    body = "".join(";".join(row) + "\n" for row in (rows if numbers else [["source", "target", "sign"], *rows]))
    assert triples(read(f"{line}\n{body}", "n.csv", **numbers)) == EDGES


def test_gates_are_told(read):
    assert "2 AND gates of CellNOpt" in read("A\t1\tand1\nand1\t1\tB\nC\t1\tand2\nand2\t1\tB\n").warnings[0]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "gene"),
    [("1-Mar", "MARCH1 or MARC1"), ("Mar-01", "MARCH1 or MARC1"), ("7-Sep", "SEPT7"), ("01-Dec", "DEC1"),
     ("2003-09-02", "SEPT2"), ("2003-09-02 00:00:00", "SEPT2"), ("4. Okt", "OCT4"), ("9/2/2006", "FEB9"),
     ("1-MAR-06", "MARCH1 or MARC1"), ("14-Jun", "")],
)  # fmt: skip
def test_dates_of_spreadsheets(name, gene):
    assert spreadsheet_dates([name]) == {name: gene}


@pytest.mark.parametrize("name", ["MARCH1", "SEPT7", "NKX2-1", "HLA-A", "miR-21", "ERK1-2", "SEP", "3-PGA", "IL-6"])
def test_names_that_are_no_dates(name):
    assert spreadsheet_dates([name]) == {}


def test_dates_are_warned_of_once_with_what_they_were(read):
    network = read([*SIF, ["1-Mar", "1", "RAF"], ["1-Mar", "1", "RAS"], ["7-Sep", "-1", "RAF"]])
    dates = [warning for warning in network.warnings if "spreadsheet" in warning]
    assert len(dates) == 1
    assert "'1-Mar' (probably MARCH1 or MARC1), '7-Sep' (probably SEPT7)" in dates[0]


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u00ad", "\u2060", "\u200e"])
def test_characters_that_cannot_be_seen_are_shown(read, hidden):
    network = read([*SIF, [f"{hidden}EGF", "1", "RAS"]])
    assert f"<U+{ord(hidden):04X}>EGF" in network.warnings[0]
    assert "without them there are 'EGF' too" in network.warnings[0]


@pytest.mark.parametrize(
    ("species", "names", "words"),
    [
        (["0.6", "EGF"], ["EGF"], ["'0.6'"]),
        (["1950", "1956"], ["EGF"], ["2 species", "'1950'"]),
        (["1950", "1956"], ["1950"], []),
        (["1950", "1956"], ["1956i"], []),
        (["1950", "1956", "0.61"], ["1950"], ["'0.61'"]),
        (["source", "target"], [], ["'source'", "header"]),
        (["interacts", "EGF"], ["EGF"], ["'interacts'"]),
        (["V1", "V3", "nan"], [], ["'V1'", "'nan'"]),
        (["EGF", "IL6", "TF", "p38", "MAP2K1"], [], []),
        (["with"], ["with"], []),
    ],
)
def test_species_that_are_numbers_or_words_of_files(species, names, words):
    found = Network.from_edges([], species).oddities(names)
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)


# ---------------------------------------------------------------- GraphML


def graphml(names, attribute="shared name"):
    nodes = "".join(
        f'<node id="{60 + 2 * i}">' + (f'<data key="k">{name}</data>' if name else "") + "</node>"
        for i, name in enumerate(names)
    )
    edges = "".join(f'<edge source="{60 + 2 * i}" target="{62 + 2 * i}"/>' for i in range(len(names) - 1))
    return (
        f'<graphml><key id="k" for="node" attr.name="{attribute}"/><graph edgedefault="directed">{nodes}{edges}'
        "</graph></graphml>"
    )


@pytest.mark.parametrize("attribute", ["shared name", "name", "label"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["EGF", "", "RAS"], ["leaves 1 node without a name", "id '62'"]),
        (["EGF", "EGFR", "EGF"], ["stands more than once: 'EGF'", "'60', '64'"]),
        (["", "EGFR", "", "RAS"], ["2 nodes", "'60', '64'"]),
    ],
)
def test_the_node_without_a_name_of_its_own_is_named(read, names, words, attribute):
    pytest.importorskip("defusedxml")
    for asked in (None, attribute):
        with pytest.raises(DataError) as caught:
            read(graphml(names, attribute), "n.graphml", name=asked)
        for word in (*words, f"'{attribute}'", "name='id'"):
            assert word in str(caught.value)
    assert read(graphml(names, attribute), "n.graphml", name="id").species[0] == "60"


def test_the_attribute_that_may_hold_the_names_is_told(read):
    pytest.importorskip("defusedxml")
    network = read(graphml(["EGF", "EGFR", "RAS"], "gene"), "n.graphml")
    assert "name='gene'" in network.warnings[0]
    assert "2 of them in another place: read it with name='gene'" in network.named_otherwise(["EGF", "RASi", "XYZ"])
    assert network.named_otherwise(["XYZ"]) == ""
    assert read(graphml(["EGF", "EGFR", "RAS"], "gene"), "n.graphml", name="gene").other_names.keys() == {"name='id'"}


def test_columns_that_hold_other_names_are_told(read):
    table = "source,target,source_genesymbol,target_genesymbol\nP1,P2,EGF,EGFR\n"
    assert "source='source_genesymbol'" in read(table, "n.csv").named_otherwise(["EGF"])


# ---------------------------------------------------------------- Python


def frame(**columns):
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    "edges",
    [
        EDGES,
        iter(EDGES),
        (edge for edge in EDGES),
        SIF,
        [(s, sign, t) for s, t, sign in EDGES],
        [(s, np.int8(sign), t) for s, t, sign in EDGES],
        [(s, {1: "activates", -1: "inhibits"}[sign], t) for s, t, sign in EDGES],
        [(s, t, {1: "+", -1: "-"}[sign]) for s, t, sign in EDGES],
        np.array([[s, t, str(sign)] for s, t, sign in EDGES]),
        pd.DataFrame(EDGES),
        pd.DataFrame(SIF),
        pd.DataFrame(EDGES, columns=["source", "target", "sign"]),
        pd.DataFrame(SIF, columns=["from", "effect", "to"]),
        pd.DataFrame(EDGES, columns=["src", "dst", "mor"], index=list("vwxyz")),
        frame(
            target=[t for _, t, _ in EDGES],
            source=[s for s, _, _ in EDGES],
            stimulation=[int(v > 0) for *_, v in EDGES],
            inhibition=[int(v < 0) for *_, v in EDGES],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edges_from_python(edges):
    assert triples(Network.from_edges(edges)) == EDGES


def test_pairs_from_python():
    assert triples(Network.from_edges(frame(src=["EGF", "RAS"], dst=["EGFR", "RAF"]))) == [
        ("EGF", "EGFR", 0),
        ("RAS", "RAF", 0),
    ]
    assert triples(Network.from_edges([(1950, 1956)])) == [("1950", "1956", 0)]
    assert triples(Network.from_edges([("1", "2"), ("2", "3", -1)])) == [("1", "2", 0), ("2", "3", -1)]


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        (["A-B", "B-C"], ["'A-B'", "a text is no edge"]),
        (["AB", "BC"], ["a text is no edge"]),
        ("AB", ["got str"]),
        ({("A", "B"): 1}, ["got dict"]),
        ([{"source": "A", "target": "B"}], ["source"]),
        ([{"A", "B"}], ["got {"]),
        ([("A", "B", "frobs")], ["a sign is -1, 0 or 1", "'frobs'"]),
        ([("A", "B", 0.6)], ["a sign is -1, 0 or 1", "0.6"]),
        ([("A", 1, "B"), ("B", "C", 1)], ["order of SIF"]),
        ([("A", 1, 1)], ["may be the sign"]),
        ([("A", None)], ["the target of edge 1", "None"]),
        ([("A", float("nan"))], ["the target of edge 1", "nan"]),
        ([("A", "")], ["is empty"]),
        ([("A", ["B"])], ["must be a name"]),
        ([("A", True)], ["must be a name"]),
        ([("A", "B", 1, 2)], ["must be"]),
        (7, ["got int"]),
        (frame(a=["A"], b=["B"]), ["'a', 'b'", "rename"]),
        (frame(EGF=["A"], EGFR=["B"]), ["header=None"]),
        (pd.DataFrame([["A", "B", 1, 2]]), ["4 columns without names"]),
        (frame(source=["A", None], target=["B", "C"]), ["edges['source'], row 2"]),
        (frame(source=[1950.0], target=["B"]), ["edges['source'], row 1", "1950.0"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_are_no_edges(edges, words):
    with pytest.raises(DataError) as caught:
        Network.from_edges(edges)
    for word in words:
        assert word in str(caught.value)


def test_species_and_the_constructor_look_too():
    with pytest.raises(DataError, match=r"put it in \[\]"):
        Network.from_edges([("A", "B")], species="CD")
    table = Network.from_edges([("A", "B")]).edges
    with pytest.raises(TypeError, match=r"Network\.from_edges"):
        Network([("A", "B")], ["A", "B"])
    with pytest.raises(DataError, match=r"species lacks 1 end of edges: 'B'"):
        Network(table, ["A"])
    with pytest.raises(DataError, match="columns source, target and sign"):
        Network(table.drop(columns="sign"), ["A", "B"])


NODES = {"input_nodes": ["x"], "function_nodes": ["a", "b"], "output_nodes": ["y"]}
GRAPH = [("x", "a", 1), ("a", "b", -1), ("b", "y", 1)]


@pytest.mark.parametrize(
    "edges",
    [
        iter(GRAPH),
        [(s, sign, t) for s, t, sign in GRAPH],
        [(s, str(sign), t) for s, t, sign in GRAPH],
        pd.DataFrame(GRAPH),
        pd.DataFrame(GRAPH, columns=["from", "to", "sign"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_graph_looks_at_its_edges(edges):
    graph = Graph.from_edges(edges, **NODES)
    assert graph.function_edges == [("a", "b")]
    assert graph.edge_sign_dict["function", "to", "function"].tolist() == [-1]


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        (["xa", "ab", "by"], "a text is no edge"),
        ([("x", 1)], "names as text, got 1"),
        ([("x", ["a"])], "names as text"),
        ([("x", "a", "much")], "a sign is -1, 0 or 1"),
        (frame(p=["x"], q=["a"]), "rename them"),
        ({("x", "a"): 1}, "got dict"),
    ],
    ids=str,
)
def test_a_graph_refuses_what_are_no_edges(edges, words):
    with pytest.raises(DataError, match=words):
        Graph.from_edges(edges, **NODES)


# ---------------------------------------------------------------- published files


def published_networks():
    """The SIF files that the package cellnopt.data ships; its module does not import on Python 3."""
    try:
        files = distribution("cellnopt.data").files or []
    except PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in files if file.suffix == ".sif"]


@pytest.mark.parametrize("path", published_networks(), ids=lambda path: path.name)
def test_a_published_network_is_read_as_its_makers_read_it(path):
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(line) != 3 for line in lines):
        with pytest.raises(DataError, match="swapped"):  # responses, under the name of a network
            read_network(path)
        return
    network = read_network(path)
    assert set(pairs(triples(network))) == {(source, target) for source, _, target in lines}
    signs: dict[tuple[str, str], set[int]] = {}
    for source, sign, target in lines:
        signs.setdefault((source, target), set()).add(int(sign))
    assert {(s, t): sign for s, t, sign in triples(network)} == {pair: sum(each) for pair, each in signs.items()}
    assert network.oddities() == []
