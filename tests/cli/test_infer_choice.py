"""Several methods, patterns, limits, forbidden and required edges, and the formats of the table."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatchcase

import pytest
import torch

from gsnn.cli import main
from gsnn.io import read_edges
from gsnn.runs import Run
from gsnn.runs.infer import infer_run

from .conftest import EDGES, SMALL, write_csv, write_problem

NAMES = {"a": "in:1", "b": "in:2", "c": "mid1", "d": "mid2", "e": "mid3", "f": "out"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice")
    network, data = write_problem(folder, NAMES)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--graph", str(network), "--data", str(data), "-o", str(folder / "run"), *SMALL])
    assert stopped.value.code == 0
    return folder / "run"


@pytest.fixture
def run(base, tmp_path):
    return shutil.copytree(base, tmp_path / "run")


@pytest.fixture
def full(run):
    """Every candidate by magnitude."""
    return infer_run(Run.open(run))


def call(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def pairs(table):
    return list(zip(table["source"], table["target"], strict=True))


def test_further_methods_add_their_columns(run, capsys):
    alone = infer_run(Run.open(run), method="gradient").set_index(["source", "target"])
    code, _, err = call(capsys, "infer", run, "--method", "magnitude,gradient", "--method", "magnitude-partial", "-q")
    assert code == 0, err
    table = Run.open(run).edges()
    further = ["rank_gradient", "score_gradient", "rank_magnitude-partial", "score_magnitude-partial"]
    assert [name for name in table.columns if name.startswith(("rank_", "score_"))] == further
    assert table["rank"].tolist() == list(range(1, 15))
    both = table.set_index(["source", "target"]).loc[alone.index]
    assert both["score_gradient"].to_numpy() == pytest.approx(alone["score"].to_numpy(), rel=1e-9, nan_ok=True)
    defined = alone["score"].notna().to_numpy()
    assert both["rank_gradient"][defined].tolist() == alone["rank"][defined].tolist()
    assert both["rank_gradient"][~defined].isna().all()
    described = json.loads((run / "edges.csv-metadata.json").read_text())["tableSchema"]["columns"]
    (entry,) = (each for each in described if each["name"] == "rank_gradient")
    assert (entry["datatype"], "by the method gradient" in entry["dc:description"]) == ("integer", True)


def test_the_report_compares_the_methods(run):
    from gsnn.report.contents import collect

    infer_run(Run.open(run), method=["magnitude", "gradient"], targets=["mid*"], forbidden=["mid1:mid3"], per_target=3)
    data = collect(Run.open(run))
    assert set(data.agreement[["first", "second"]].to_numpy().ravel()) == {"magnitude", "gradient"}


def test_patterns_keep_the_ranks_of_all(run, full, capsys):
    code, _, err = call(capsys, "infer", run, "--sources", "in:*", "--sources", "out", "--targets", "mid[12]", "-q")
    assert code == 0, err
    table = Run.open(run).edges()
    keep = [
        (fnmatchcase(s, "in:*") or s == "out") and fnmatchcase(t, "mid[12]")
        for s, t in zip(full["source"], full["target"], strict=True)
    ]
    assert pairs(table) == pairs(full[keep])
    assert table["rank"].tolist() == full[keep]["rank"].tolist()
    assert Run.open(run).info["inference"]["candidates"] == 14
    code, _, err = call(capsys, "infer", run, "--sources", "im:1")
    assert (code, "in:1" in err) == (2, True)


def test_per_target_then_top(run, full):
    defined = full[full["score"].notna()]
    best = defined.groupby("target", sort=False).head(2)
    assert pairs(infer_run(Run.open(run), per_target=2)) == pairs(best)
    assert pairs(infer_run(Run.open(run), per_target=2, top=5)) == pairs(best.head(5))
    assert pairs(infer_run(Run.open(run), top=5)) == pairs(defined.head(5))


def test_forbidden_edges_are_no_candidates(run, full, tmp_path, capsys):
    file = write_csv(
        tmp_path / "no.csv",
        [("source", "target"), (*pairs(full)[0],), ("mid1", "nobody"), (NAMES["a"], NAMES["c"])],
    )
    typed = "in:2:in:1"
    code, _, err = call(capsys, "infer", run, "--forbid", file, "--forbid", typed)
    assert code == 0
    assert "1 of 3 forbidden edges" in err
    table = Run.open(run).edges()
    banned = {pairs(full)[0], ("in:2", "in:1")}
    assert pairs(table) == [pair for pair in pairs(full) if pair not in banned]
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert (
        Run.open(run).info["inference"]["candidates"] == 14 - 1
    )  # in:2:in:1 leads into a treatment, which is no target
    few = infer_run(Run.open(run), forbidden=[file, typed], top=3)
    assert pairs(few) == pairs(table)[:3]


def test_required_edges_are_written_with_their_rank(run, full, capsys):
    last = pairs(full)[-1]
    known = NAMES["a"], NAMES["c"]
    assert (EDGES[0][0], EDGES[0][1]) == ("a", "c")
    table = infer_run(Run.open(run), top=2, required=[last, known])
    assert pairs(table) == [*pairs(full)[:2], last]
    assert table["rank"].tolist()[-1] == full["rank"].tolist()[-1]
    assert table["required"].tolist() == [False, False, True]
    assert "in the network already" in " ".join(Run.open(run).info["inference"]["notes"])
    both = ["--require", ":".join(last), "--forbid", ":".join(last)]
    code, _, err = call(capsys, "infer", run, *both)
    assert (code, "both forbidden and required" in err) == (2, True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--forbid", "mid1:mid4"], ["there is no 'mid4'", "did you mean"]),
        (["--forbid", "mid1"], ["neither A:B nor a file"]),
        (["--require", "mid1:mid1"], ["self-edge"]),
        (["--method", "gradient,magnitud"], ["unknown method 'magnitud'"]),
        (["--method", ","], ["at least one method"]),
        (["--method", "gradient,magnitude", "--agg", "max"], ["are of one method"]),
        (["--per-target", 0], ["per-target must be at least 1"]),
        (["--out", "edges.xlsx"], ["unknown extension"]),
        (["--out", "nowhere/edges.csv"], ["no folder nowhere"]),
    ],
)
def test_refused_before_anything_is_computed(run, capsys, monkeypatch, more, words):
    monkeypatch.chdir(run)

    def never(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr("gsnn.runs.inference.ranking.score_pairs", never)
    code, out, err = call(capsys, "infer", run, *more)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    for word in words:
        assert word in err


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "parquet", "sif", "graphml"])
def test_formats(run, tmp_path, capsys, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    if suffix == "graphml":
        pytest.importorskip("defusedxml")
    file = tmp_path / f"edges.{suffix}"
    code, out, err = call(capsys, "infer", run, "--top", 4, "--out", file)
    assert code == 0, err
    assert str(file) in out
    table = read_edges(file)
    proposed = table[table["status"] == "proposed"]
    assert set(pairs(proposed)) == set(pairs(Run.open(run).edges()))
    assert len(table) - len(proposed) == (len(EDGES) if suffix in ("sif", "graphml") else 0)


def test_json_is_one_object(run, capsys):
    code, out, _ = call(capsys, "infer", run, "--top", 3, "--json")
    found = json.loads(out)
    assert (code, found["written"], len(found["edges"])) == (0, 3, 3)
    assert found["edges"][0]["rank"] == 1
    code, out, _ = call(capsys, "report", run, "--json")
    assert (code, json.loads(out)["report"]) == (0, str(run / "report.html"))


def test_a_memory_budget_changes_no_score_and_one_too_small_says_what_is_needed(run, full, capsys):
    code, _, err = call(capsys, "infer", run, "--memory-budget", "1MB", "-q")
    assert code == 0, err
    assert Run.open(run).edges()["score"].to_numpy() == pytest.approx(full["score"].to_numpy(), rel=1e-6)
    code, _, err = call(capsys, "infer", run, "--memory-budget", "100", "-q")
    assert code == 2
    assert "memory_budget is 100 bytes, but the scores of" in err
    assert "take at least" in err
    code, _, err = call(capsys, "infer", run, "--memory-budget", "much", "-q")
    assert code == 2
    assert "memory-budget must be a positive number of bytes" in err


def test_a_device_that_is_not_there_is_refused(run, capsys):
    code, _, err = call(capsys, "infer", run, "--device", "gpu", "-q")
    assert code == 2
    assert "unknown device 'gpu'; use 'cpu', 'cuda'" in err
    if not torch.cuda.is_available():
        code, _, err = call(capsys, "infer", run, "--device", "cuda", "-q")
        assert code == 2
        assert "torch finds no GPU here" in err
    assert call(capsys, "infer", run, "--device", "cpu", "-q")[0] == 0
