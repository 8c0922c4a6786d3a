"""gsnn simulate: files that the other commands take, the same for the same seed."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from gsnn.cli import main
from gsnn.io import read_network, read_responses
from gsnn.runs.simulate import FILES
from gsnn.simulation import convergence_graph, random_graph, simulate
from gsnn.simulation.benchmark import held_out_roles
from gsnn.simulation.random_graphs import RANDOM_KINDS


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def edges_of(path):
    table = read_network(path).edges
    return set(zip(table["source"], table["target"], strict=True))


def test_the_converging_graph_is_that_of_the_benchmark(tmp_path, capsys):
    code, out, err = call(capsys, "simulate", "-o", tmp_path, "-n", 4, "--samples", 30, "--seed", 3, "--noise", 0.2)
    assert code == 0, err
    assert f"Next: gsnn train --config {tmp_path / 'gsnn.toml'}" in out
    G, inputs, _, outputs, edges = convergence_graph(4)
    roles = held_out_roles(4)
    truth = pd.read_csv(tmp_path / "truth.csv")
    assert dict(zip(zip(truth["source"], truth["target"], strict=True), truth["role"], strict=True)) == roles
    assert edges_of(tmp_path / "full.csv") == set(edges)
    assert edges_of(tmp_path / "network.sif") == set(edges) - set(roles)
    x, _, y, _ = simulate(G, 30, 0, inputs, outputs, noise_scale=0.2, seed=3)
    responses = read_responses(tmp_path / "responses.csv")
    assert responses.treatments.to_numpy() == pytest.approx(x, rel=1e-5)
    assert responses.readouts.to_numpy() == pytest.approx(y, rel=1e-5)
    assert list(responses.treatments.columns) == ["f0", "f1", "f2", "f3"]
    assert list(responses.readouts.columns) == ["f4", "f5", "f6", "f7"]


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_random_graphs_pass_the_check_and_repeat(tmp_path, capsys, kind):
    words = ["--kind", kind, "--size", 20, "--samples", 30]
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        assert call(capsys, "simulate", "-o", tmp_path / name, *words, "--seed", seed, "-q") == (0, "", "")
    first, again, other = ({f: (tmp_path / d / f).read_bytes() for f in FILES} for d in ("first", "again", "other"))
    assert first == again
    assert first["responses.csv"] != other["responses.csv"]
    hidden = edges_of(tmp_path / "first" / "truth.csv")
    assert hidden
    assert hidden | edges_of(tmp_path / "first" / "network.sif") == edges_of(tmp_path / "first" / "full.csv")
    assert not hidden & edges_of(tmp_path / "first" / "network.sif")
    code, out, _ = call(capsys, "check", "--config", tmp_path / "first" / "gsnn.toml", "--json")
    found = json.loads(out)
    assert (code, found["types"]["functions"]) == (0, 20)
    assert found["reachability"]["outputs no input reaches"] == []
    assert (found["reachability"]["functions on a cycle"] > 0) == (kind == "cyclic")


def test_settings_are_those_of_the_benchmark(tmp_path, capsys):
    code, out, _ = call(capsys, "simulate", "-o", tmp_path, "--setting", "b", "--samples", 20, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["settings"]["n"], found["settings"]["noise"], found["counts"]["hidden"]) == (12, 0.15, 16)
    assert 'norm = "groupbatch"' in (tmp_path / "gsnn.toml").read_text()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--setting", "D"], ["unknown setting 'D'"]),
        (["--setting", "A", "--kind", "dag"], ["leave kind out"]),
        (["--kind", "dga"], ["did you mean 'dag'"]),
        (["--kind", "dag", "-n", 5], ["n must be at least 10"]),
        (["-n", 1], ["at least 2"]),
        (["--kind", "dag", "--hide", 1], ["hide must be a share"]),
        (["--samples", 2], ["samples must be at least 10"]),
        (["--noise", -1], ["noise_scale"]),
        (["--seed", -1], ["seed must be 0 or more"]),
    ],
)
def test_refused_without_a_file(tmp_path, capsys, more, words):
    code, out, err = call(capsys, "simulate", "-o", tmp_path / "new", *more)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert all(word in err for word in words)
    assert not (tmp_path / "new").exists()


def test_what_stands_there_is_kept(tmp_path, capsys):
    few = ["-n", 4, "--samples", 20, "-q"]
    (tmp_path / "notes.txt").write_text("mine")
    assert call(capsys, "simulate", "-o", tmp_path, *few)[0] == 0
    code, _, err = call(capsys, "simulate", "-o", tmp_path, *few, "--seed", 1)
    assert (code, "--force" in err) == (2, True)
    assert call(capsys, "simulate", "-o", tmp_path, *few, "--seed", 1, "--force")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_degrees_of_random_graphs():
    for kind in RANDOM_KINDS:
        G, inputs, functions, outputs, edges = random_graph(kind, 50, seed=0)
        assert len(functions) == 50
        assert 40 <= len(edges) <= 140
        assert {G.in_degree(name) for name in outputs} == {1}
        assert {G.out_degree(name) for name in inputs} == {1}
        assert len(set(edges)) == len(edges)
        assert all(s != t for s, t in edges)
    for bad in (("dag", 5), ("tree", 20)):
        with pytest.raises(ValueError, match=r"n must be at least|unknown kind"):
            random_graph(*bad)


def test_every_kind_goes_through_the_commands(tmp_path):
    """Simulate, train, infer, evaluate; in so small a network the data cannot tell most edges apart."""
    from gsnn.discovery.evaluate import evaluate_table
    from gsnn.io.truth import read_truth
    from gsnn.runs import Run, train_files
    from gsnn.runs.infer import infer_run
    from gsnn.runs.simulate import simulate_files

    found = simulate_files(tmp_path / "s", kind="layered", n=16, samples=300, hide_kinds="all", hide=0.3, seed=1)
    truth = pd.read_csv(tmp_path / "s" / "truth.csv")
    counts = truth["kind"].value_counts()
    assert counts["input->function"] == max(1, round(0.3 * found.counts["inputs"]))
    assert counts["function->output"] == max(1, round(0.3 * found.counts["outputs"]))
    assert all(name.startswith("TR:") for name in truth.loc[truth["kind"] == "input->function", "source"])
    assert len(truth) == found.counts["hidden"]
    files = {"graph": tmp_path / "s" / "network.sif", "data": tmp_path / "s" / "responses.csv"}
    settings = {"epochs": 30, "channels": 4, "layers": 5, "lr": 5e-3}
    run, _ = train_files(tmp_path / "run", settings=settings, **files)
    edges = infer_run(run, kinds="all")
    assert list(dict.fromkeys(edges["kind"])) == ["input->function", "function->function", "function->output"]
    data = Run.open(tmp_path / "run").data()
    true = read_truth(tmp_path / "s" / "truth.csv")
    for kind in ("input->function", "function->output"):
        result = evaluate_table(edges, true, graph=data.graph, kind=kind)
        assert result.counts["n_positives"] == counts[kind]
        assert set(result.metrics["kind"]) == {kind}
        assert {"table", "random", "degree product"} <= set(result.wide().index)
        assert 0 <= result.wide().loc["table", "roc_auc"] <= 1
        assert result.counts["n_unscored"] == 0
