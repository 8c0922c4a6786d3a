"""The options of the readers reach them: GraphML, edges without a direction, AnnData; and the report repeats them."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from gsnn.cli import main
from gsnn.io import read_edges
from gsnn.runs import Run

from .conftest import EDGES, SMALL, write_csv, write_problem


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def test_edges_without_a_direction(tmp_path, capsys):
    _, data = write_problem(tmp_path)
    rows = [(a, b, 1, int(s > 0), int(s < 0)) for a, b, s in EDGES]
    head = ("source", "target", "is_directed", "is_stimulation", "is_inhibition")
    network = write_csv(tmp_path / "omnipath.csv", [head, *rows, ("a", "f", 0, 0, 0)])
    counts = {}
    for how in ("both", "drop"):
        words = ["--graph", network, "--data", data, "--undirected", how]
        counts[how] = json.loads(call(capsys, "check", *words, "--json")[1])["network"]["edges"]
    assert counts == {"both": len(EDGES) + 2, "drop": len(EDGES)}
    code, _, err = call(capsys, "check", "--graph", network, "--data", data, "--undirected", "dorp")
    assert (code, "did you mean 'drop'" in err) == (2, True)


def test_names_of_graphml(tmp_path, capsys):
    pytest.importorskip("defusedxml")
    import networkx as nx

    _, data = write_problem(tmp_path)
    G = nx.DiGraph()
    for name in "abcdef":
        G.add_node(f"id_{name}", symbol=name)
    G.add_edges_from((f"id_{a}", f"id_{b}") for a, b, _ in EDGES)
    nx.write_graphml_xml(G, tmp_path / "network.graphml")
    words = ["--graph", tmp_path / "network.graphml", "--data", data]
    assert call(capsys, "check", *words, "-q")[0] == 2
    assert call(capsys, "check", *words, "--node-names", "symbol", "-q") == (0, "", "")


def write_cells(path):
    """40 samples of AnnData: drugs a and b, their combinations, doses; d and f are measured."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    drug = np.array(["a", "b", "a|b", "none"] * 10)
    x = np.c_[["a" in d.split("|") for d in drug], ["b" in d.split("|") for d in drug]].astype(float)
    dose = rng.integers(1, 4, size=40).astype(float)
    y = (x * dose[:, None]) @ np.array([[1.0, 2.0], [-1.0, 1.0]]) + rng.normal(scale=0.1, size=(40, 2))
    with h5py.File(path, "w") as file:
        columns = {"obs": {"drug": drug.tolist(), "amount": dose}, "var": {"symbol": ["d", "f"]}}
        indices = {"obs": [f"c{i}" for i in range(40)], "var": ["g1", "g2"]}
        for name, table in columns.items():
            group = file.create_group(name)
            group.attrs.update({"_index": "_index", "column-order": list(table)})
            for key, values in {"_index": indices[name], **table}.items():
                group[key] = values
        file.create_group("layers")["scaled"] = y
    return path


def test_anndata_goes_the_whole_way(tmp_path, capsys, monkeypatch):
    cells = write_cells(tmp_path / "cells.h5ad")
    network, _ = write_problem(tmp_path)
    run = tmp_path / "run"
    reading = ["--perturbation", "drug", "--dose", "amount", "--control", "none", "--separator", "|"]
    reading += ["--layer", "scaled", "--var-names", "symbol"]
    words = ["--graph", network, "--data", cells, *reading]
    code, out, err = call(capsys, "check", *words, "--json")
    assert code == 0, err
    assert json.loads(out)["responses"]["treatments"] == 2
    code, _, err = call(capsys, "train", *words, "-o", run, *SMALL)
    assert code == 0, err
    assert list(Run.open(run).data().inputs.columns) == ["TR:a", "TR:b"]
    code, _, err = call(capsys, "infer", run, "--top", 3, "--out", tmp_path / "with_edges.h5ad")
    assert code == 0, err
    assert len(read_edges(tmp_path / "with_edges.h5ad")) == 3
    # The command of the report reads the same data.
    again = shlex.split(Run.open(run).info["commands"]["train"])
    assert again[:2] == ["gsnn", "train"]
    again[again.index("-o") + 1] = str(tmp_path / "again")
    assert call(capsys, *again[1:], "-q")[0] == 0
    infos = [Run.open(path).info["data"]["fingerprint"] for path in (run, tmp_path / "again")]
    assert infos[0] == infos[1]
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "init", *words, "-o", "gsnn.toml", "-q")[0] == 0
    assert call(capsys, "check", "--config", "gsnn.toml", "-q")[0] == 0


def test_a_large_file_is_not_read_for_its_fingerprint(tmp_path, monkeypatch):
    from gsnn.base.files import sha256
    from gsnn.runs import Sources

    cells = write_cells(tmp_path / "cells.h5ad")
    network, _ = write_problem(tmp_path)
    whole = sha256(cells)
    read = type(cells).read_bytes

    def small(path):
        assert path != cells, "the file was read whole"
        return read(path)

    monkeypatch.setattr("pathlib.Path.read_bytes", small)
    assert Sources.from_files(network, cells).files["data"]["sha256"] == whole


def test_columns_by_number_where_there_is_no_header(tmp_path, capsys):
    _, data = write_problem(tmp_path)
    table = tmp_path / "named.txt"
    table.write_text("".join(f"{s}\t{100 + i}\t{t}\t{200 + i}\n" for i, (s, t, _) in enumerate(EDGES)))
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--graph", str(table), "--data", str(data)])
    assert stopped.value.code == 2
    assert "--source-column 1 --target-column 3" in capsys.readouterr().err
    columns = ["--source-column", "1", "--target-column", "3"]
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--graph", str(table), *columns, "--data", str(data), "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["network"]["edges"] == len(EDGES)
    config = tmp_path / "gsnn.toml"
    config.write_text(f'[data]\ngraph = "{table.name}"\ndata = "{data.name}"\nsource-column = 1\ntarget-column = 3\n')
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--config", str(config), "--quiet"])
    assert stopped.value.code == 0
