"""A format of edges from outside is one entry of the table: written, read, and known to ``gsnn infer --out``."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from gsnn.io import EDGE_FORMATS, Network, read_edges, write_edges
from gsnn.io.text import decode
from gsnn.io.write import EdgeFormat
from gsnn.runs import infer_run, train_files


@pytest.fixture
def json_lines(monkeypatch):
    """A line of JSON for each edge; nothing else in the package knows of it."""

    def write(frame, graph, file):
        for source, target, kind in frame[["source", "target", "status"]].itertuples(index=False, name=None):
            file.write(json.dumps([source, target, kind]).encode() + b"\n")

    def read(raw, path):
        rows = [json.loads(line) for line in decode(raw, "edges").content.splitlines()]
        return pd.DataFrame(rows, columns=["source", "target", "status"])

    monkeypatch.setitem(EDGE_FORMATS, "jsonl", EdgeFormat((".jsonl",), write, read, network=True))


@pytest.mark.usefixtures("json_lines")
@pytest.mark.parametrize("name", ["edges.jsonl", "edges.jsonl.gz"])
def test_a_format_is_one_entry(tmp_path, name):
    table = pd.DataFrame({"source": ["c"], "target": ["a"], "score": [0.5]})
    path = write_edges(table, tmp_path / name, graph=Network.from_edges([("a", "b"), ("b", "c")]))
    back = read_edges(path)
    assert back[["source", "target", "status"]].to_numpy().tolist() == [
        ["c", "a", "proposed"],
        ["a", "b", "known"],
        ["b", "c", "known"],
    ]


@pytest.mark.usefixtures("json_lines")
def test_the_command_takes_it(tmp_path):
    network = tmp_path / "network.sif"
    network.write_text("a\t1\tb\nb\t1\tc\nb\t1\td\n", encoding="utf-8")
    data = pd.DataFrame({"TR:a": [0.0, 1.0] * 6, "DV:c": range(12), "DV:d": [0.5] * 11 + [1.0]})
    data.to_csv(tmp_path / "data.csv", index=False)
    small = {"epochs": 1, "channels": 2, "layers": 3}
    run, _ = train_files(tmp_path / "run", graph=network, data=tmp_path / "data.csv", settings=small)
    infer_run(run, out=[tmp_path / "edges.jsonl"])
    back = read_edges(tmp_path / "edges.jsonl")
    assert back["status"].value_counts().to_dict() == {"proposed": 4 * 3 - 3 - 3, "known": 3}  # none into the treated a
