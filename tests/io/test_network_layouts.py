"""Networks as databases and programs write them: the right edges, or a refusal that says what it is."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.io import read_network

EDGES = [("EGF", "EGFR", 1), ("EGFR", "RAS", 1), ("RAS", "RAF", 1), ("AKT", "RAF", -1), ("PI3K", "AKT", 1)]
NAMES = ["EGF", "EGFR", "RAS", "RAF", "AKT", "PI3K"]


@pytest.fixture
def read(tmp_path):
    def write_and_read(rows, file="n.csv", separator=",", **options):
        content = (
            rows if isinstance(rows, str | bytes) else "".join(separator.join(map(str, row)) + "\n" for row in rows)
        )
        path = tmp_path / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_network(path, **options)

    return write_and_read


def triples(network):
    return list(network.edges.itertuples(index=False, name=None))


# ---------------------------------------------------------------- matrices


def matrix(order=NAMES):
    found = np.zeros((len(order), len(order)), int)
    for source, target, sign in EDGES:
        found[order.index(source), order.index(target)] = sign
    return found


@pytest.mark.parametrize(
    ("file", "separator"), [("n.csv", ","), ("n.csv", ";"), ("n.tsv", "\t"), ("n.sif", "\t"), ("n", " ")]
)
@pytest.mark.parametrize("corner", ["", "gene", None])
@pytest.mark.parametrize("numbers", [{}, {"source": "1", "target": "2"}])
def test_an_adjacency_matrix_is_named(read, file, separator, corner, numbers):
    if separator == " " and corner == "":
        return
    head = NAMES if corner is None else [corner, *NAMES]
    rows = [head, *([name, *row] for name, row in zip(NAMES, matrix(), strict=True))]
    with pytest.raises(
        DataError, match="is an adjacency matrix, which does not say whether its rows act on its columns"
    ):
        read(rows, file, separator, **numbers)
    with pytest.raises(DataError, match="is an adjacency matrix without names"):
        read([row[1:] for row in rows[1:]], file, separator, **numbers)


def test_a_matrix_whose_rows_have_another_order(read):
    turned = NAMES[::-1]
    rows = [["", *turned], *([name, *matrix(turned)[turned.index(name)]] for name in NAMES)]
    with pytest.raises(DataError, match="is an adjacency matrix"):
        read(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [["source", "target", "sign"], ["A", "B", 1], ["B", "A", 1]],
        [["source", "target"], ["source", "A"]],
        [["source", "target", "sign"], ["1", "0", 1], ["0", "1", 1]],
    ],
)
def test_tables_of_the_size_of_a_matrix_are_none(read, rows):
    assert len(read(rows).edges) == len(rows) - 1


# ---------------------------------------------------------------- databases

WAYS = [
    lambda text: "\ufeff" + text,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: text.replace("\n", "\n\n"),
    lambda text: "# a note\n" + text,
    lambda text: text.encode("utf-16"),
    lambda text: text.rstrip("\n"),
    lambda text: text + "\n\n",
]


def word(sign):
    return "up-regulates" if sign > 0 else "down-regulates activity"


TABLES = [
    ("tf,confidence,target,mor", lambda s, t, v: [s, "A", t, v], "n.csv", ",", True),
    ("source,target,weight,PMID", lambda s, t, v: [s, t, float(v), "1;2"], "n.csv", ",", True),
    ("PARTICIPANT_A,INTERACTION_TYPE,PARTICIPANT_B", lambda s, t, v: [s, "controls", t], "n.txt", "\t", False),
    ("protein1,protein2,combined_score", lambda s, t, v: [s, t, 900], "n.txt", " ", False),
    ("#ID,Official Symbol Interactor A,Official Symbol Interactor B", lambda s, t, v: [7, s, t], "n.txt", "\t", False),
    ("Gene1,Gene2,Note,Direction", lambda s, t, v: [s, t, "a", "->" if v > 0 else "-|"], "n.txt", "\t", True),
    ("ENTITYA,ENTITYB,EFFECT", lambda s, t, v: [s, t, word(v)], "n.tsv", "\t", True),
    (",from,to,sign", lambda s, t, v: [1, s, t, v], "n.csv", ",", True),
    ("target,source,sign", lambda s, t, v: [t, s, v], "n.csv", ";", True),
]


@pytest.mark.parametrize(("header", "row", "file", "separator", "signed"), TABLES, ids=[t[0] for t in TABLES])
def test_tables_of_databases(read, header, row, file, separator, signed):
    network = read([header.split(","), *(row(*edge) for edge in EDGES)], file, separator)
    assert triples(network) == [(s, t, v if signed else 0) for s, t, v in EDGES]


@pytest.mark.parametrize("wrap", WAYS)
@pytest.mark.parametrize(
    ("file", "separator", "header"), [("n.sif", "\t", False), ("n.csv", ",", True), ("n.tsv", "\t", True)]
)
def test_ways_to_write_a_text_file(read, wrap, file, separator, header):
    rows = [["source", "target", "sign"], *EDGES] if header else [[s, v, t] for s, t, v in EDGES]
    content = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    assert triples(read(wrap(content), file)) == EDGES


def test_the_edge_table_of_cytoscape_is_named(read):
    rows = [['"SUID"', '"interaction"', '"shared name"']]
    rows += [[f'"{i}"', '"activates"', f'"{s} (activates) {t}"'] for i, (s, t, _) in enumerate(EDGES)]
    with pytest.raises(DataError, match=r"Cytoscape's table of edges.*'shared name'.*Network to File.*GraphML"):
        read(rows)


# ---------------------------------------------------------------- codes of signs


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((1, 2), "holds 1, 2 and no -1: 2 is taken for activating too"),
        ((1, 0), "holds 0, 1 and no -1: 0 is taken for an unknown sign"),
        ((1, -1), None),
        ((1, 1), None),
        (("activation", "inhibition"), None),
        (("+", "-"), None),
        ((0.9, -0.2), None),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_codes_without_a_minus_are_told(read, codes, words, named):
    rows = [["source", "target", "sign"], *([s, t, codes[v < 0]] for s, t, v in EDGES)]
    warnings = read(rows, **({"sign": "sign"} if named else {})).warnings
    assert (words is None and warnings == []) or words in warnings[0]


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("options", "python", "flag"),
    [
        ({"name": "label"}, "name= is for GraphML", "--node-names is for GraphML"),
        ({"format": "graphml"}, "format='graphml'", "--graph-format"),
        ({"format": "sif", "source": "1"}, "format='sif' has none", "--graph-format sif has none"),
        ({"format": "sfi"}, "unknown format 'sfi'", "unknown --graph-format 'sfi'"),
    ],
)
def test_messages_name_parameters_or_flags(read, options, python, flag):
    table = "source,target,is_directed\nA,B,1\n"
    if options == {"format": "graphml"}:
        table = '<graphml><graph edgedefault="directed"><node id="A"/></graph></graphml>'
        options = {"format": "csv"}
        python = "format='csv'"
    with pytest.raises(DataError) as caught:
        read(table, "n.csv", **options)
    assert python in str(caught.value)
    assert "--" not in str(caught.value)
    with flags(), pytest.raises(DataError) as caught:
        read(table, "n.csv", **options)
    assert flag in str(caught.value)


def test_edges_without_direction_by_flags(read):
    table = "source,target,is_directed\nA,B,0\n"
    for context, words in ((flags(), "--undirected both"), (None, "undirected='both'")):
        if context is not None:
            with context, pytest.raises(DataError, match=words):
                read(table, undirected="drop")
        else:
            with pytest.raises(DataError, match=words):
                read(table, undirected="drop")


# ---------------------------------------------------------------- other names


@pytest.mark.parametrize(
    ("options", "species", "asked", "held"),
    [
        ({}, ["P1", "P2", "P3"], "source='source_genesymbol', target='target_genesymbol'", {"EGF", "EGFR", "RAS"}),
        (
            {"source": "source_genesymbol", "target": "target_genesymbol"},
            ["EGF", "EGFR", "RAS"],
            "source='source', target='target'",
            {"P1", "P2", "P3"},
        ),
    ],
)
def test_what_else_species_are_called_and_how_to_read_it(read, options, species, asked, held):
    table = "source,target,source_genesymbol,target_genesymbol\nP1,P2,EGF,EGFR\nP2,P3,EGFR,RAS\n"
    network = read(table, **options)
    assert network.species == species
    assert {how: set(names) for how, names in network.other_names.items()} == {asked: held}
    assert network.named_otherwise(["none of them"]) == ""
    assert f"read it with {asked}" in network.named_otherwise(sorted(held))
    with flags():
        assert "--source-column" in next(iter(read(table, **options).other_names))


def test_tables_with_one_pair_of_columns_have_no_other_names(read):
    assert read("source,target\nA,B\n").other_names == {}
    assert read("A\t1\tB\n", "n.sif").other_names == {}
