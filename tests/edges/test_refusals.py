"""What inferers refuse: graphs that are none, captures and statistics of another model, rows that are gone."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.torch_state import one_thread
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges.capture import capture
from gsnn.edges.embedding.mining import mine_edges
from gsnn.edges.rank_correlation import cross_correlation
from gsnn.edges.sample_store import SampleStore

from .worlds import FUNCTIONS, batches, gsnn, samples, small_graph

FF = ("function", "to", "function")
X, Y = samples(40)


def fitted(kind, model=None, **options):
    inferer = kind(gsnn() if model is None else model, small_graph(), **options)
    inferer.fit(batches(X, Y, 16), verbose=False)
    return inferer


@pytest.mark.parametrize(
    ("names", "pairs", "message"),
    [
        ([], [[], []], "data has no function nodes: there are no edges to infer"),
        (["a", "b", "a"], [[0], [1]], "function nodes of the same name"),
        (FUNCTIONS, [[0, 1], [1, 2], [2, 3]], r"must have shape \(2, E\), got \(3, 2\)"),
        (FUNCTIONS, [[0, 1], [1, len(FUNCTIONS)]], f"out of range: edge 1 = \\(1, {len(FUNCTIONS)}\\); there are"),
    ],
)
@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
def test_graphs_that_are_none(kind, names, pairs, message):
    data = SimpleNamespace(
        node_names_dict={"function": names}, edge_index_dict={FF: torch.tensor(pairs, dtype=torch.int64)}
    )
    with pytest.raises(ValueError, match=message):
        kind(gsnn(), data)


@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
@pytest.mark.parametrize("targets", [range(0), range(3, 1), range(0, 4, 2), range(-1, 2), range(99)])
def test_targets_are_a_range_of_nodes(kind, targets):
    with pytest.raises(ValueError, match="targets must be a range of nodes within"):
        kind(gsnn(), small_graph(), targets=targets)


@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
def test_no_pair_of_a_node_with_itself_where_targets_are_few(kind):
    whole, part = fitted(kind), fitted(kind, targets=range(1, 3))
    table = part.evaluate()
    assert set(table["dst_idx"]) == {1, 2}
    assert (table["src_idx"] != table["dst_idx"]).all()
    assert len(part.evaluate(exclude_self=False)) == len(table) + 2
    wanted = whole.evaluate().query("dst_idx in (1, 2)")
    name = part.score_name
    both = table.merge(wanted, on=["src_idx", "dst_idx"], suffixes=("", "_whole"))
    assert len(both) == len(table) == len(wanted)
    np.testing.assert_allclose(both[name], both[f"{name}_whole"], atol=1e-10)


def test_captures_of_another_model():
    seen = capture(gsnn(layers=3), X, Y)
    other = gsnn(layers=4)
    with pytest.raises(ValueError, match=r"seen holds 3 blocks of \d+ nodes, expected 4 and"):
        MagnitudeEdgeInferer(other, small_graph()).add(seen)
    with pytest.raises(ValueError, match=r"seen holds 3 blocks of \d+ nodes, expected 4 and"):
        GradientEdgeInferer(other, small_graph(), keep_post=False).add(seen, X, Y)


def test_statistics_that_cannot_be_added():
    with pytest.raises(ValueError, match="other differs in its numbers of channels, inputs or outputs"):
        fitted(GradientEdgeInferer, gsnn(channels=2)).merge(fitted(GradientEdgeInferer, gsnn(channels=3)))


def test_nothing_added_is_nothing_changed():
    inferer = fitted(MagnitudeEdgeInferer)
    before = inferer.evaluate()
    inferer.merge(MagnitudeEdgeInferer(gsnn(), small_graph()))
    pd.testing.assert_frame_equal(inferer.evaluate(), before)


def test_p_values_of_samples_that_were_not_scored():
    inferer = fitted(GradientEdgeInferer)
    scored = inferer.scored(score="normalised")
    inferer.update(X, Y)
    with pytest.raises(RuntimeError, match="samples were added since; evaluate again"):
        scored.table(scored.all_rows())
    assert inferer.scored(score="normalised").table(scored.all_rows())["p_value"].notna().any()


def test_samples_on_a_disk_that_was_full():
    store = SampleStore([2], memory_bytes=0)
    store.append([torch.ones(2, 5)])
    store._file.flush()
    os.ftruncate(store._file.fileno(), 8)
    with pytest.raises(RuntimeError, match="temporary file of samples was cut short; was the disk full"):
        store.read(0)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"unknown method 'kendall'.*'spearman'"):
        cross_correlation(torch.ones(1, 1, 3), torch.ones(1, 1, 3), "kendall")
    with pytest.raises(ValueError, match=r"unknown mining_strategy 'hardest'"):
        mine_edges(pd.DataFrame(), "score", "hardest")


def test_ranks_are_the_same_from_any_number_of_threads(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 7, 2, 50, generator=generator)
    alone = cross_correlation(x.clone(), y.clone(), "spearman")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(cross_correlation(x.clone(), y.clone(), "spearman"), alone)


def test_the_number_of_threads_comes_back_however_they_overlap():
    usual, inside, leave, seen = torch.get_num_threads(), threading.Event(), threading.Event(), []

    def other():
        with one_thread():
            seen.append(torch.get_num_threads())
            inside.set()
            leave.wait(30)
        seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        second = threading.Thread(target=other)
        with one_thread():
            with one_thread():
                assert torch.get_num_threads() == 1
                second.start()
                assert inside.wait(30)
            assert torch.get_num_threads() == 1
        leave.set()
        second.join()
        assert seen[0] == 1
        assert seen[1] == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)
