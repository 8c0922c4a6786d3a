"""Cells of a benchmark: each once, what stands in the file stays, and where the data are missing it goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

KEY = ["problem", "seed"]


@pytest.fixture
def cells(load_benchmark):
    return load_benchmark("cells")


def test_a_stopped_benchmark_goes_on_where_it_was(cells, tmp_path):
    path, calls = tmp_path / "done.csv", []

    def measured(problem, seed):
        calls.append((problem, seed))
        if (problem, seed) == ("b", 0) and len(calls) == 3:
            raise KeyboardInterrupt
        return [{"problem": problem, "seed": seed, "arm": arm, "auc": 0.1 * seed + i} for i, arm in enumerate("xy")]

    every = [((name, seed), partial(measured, name, seed)) for name in "ab" for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        cells.work(path, KEY, every)
    assert pd.read_csv(path)[KEY].drop_duplicates().to_numpy().tolist() == [["a", 0], ["a", 1]]
    before = path.read_text()
    cells.work(path, KEY, every)
    assert path.read_text().startswith(before)
    assert calls == [("a", 0), ("a", 1), ("b", 0), ("b", 0), ("b", 1)]
    done = cells.read(path)
    assert len(done) == 8
    assert done["auc"].tolist() == pytest.approx([0, 1, 0.1, 1.1] * 2)
    assert cells.is_done(path, KEY, ("b", 1))
    assert not cells.is_done(path, KEY, ("b", 2))


def test_a_cell_without_its_data_is_left_out_with_a_word(cells, tmp_path, capsys):
    def missing():
        raise FileNotFoundError("no folder GSNN_DATA")

    rows = [{"problem": "a", "seed": 0, "auc": 0.5}]
    cells.work(tmp_path / "done.csv", KEY, [(("b", 3), missing), (("a", 0), lambda: rows)], ["problem", "auc"])
    err = capsys.readouterr().err
    assert "left out: b 3: no folder GSNN_DATA" in err
    assert "seed" not in err
    assert cells.read(tmp_path / "done.csv").to_dict("records") == rows


def test_the_options_that_all_share(cells):
    given = cells.arguments("What.", Path("x.csv"), file="--out").parse_args(["--out", "y.csv", "--table"])
    assert (given.out, given.table) == (Path("y.csv"), True)
    with pytest.raises(SystemExit):
        cells.arguments("What.", Path("x.csv")).parse_args(["--quick"])
