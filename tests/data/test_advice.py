"""What is advised where names do not match: the likeliest, by flags on the command line and by parameters in Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.base.wording import flags
from gsnn.data import build_data, stream_data
from gsnn.data.hints import but_for_more, find_separator
from gsnn.data.matching import close_species
from gsnn.io import ArrayResponses, Network, Responses

NETWORK = Network.from_edges([("EGF", "EGFR", 1), ("EGFR", "MEK", 1), ("MEK", "ERK", 1), ("TNF", "IKK", 1)])
FLAG, PARAMETER = "--", "="


def responses(treatments, readouts, n=6, **more):
    x = np.zeros((n, len(treatments)))
    x[np.arange(n), np.arange(n) % len(treatments)] = 1
    y = np.arange(n * len(readouts), dtype=float).reshape(n, -1)
    return Responses(pd.DataFrame(x, columns=treatments), pd.DataFrame(y, columns=readouts), **more)


def refusal(table, network=NETWORK, **options):
    with pytest.raises(DataError) as caught:
        build_data(network, table, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


ADVICE = {
    "separator": (["EGF_TNF", "EGF"], ["ERK"], {"labels": True, "categories": True}, "separator='_'", "--separator _"),
    "long separator": (["EGF__TNF", "EGF"], ["ERK"], {"labels": True}, "separator='__'", "--separator __"),
    "blank separator": (["EGF || TNF"], ["ERK"], {"labels": True}, "separator=' || '", "--separator ' || '"),
    "word": (["EGF and TNF"], ["ERK"], {"labels": True}, "separator=' and '", "--separator ' and '"),
    "case": (["egf", "TNF"], ["ERK"], {}, "ignore_case=True", "--ignore-case"),
    "column of var": (["EGF"], ["P27361"], {"other_names": {"gene": ["ERK"]}}, "var_names='gene'", "--var-names gene"),
    "control": (["EGF", "NTC"], ["ERK"], {"categories": True}, "control=['NTC']", "--control NTC"),
    "control in words": (["EGF", "No drug"], ["ERK"], {"categories": True}, "on_unmatched='drop'", "--drop-unmatched"),
    "unknown": (["EGF", "nan"], ["ERK"], {"categories": True}, "exclude=['nan']", "--exclude-label nan"),
    "swapped": (["ERK"], ["EGF", "MEKi"], {}, "(inputs and outputs) swapped", "--inputs and --outputs"),
    "dropped": (["EGF", "X"], ["ERK"], {}, "on_unmatched='drop'", "--drop-unmatched"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ADVICE)
def test_flags_on_the_command_line_and_parameters_in_python(kind):
    treatments, readouts, more, python, flag = ADVICE[kind]
    table = responses(treatments, readouts, **more)
    message = refusal(table)
    assert python in message
    assert FLAG not in message
    with flags():
        message = refusal(table)
    assert flag in message
    assert "'drop'" not in message
    assert "=True" not in message
    assert "separator=" not in message
    assert "exclude=" not in message


# ---------------------------------------------------------------- what is too much in a name

AROUND = {
    "the version behind the dot": ("ENSG00000146648.19", "ENSG00000146648"),
    "the number of the isoform": ("P00533-2", "P00533"),
    "the number of the organism before the dot": ("9606.ENSP00000275493", "ENSP00000275493"),
    "the organism behind the underscore": ("EGFR_HUMAN", "EGFR"),
    "the name of the database before the colon": ("HGNC:EGFR", "EGFR"),
    "what stands in brackets": ("EGFR (75)", "EGFR"),
    "the site": ("AKT_pS473", "AKT"),
    "the p of phosphorylated": ("pERK", "ERK"),
}


@pytest.mark.parametrize("what", AROUND)
@pytest.mark.parametrize("turned", [False, True])
def test_what_databases_and_antibodies_add_is_named(what, turned):
    long, short = AROUND[what][::-1] if turned else AROUND[what]
    assert but_for_more([long, "nothing"], [short, "other"]) == (what, {long: short})
    network = Network.from_edges([("A", short)])
    message = refusal(responses(["A"], [long]), network)
    assert f"would match without {what} ('{long}' is '{short}' there)" in message
    assert "translate" not in message


def test_versions_on_both_sides():
    what, found = but_for_more(["ENSG00000146648.19"], ["ENSG00000146648.3"])
    assert (what, found) == ("the version behind the dot", {"ENSG00000146648.19": "ENSG00000146648.3"})


@pytest.mark.parametrize("name", ["EGFi", "TNF2", "IL-6", "HLA-A", "ERK5"])
def test_other_names_have_nothing_too_much(name):
    assert but_for_more([name], ["EGF", "TNF", "IL", "HLA", "ERK"]) == ("", {})


# ---------------------------------------------------------------- no distance between accessions

ACCESSIONS = ["ENSG00000146648", "P00533", "NM_005228", "HGNC:3236", "1956", "ENSMUSG00000020122.8"]


@pytest.mark.parametrize("name", ACCESSIONS)
def test_accessions_have_no_closest(name):
    near = [*ACCESSIONS, name[:-1] + ("1" if name[-1] != "1" else "2")]
    assert close_species(name, [each for each in near if each != name]) == []
    message = refusal(responses(["EGF"], [name]))
    assert "closest" not in message
    assert "translate one of them" in message


def test_other_kinds_of_names_are_translated_unless_the_network_has_them_elsewhere():
    network = Network.from_edges([("1950", "1956"), ("1956", "5594")])
    assert "numbers, as Entrez identifiers are: translate" in refusal(responses(["EGF"], ["ERK"]), network)
    held = Network(network.edges, network.species, other_names={"name='gene'": ["EGF", "EGFR", "ERK"]})
    message = refusal(responses(["EGF"], ["ERK"]), held)
    assert "2 of them in another place: read it with name='gene'" in message
    assert "translate" not in message


# ---------------------------------------------------------------- tables that look transposed


def turned(rows, columns):
    frame = pd.DataFrame(np.arange(len(rows) * len(columns), dtype=float).reshape(len(rows), -1) % 2, rows, columns)
    return Responses(frame, frame)


@pytest.mark.parametrize("columns", [["s1", "s2", "s3"], ["1", "2", "3"], ["well A1", "well A2", "well A3"]])
def test_transposed_tables_are_called_so(columns):
    message = refusal(turned(["EGF", "EGFR", "MEKi", "ERK"], columns))
    assert "look transposed: their row names are species ('EGF', 'EGFR', 'MEKi' and 1 more)" in message
    assert "translate" not in message


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (["s1", "s2", "s3", "s4"], ["x", "y"]),  # names that are simply wrong
        (["EGF", "EGF_TNF", "MEKi_TNF", "c"], ["x", "y"]),  # a sample called after its treatment
        (["EGF", "TNF", "MEK", "ERK"], ["ENSG00000146648", "ENSG00000146649"]),  # all of them
        (["EGF", "TNF", "MEK", "ERK"], ["1956", "5594"]),  # Entrez
        (["EGF", "TNF", "MEK", "ERK"], ["egf", "erk"]),  # columns that are species but for case
        (["EGF", "TNF", "MEK", "ERK"], ["EGF+TNF", "EGF+MEK"]),
    ],
)
def test_others_are_not(rows, columns):
    assert "transposed" not in refusal(turned(rows, columns))


# ---------------------------------------------------------------- columns that are no treatments


@pytest.mark.parametrize("values", [range(6), range(100, 106), [5, 3, 1, 0, 2, 4]])
@pytest.mark.parametrize("on_unmatched", ["error", "drop"])
def test_identifiers_that_pass_for_a_treatment(values, on_unmatched):
    table = responses(["EGF", "TNF"], ["ERK"])
    table.treatments.insert(1, "well", list(values))
    message = refusal(table, on_unmatched=on_unmatched)
    assert "column 'well' has another number in every sample, as identifiers have" in message


def test_what_was_the_same_in_every_sample():
    table = responses(["EGF", "TNF"], ["ERK"])
    table.treatments["serum"] = 1.0
    assert "'serum' is the same in every sample, so that it tells nothing: leave that column out" in refusal(table)


def test_dates_of_spreadsheets_among_treatments_and_readouts():
    message = refusal(responses(["EGF", "1-Mar"], ["ERK", "7-Sep"]))
    assert "'1-Mar' (probably MARCH1 or MARC1), '7-Sep' (probably SEPT7)" in message


@pytest.mark.parametrize("name", ["NT5E", "CON1", "WT1", "MOCK1", "CTRL1X", "MEDIATOR", "DMSOX"])
def test_genes_that_begin_like_a_control_are_none(name):
    assert "may be a control" not in refusal(responses(["EGF", name], ["ERK"], categories=True))


@pytest.mark.parametrize(
    "label", ["NTC", "sg-NT", "DMSO_24h", "WT", "no treatment", "untreated cells", "ctrl-2", "neg."]
)
def test_labels_of_controls(label):
    assert f"{label!r} may be a control" in refusal(responses(["EGF", label], ["ERK"], categories=True))
    # In a table of columns no flag says so.
    assert "a control is a row of zeros" in refusal(responses(["EGF", label], ["ERK"]))


@pytest.mark.parametrize("joiner", ["+", "_", " + ", "||", " || ", ";", "/", "__", "--", " and ", " & ", "~", "::"])
def test_separators_are_found(joiner):
    labels = [joiner.join(parts) for parts in (("EGF", "TNF"), ("EGF", "MEKi"), ("EGF", "TNF", "MEKi"))]
    there = set(NETWORK.species)
    separator, cut = find_separator(labels, lambda part: part in there or part.removesuffix("i") in there)
    assert cut == labels
    assert all(part.strip() in {"EGF", "TNF", "MEKi"} for label in labels for part in label.split(separator))


# ---------------------------------------------------------------- duplicates


def twice(treatments, readouts):
    return [
        (build_data, responses(treatments, readouts)),
        (
            stream_data,
            ArrayResponses(
                np.ascontiguousarray(responses(treatments, readouts).treatments.to_numpy()),
                np.ascontiguousarray(responses(treatments, readouts).readouts.to_numpy()),
                treatments=treatments,
                readouts=readouts,
            ),
        ),
    ]


@pytest.mark.parametrize("side", [0, 1])
def test_duplicates_that_are_dropped_do_no_harm(side):
    for build, table in twice(["EGF", "X", "TNF", "X"], ["ERK", "Y", "Y"]):
        data = build(NETWORK, table, on_unmatched="drop")
        assert (data.graph.inputs, data.graph.outputs) == (("TR:EGF", "TR:TNF"), ("DV:ERK",))
    names = [["EGF", "TNF"], ["ERK", "IKK"]]
    names[side] += names[side][:1]
    for build, table in twice(*names):
        for drop in ("error", "drop"):
            with pytest.raises(
                DataError, match=f"duplicated {['treatment', 'readout'][side]} columns '{names[side][0]}'"
            ):
                build(NETWORK, table, on_unmatched=drop)


def test_an_inhibitor_in_capitals_where_case_is_ignored():
    table = responses(["EGF", "MEKI"], ["ERK"])
    assert "ignore_case=True" in refusal(table)
    assert build_data(NETWORK, table, ignore_case=True).graph.inputs == ("TR:EGF", "TR:MEKi")


@pytest.mark.parametrize("wrong", ["n.sif", pd.DataFrame({"EGF": [1.0]}), None])
def test_wrong_objects_are_named(wrong):
    with pytest.raises(TypeError, match=r"responses must be gsnn\.io\.Responses"):
        build_data(NETWORK, wrong)
    with pytest.raises(TypeError, match=r"network must be gsnn\.io\.Network"):
        build_data(wrong, responses(["EGF"], ["ERK"]))
    with pytest.raises(TypeError, match="stream_responses"):
        stream_data(NETWORK, responses(["EGF"], ["ERK"]))
