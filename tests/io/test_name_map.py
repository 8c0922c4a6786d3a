"""Maps of names: what they say, what is refused, and what they make of a network and responses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.data import build_data, stream_data
from gsnn.data.naming import dose_notes, proposed_map, too_wide
from gsnn.io import ArrayResponses, Network, Responses, read_name_map
from gsnn.io.name_map import Scale

MAP = """label,species,effect,site,scale
PD-0325901,MAP2K1,inhibits,,log
PD-0325901,MAP2K2,inhibits,,log
EGF,EGFR,activates,,sqrt:4
AKT_pS473,AKT1,measures,S473,
AKT_pT308,AKT1,measures,T308,
panERK,MAPK1,measures,,
panERK,MAPK3,measures,,
gone,,measures,,
"""
NETWORK = Network.from_edges(
    [("EGFR", "MAP2K1", 1), ("EGFR", "MAP2K2", 1), ("MAP2K1", "MAPK1", 1), ("MAP2K2", "MAPK3", 1), ("EGFR", "AKT1", 1)]
)
DRUG = np.array([0.0, 1.5, 13.5, 0.0])


@pytest.fixture
def path(tmp_path):
    (tmp_path / "map.csv").write_text(MAP)
    return tmp_path / "map.csv"


def responses(**more):
    readouts = {name: [0.1, 0.2, 0.3, 0.4] for name in ("AKT_pS473", "AKT_pT308", "panERK")}
    return Responses(pd.DataFrame({"PD-0325901": DRUG, "EGF": [0.0, 16, 0, 4], **more}), pd.DataFrame(readouts))


def test_a_map_makes_the_graph(path):
    data = build_data(NETWORK, responses(), names=read_name_map(path))
    graph = data.graph
    assert graph.inputs == ("TR:PD-0325901", "TR:EGF")
    assert graph.outputs == ("DV:AKT_pS473", "DV:AKT_pT308", "DV:panERK")
    index, signs = graph.edge_index_dict, graph.edge_sign_dict
    fed = [(graph.inputs[i], graph.functions[f]) for i, f in index["input", "to", "function"].T.tolist()]
    assert fed == [("TR:PD-0325901", "MAP2K1"), ("TR:PD-0325901", "MAP2K2"), ("TR:EGF", "EGFR")]
    assert signs["input", "to", "function"].tolist() == [-1, -1, 1]
    read = [(graph.functions[f], graph.outputs[o]) for f, o in index["function", "to", "output"].T.tolist()]
    assert read == [("AKT1", "DV:AKT_pS473"), ("AKT1", "DV:AKT_pT308"), ("MAPK1", "DV:panERK"), ("MAPK3", "DV:panERK")]
    # log10(1 + d / smallest), sqrt(d / 4).
    np.testing.assert_allclose(data.x[:, 0], [0, np.log10(2), 1, 0], rtol=1e-6)
    assert data.x[:, 1].tolist() == [0, 2, 0, 1]
    assert data.scales == {"TR:PD-0325901": "log:1.5", "TR:EGF": "sqrt:4"}
    assert data.sources["map"]["sha256"]


def test_what_the_map_has_and_the_data_or_the_network_lack(path, tmp_path):
    (tmp_path / "more.csv").write_text(MAP + "panERK,MAPK7,measures,,\nXYZ,EGFR,inhibits,,\n")
    data = build_data(NETWORK, responses(), names=read_name_map(tmp_path / "more.csv"))
    assert "the map has 1 label that the data do not have: 'XYZ'" in data.warnings
    assert any(
        "the map names species that the network does not have: 'MAPK7' (of 'panERK')" in w for w in data.warnings
    )
    (tmp_path / "none.csv").write_text("label,species,effect\nPD-0325901,MEK9,inhibits\n")
    with pytest.raises(DataError, match=r"the map names species .*'MEK9' \(of 'PD-0325901'\)"):
        build_data(NETWORK, responses(), names=read_name_map(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,species\na,b\n", "must have the columns label, species and effect"),
        ("label,species,effect,sites\na,b,measures,x\n", r"unknown column 'sites' \(did you mean 'site'\?\)"),
        ("label,species,effect\na,b,inhibit\n", "unknown effect 'inhibit'.*did you mean 'inhibits'"),
        ("label,species,effect,scale\na,b,inhibits,ln\n", "line 2: unknown scale 'ln'"),
        ("label,species,effect,scale\na,b,inhibits,log:0\n", "the unit of a scale must be a number above 0, got '0'"),
        ("label,species,effect,scale\na,b,measures,log\n", "a readout has no dose"),
        ("label,species,effect,scale\na,b,inhibits,log\na,c,inhibits,sqrt\n", "'a' has two scales, log and sqrt"),
        ("label,species,effect\na,b,inhibits\na,b,activates\n", "'a' both inhibits and activates 'b'"),
        ("label,species,effect\n,b,inhibits\n", "line 2: the label is empty"),
    ],
)
def test_what_no_map_says(tmp_path, text, words):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_name_map(tmp_path / "map.csv")


def test_scales_keep_zero_and_sign():
    doses = np.array([-8.0, 0.0, 2.0])
    assert Scale("log").of(doses).unit == 2.0
    np.testing.assert_allclose(Scale("log", 2.0).apply(doses), [-np.log10(5), 0, np.log10(2)])
    np.testing.assert_allclose(Scale("sqrt", 2.0).apply(doses), [-2, 0, 1])
    assert Scale().apply(doses).tolist() == doses.tolist()
    assert Scale("log").of(np.zeros(3)).apply(np.zeros(3)).tolist() == [0, 0, 0]
    assert str(Scale.parse("LOG:0.5")) == "log:0.5"


def test_a_proposal_is_read_back_and_fits(tmp_path):
    text = proposed_map(NETWORK, responses(EGFR=[0.0, 0, 1, 1]))
    rows = [line.split(",") for line in text.splitlines()]
    assert rows[0] == ["label", "species", "effect", "site", "scale", "note"]
    assert ["EGFR", "EGFR", "activates", "", "log:1", ""] in rows
    assert ["AKT_pS473", "AKT1", "measures", "S473", "", "a guess: check it"] in rows
    assert ["EGF", "EGFR", "inhibits", "", "log:4", "a guess: check it"] in rows
    (tmp_path / "map.csv").write_text(text)
    again = read_name_map(tmp_path / "map.csv")
    assert proposed_map(NETWORK, responses(EGFR=[0.0, 0, 1, 1]), again) == text.replace("a guess: check it", "")


def test_doses_that_span_too_much_are_told(path):
    assert too_wide(np.array([0, 0.1, 1.1]))
    assert not too_wide(np.array([0, 0.3, 3.0]))
    assert not too_wide(np.zeros(4))
    assert dose_notes(["TR:a"], np.array([[0.5], [1.0]])) == []
    assert "a log or square-root scale is offered" in dose_notes(["TR:a"], DRUG[:, None])[0]
    assert dose_notes(["TR:a", "TR:b"], build_data(NETWORK, responses(), names=read_name_map(path)).x) == []


def test_streams_take_names_and_refuse_scales(path, tmp_path):
    names = read_name_map(path)
    arrays = ArrayResponses(np.eye(4, 2), np.ones((4, 1)), treatments=["PD-0325901", "EGF"], readouts=["AKT_pS473"])
    with pytest.raises(DataError, match="the map has scales"):
        stream_data(NETWORK, arrays, names=names)
    (tmp_path / "plain.csv").write_text(MAP.replace(",log", ",").replace(",sqrt:4", ","))
    data = stream_data(NETWORK, arrays, names=read_name_map(tmp_path / "plain.csv"))
    assert data.graph.inputs == ("TR:PD-0325901", "TR:EGF")
    assert data.graph.outputs == ("DV:AKT_pS473",)
