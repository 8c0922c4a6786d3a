from __future__ import annotations

import csv
import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsnn.base.errors import DataError
from gsnn.io import Network, read_network
from gsnn.io.signs import sign_of
from gsnn.io.truth import read_truth


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="n.sif", **kwargs):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_network(path, **kwargs)

    return write_and_read


def triples(network: Network) -> list[tuple[str, str, int]]:
    return list(network.edges.itertuples(index=False, name=None))


# ---------------------------------------------------------------- SIF


def test_cellnopt_sif(read):
    network = read("a\t1\tb\nb\t-1\tc\n")
    assert triples(network) == [("a", "b", 1), ("b", "c", -1)]
    assert network.species == ["a", "b", "c"]
    assert network.edges["sign"].dtype == np.int8
    assert network.warnings == []


@pytest.mark.parametrize(
    "content",
    [
        "a\t1\tb\r\nb\t-1\tc\r\n",
        "a\t1\tb\rb\t-1\tc\r",
        "\ufeffa\t1\tb\nb\t-1\tc",
        "# made by hand\n\na\t1\tb  \t \n   \nb\t-1\tc\t\n\n",
        "a 1 b\nb   -1 c \n",
        " a\t 1 \tb\n b \t-1\tc",
        "a activates b\nb inhibits c\n",
        "a\tstimulation\tb\nb\tdown-regulates activity\tc\n",
        "a\t+\tb\nb\t-|\tc\n",
        "a\t->\tb\nb\t⊣\tc\n",
    ],
)
@pytest.mark.parametrize("name", ["n.sif", "n.txt"])
def test_sif_as_written_by_many_hands(read, content, name):
    assert triples(read(content, name)) == [("a", "b", 1), ("b", "c", -1)]


def test_utf16_from_a_spreadsheet(read):
    assert triples(read("ä\t1\tb\n".encode("utf-16"))) == [("ä", "b", 1)]


def test_cytoscape_sif(read):
    network = read("a\tpp\tb\tc\nlone one\nd\tinhibits\ta\nlast\n")
    assert triples(network) == [("a", "b", 0), ("a", "c", 0), ("d", "a", -1)]
    assert network.species == ["a", "b", "c", "lone one", "d", "last"]


def test_isolated_species_that_also_has_edges_stands_once(read):
    assert read("b\na\t1\tb\na\n").species == ["b", "a"]


NAMES = [
    '"a"',
    "it's",
    "<b>",
    "x=y",
    "naïve β",
    "NA",
    "nan",
    "007",
    "1e5",
    "TRUE",
    "None",
    "a, b",
    "a;b|c",
    "-",
    "1",
    "50%",
]


def test_any_printable_name_survives_in_sif(read):
    content = "".join(f"{a}\t1\t{b}\n" for a, b in itertools.pairwise(NAMES))
    network = read(content)
    assert network.species == NAMES
    assert all(type(name) is str for name in network.species)


def test_any_printable_name_survives_in_csv(tmp_path):
    path = tmp_path / "n.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["source", "target", "sign"])
        writer.writerows([a, b, -1] for a, b in itertools.pairwise(NAMES))
    network = read_network(path)
    assert network.species == NAMES
    assert all(type(name) is str for name in network.edges["source"])


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5).filter(
    lambda s: not s.startswith("#")
)


@given(st.lists(st.tuples(printable, st.sampled_from([1, -1]), printable), min_size=1, max_size=8))
def test_sif_round_trip(tmp_path_factory, edges):
    path = tmp_path_factory.mktemp("sif") / "n.sif"
    path.write_text("".join(f"{s}\t{sign}\t{t}\n" for s, sign, t in edges), encoding="utf-8")
    network = read_network(path, format="sif")
    expected: dict[tuple[str, str], set[int]] = {}
    for s, sign, t in edges:
        expected.setdefault((s, t), set()).add(sign)
    assert triples(network) == [(s, t, sum(signs)) for (s, t), signs in expected.items()]
    assert network.species == list(dict.fromkeys(n for s, _, t in edges for n in (s, t)))


def test_duplicates_and_self_edges_are_reported(read):
    network = read("a\t1\tb\na\t1\tb\nb\t1\tb\nc\t1\ta\nc\t-1\ta\na\tpp\tc\na\t-1\tc\n")
    assert triples(network) == [("a", "b", 1), ("b", "b", 1), ("c", "a", 0), ("a", "c", -1)]
    assert [(d.source, d.target, d.signs, d.lines) for d in network.duplicates] == [
        ("a", "b", (1, 1), (1, 2)),
        ("c", "a", (1, -1), (4, 5)),
        ("a", "c", (0, -1), (6, 7)),
    ]
    assert network.self_edges == ["b"]
    text = str(network)
    assert "3 species, 4 edges (2 activating, 1 inhibiting, 1 of unknown sign)" in text
    assert "3 duplicated edges collapsed" in text
    assert "1 duplicated edge whose signs disagree, taken as unknown: 'c -> a'" in text
    assert "1 self-edge: 'b'" in text


def test_unknown_relations_are_noted(read):
    network = read("a\tfrobs\tb\nb\t1\tc\n")
    assert network.edges["sign"].tolist() == [0, 1]
    assert "'frobs (1x)'" in network.warnings[0]


def test_commented_edges_are_noted(read):
    network = read("#a\t1\tb\n# prose of some length\nb\t1\tc\n")
    assert triples(network) == [("b", "c", 1)]
    assert "line 1" in network.warnings[0]


def test_a_header_makes_a_table_of_a_sif_file(read):
    assert triples(read("source\tsign\ttarget\na\t-1\tb\n")) == [("a", "b", -1)]


def test_a_network_of_isolated_species_is_noted(read):
    network = read("a\nb\n")
    assert network.edges.empty
    assert network.warnings == ["the network has no edges"]


# ---------------------------------------------------------------- edge tables


@pytest.mark.parametrize(
    "header",
    [
        "source,target,sign",
        "From,TO,Effect",
        "Target,Sign,Source",
        "tf,target,mor",
        "SRC,dst,weight",
        "regulator,gene,mode",
    ],
)
@pytest.mark.parametrize(
    ("delimiter", "name"), [(",", "n.csv"), (";", "n.csv"), ("\t", "n.tsv"), ("\t", "n.txt"), ("|", "n")]
)
def test_columns_are_recognised(read, header, delimiter, name):
    columns = header.split(",")
    cells = {c: v for c, v in zip(columns, "abc", strict=True)}
    key = {c.casefold(): c for c in columns}
    s = next(key[k] for k in ("source", "from", "tf", "src", "regulator") if k in key)
    t = next(key[k] for k in ("target", "to", "dst", "gene") if k in key)
    rows = []
    for source, target, sign in (("a", "b", "1"), ("b", "c", "-1")):
        cells = dict.fromkeys(columns, sign) | {s: source, t: target}
        rows.append(delimiter.join(cells[c] for c in columns))
    content = "\n".join([delimiter.join(columns), *rows])
    assert triples(read(content, name)) == [("a", "b", 1), ("b", "c", -1)]


@pytest.mark.parametrize(
    "flags", ["stimulation,inhibition", "is_stimulation,is_inhibition", "Is Stimulation,Is Inhibition"]
)
def test_stimulation_and_inhibition(read, flags):
    network = read(
        f"source,target,direction,{flags}\na,b,1,1,0\nb,c,1,0,1\nc,d,1,1,1\nd,e,1,0,0\ne,f,1,TRUE,\n", "n.csv"
    )
    assert network.edges["sign"].tolist() == [1, -1, 0, 0, 1]


def test_a_named_column_overrides(read):
    content = "A,B,source,target,w\nx,y,db,lit,-0.5\ny,z,db,lit,2\n"
    network = read(content, "n.csv", source="A", target="b", sign="w")
    assert triples(network) == [("x", "y", -1), ("y", "z", 1)]


def test_words_of_a_named_column_that_are_no_signs_are_counted(read):
    network = read("source,target,how\na,b,activates\nb,c,maybe\nc,d,maybe\n", "n.csv", sign="how")
    assert network.edges["sign"].tolist() == [1, 0, 0]
    assert "column 'how': relations of unknown sign, taken as 0: 'maybe (2x)'" in network.warnings


def test_columns_that_say_nothing_new_change_nothing(read):
    network = read("source,target,kind,is_directed\na,b,known,1\nb,c,known,yes\n", "n.csv")
    assert triples(network) == [("a", "b", 0), ("b", "c", 0)]
    assert network.warnings == []


def test_missing_numbers_and_blanks_beyond_the_header(read):
    assert triples(read("source,target,sign\na,b,NA\nb,c,-1,,\n", "n.csv")) == [("a", "b", 0), ("b", "c", -1)]


def test_sign_may_name_two_columns(read):
    content = "source,target,up,down\nx,y,0,1\n"
    assert triples(read(content, "n.csv", sign=("up", "down"))) == [("x", "y", -1)]
    assert triples(read(content, "n.csv", sign="up,down")) == [("x", "y", -1)]


def test_positive_weights_are_not_taken_for_signs(read):
    network = read("source,target,weight\na,b,0.9\nb,c,0.1\n", "n.csv")
    assert network.edges["sign"].tolist() == [0, 0]
    assert "'weight' holds no negative value" in network.warnings[0]
    assert read("source,target,weight\na,b,0.9\n", "n.csv", sign="weight").edges["sign"].tolist() == [1]


def test_no_sign_column_means_unknown(read):
    network = read("source,target,type\na,b,kinase\n", "n.csv")
    assert triples(network) == [("a", "b", 0)]
    assert network.warnings == []


def test_csv_quoting_comments_and_trailing_delimiters(read):
    content = '# exported, 2024\n"source","target","sign",,\n"a, ""b""","c\'d",1,,\n\n,,,,\n'
    assert triples(read(content, "n.csv")) == [('a, "b"', "c'd", 1)]


def test_row_names_as_r_writes_them(read):
    assert triples(read('"source"\t"target"\n"1"\t"a"\t"b"\n"2"\t"b"\t"c"\n', "n.tsv")) == [
        ("a", "b", 0),
        ("b", "c", 0),
    ]


def test_a_commented_header(read):
    assert triples(read("# source\ttarget\nx\ty\n", "n.tsv")) == [("x", "y", 0)]


def test_the_format_can_be_forced(read):
    # A table by its header, and legal SIF all the same.
    content = "source\tsign\ttarget\nb\t1\tc\n"
    assert triples(read(content, "n.tsv")) == [("b", "c", 1)]
    assert triples(read(content, "n.tsv", format="sif")) == [("source", "target", 0), ("b", "c", 1)]
    assert triples(read("source,target\na,b\n", "n.sif", format="csv")) == [("a", "b", 0)]


def test_a_large_table_is_fast(tmp_path):
    rng = np.random.default_rng(0)
    n = 100_000
    frame = pd.DataFrame({"source": rng.integers(0, 5000, n), "target": rng.integers(0, 5000, n), "sign": 1})
    frame.to_csv(tmp_path / "n.csv", index=False)
    began = time.perf_counter()
    network = read_network(tmp_path / "n.csv")
    assert time.perf_counter() - began < 5  # 0.5 s on an idle machine
    assert len(network.edges) == len(frame.drop_duplicates(["source", "target"]))
    assert sum(len(d.lines) - 1 for d in network.duplicates) == n - len(network.edges)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("content", "name", "kwargs", "words"),
    [
        ("", "n.sif", {}, ["is empty"]),
        (" \n\n", "n.csv", {}, ["is empty"]),
        ("# nothing\n", "n.csv", {}, ["only comments"]),
        ("# nothing\n", "n.sif", {}, ["only comments"]),
        (b"\x00\x01\x02abc", "n.sif", {}, ["binary"]),
        (b"\x1f\x8b\x08abc", "n.csv", {}, ["gzip", "unpack"]),
        (b"PK\x03\x04abc", "n.csv", {}, ["Excel"]),
        (b"a\t1\tb\nc\t1\t\xe9\n", "n.sif", {}, ["line 2", "0xe9", "UTF-8"]),
        ("alpha,beta\na,b\n", "n.csv", {}, ["unknown column layout", "'alpha', 'beta'", "source="]),
        ("some words of prose\nthat are no network\n", "n.txt", {}, ["unknown column layout"]),
        ("source,target\n", "n.csv", {}, ["a header and no rows"]),
        ("source,target\na,b\nc\n", "n.csv", {}, ["line 3", "1 field where the header has 2"]),
        ("source,target\na,b\nc,d,e\n", "n.csv", {}, ["line 3", "3 fields"]),
        ("source,target\na,b\n,c\n", "n.csv", {}, ["line 3", "empty"]),
        ('source,target\na,b\n"c,d\n', "n.csv", {}, ["line 3", "quotes"]),
        ('source,target\na,"b\nc"\n', "n.csv", {}, ["line 2", "control character"]),
        ("source,source,target\na,b,c\n", "n.csv", {}, ["two columns are named 'source'"]),
        ("source,target\na,b\n", "n.csv", {"sign": "effct"}, ["no sign column 'effct'", "'source', 'target'"]),
        ("sorce,target\na,b\n", "n.csv", {"source": "source"}, ["did you mean 'sorce'"]),
        ("source,target\na,b\n", "n.csv", {"source": "target", "target": "target"}, ["both column 'target'"]),
        (
            "source,target,is_stimulation,is_inhibition\na,b,1,0\na,c,perhaps,0\n",
            "n.csv",
            {},
            ["line 3", "is_stimulation"],
        ),
        ("TR:a,DV:b\n1,2\n", "n.csv", {}, ["unknown column layout", "swapped"]),
        ('{"nodes": []}', "n.json", {}, ["JSON", "export"]),
        ('<?xml version="1.0"?>\n<graphml/>', "n.graphml", {}, ["holds no graph"]),
        ('source\ttarget\n"a"x\tb\n', "n.tsv", {}, ["line 2", "quotes", "'\\t' expected"]),
        ("a\t1\tb\nb\t1\n", "n.sif", {}, ["line 2", "2 fields"]),
        ("a\t1\tb\nb\t\tc\n", "n.sif", {}, ["line 2", "field 2 is empty"]),
        ("a\t1\tb\nb odd a\n", "n.sif", {}, ["line 2", "blanks", "tabs"]),
        ("a,1,b\nb,1,c\n", "n.sif", {}, ["comma-separated", "header"]),
        ("a\tb\t1\nb\tc\t-1\n", "n.sif", {}, ["third field", "source, sign, target"]),
        ("a\t1\tb\n", "n.sif", {"format": "xml"}, ["unknown format 'xml'", "'sif'"]),
        ("a\t1\tb\n", "n.sif", {"format": "sif", "source": "a"}, ["format='sif'"]),
    ],
)
def test_errors_say_where_and_what_to_do(read, content, name, kwargs, words):
    with pytest.raises(DataError) as caught:
        read(content, name, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert name in message or "format" in message


def test_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "network.sif").write_text("a\t1\tb\n")
    with pytest.raises(DataError, match=r"netwrk\.sif' does not exist; beside it: 'network\.sif'"):
        read_network(tmp_path / "netwrk.sif")
    with pytest.raises(DataError, match="nor does the folder"):
        read_network(tmp_path / "nowhere" / "n.sif")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "network.sif").write_text("a\t1\tb\n")
    with pytest.raises(DataError, match=r"is a folder.*'network\.sif'"):
        read_network(tmp_path)


def test_a_folder_on_a_system_that_answers_with_no_permission(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        read_network(tmp_path)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_an_unreadable_file(read, monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match=f"cannot be read: {error.strerror}"):
        read("a\t1\tb\n")


def test_a_table_of_mixed_vocabulary_and_a_third_sign_column(read):
    assert triples(read("tf,to,interaction\na,b,inhibits\n", "n.csv")) == [("a", "b", -1)]
    with pytest.raises(DataError, match="got 3"):
        read("source,target\na,b\n", "n.csv", sign=("x", "y", "z"))


def test_edges_in_memory():
    assert triples(Network.from_edges([("a", "b"), ("a", "b", -1)])) == [("a", "b", -1)]
    with pytest.raises(DataError, match="must be"):
        Network.from_edges([("a",)])
    with pytest.raises(DataError, match="at least one species"):
        Network.from_edges([])


@pytest.mark.parametrize(
    ("word", "sign"),
    [("1.0", 1), ("-1.0", -1), ("0", 0), ("NaN", 0), ("", 0), ("+-", 0), ("Activation", 1), ("REPRESSION", -1),
     ("up-regulates quantity by expression", 1), ("interacts with", 0), ("−1", -1), ("xyz", None), ("1_0x", None)],
)  # fmt: skip
def test_signs(word, sign):
    assert sign_of(word) == sign


# ---------------------------------------------------------------- real files


def test_lembas(gsnn_data):
    path = gsnn_data / "lembas_ligandscreen" / "ligandScreen-Model.tsv"
    if not path.exists():
        pytest.skip("no LEMBAS set")
    network = read_network(path)
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert (len(network.species), len(network.edges), len(network.duplicates)) == (1262, 6594, 3)
    first = table.drop_duplicates(["source", "target"])
    expected = first["stimulation"].astype(int) - first["inhibition"].astype(int)
    several = {(d.source, d.target) for d in network.duplicates}
    single = [pair not in several for pair in zip(first["source"], first["target"], strict=True)]
    assert network.edges["sign"].to_numpy()[single].tolist() == expected.to_numpy()[single].tolist()


def test_l1000(gsnn_data):
    path = gsnn_data / "l1000_drug_pkn" / "l1000_lvl3_withsignor-Model.tsv"
    if not path.exists():
        pytest.skip("no l1000 set")
    network = read_network(path)
    assert (len(network.species), len(network.edges)) == (2059, 12127)
    assert sum(len(d.lines) - 1 for d in network.duplicates) == 772


def test_of_a_network_that_gsnn_wrote_the_functions_are_the_species(tmp_path):
    path = tmp_path / "refined-network.csv"
    rows = ["TR:x,lone,input->function,1", "a,b,function->function,-1", "b,DV:y,function->output,0"]
    path.write_text("\n".join(["source,target,kind,sign", *rows]) + "\n")
    network = read_network(path)
    assert network.species == ["a", "b", "lone"]
    assert network.edges.to_dict("records") == [{"source": "a", "target": "b", "sign": -1}]
    assert network.warnings[0].startswith("2 edges of treatments and readouts left out")
    every = [("TR:x", "lone"), ("a", "b"), ("b", "DV:y")]
    assert read_truth(path) == every
    assert len(read_network(path, between_species=False).edges) == 3
    # A column of that name with other words is none of gsnn's.
    path.write_text("source,target,kind\na,b,input->function\nb,c,phosphorylation\n")
    assert network.species != read_network(path).species == ["a", "b", "c"]
