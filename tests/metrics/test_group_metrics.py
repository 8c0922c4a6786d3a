from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gsnn.edges import alias_groups
from gsnn.graph import nx2pyg
from gsnn.metrics import evaluate_edges, group_metrics
from gsnn.metrics.groups import near_edges, near_hits
from gsnn.simulation import convergence_graph, held_out_edges


def problem(seed, n=200, n_groups=50, n_true=12):
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, bool)
    labels[rng.choice(n, n_true, replace=False)] = True
    return rng.normal(size=n) + labels, labels, rng.integers(0, n_groups, n) * 3


@pytest.mark.parametrize("seed", range(4))
def test_matches_a_loop_over_groups(seed):
    scores, labels, groups = problem(seed)
    names = sorted(set(groups.tolist()))
    best = np.array([max(s for s, g in zip(scores, groups, strict=True) if g == name) for name in names])
    holds = np.array([any(t for t, g in zip(labels, groups, strict=True) if g == name) for name in names])
    found = group_metrics(scores, labels, groups)
    k = holds.sum()
    among = holds[np.argsort(-best)[:k]].sum()
    assert (found.n_groups, found.n_true_groups, found.k, found.n_left_out) == (len(names), k, k, 0)
    assert found.precision == pytest.approx(among / k)
    assert found.recall == pytest.approx(among / k)
    assert found.roc_auc == pytest.approx(roc_auc_score(holds, best))
    assert found.average_precision == pytest.approx(average_precision_score(holds, best))
    assert group_metrics(scores, labels, groups, k=5).recall == pytest.approx(holds[np.argsort(-best)[:5]].sum() / k)


def test_singletons_give_the_plain_metrics():
    scores, labels, _ = problem(0)
    found = group_metrics(scores, labels, np.arange(len(scores)))
    assert found.roc_auc == pytest.approx(roc_auc_score(labels, scores))
    assert found.average_precision == pytest.approx(average_precision_score(labels, scores))
    assert found.chance_roc_auc == 0.5
    assert found.chance_precision == pytest.approx(labels.mean())


def test_chance_favours_large_groups_as_random_scores_do():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), np.repeat([1, 2, 6, 20], 15))
    labels = np.zeros(len(groups), bool)
    labels[np.flatnonzero(np.isin(groups, [0, 20, 40, 46, 50, 55, 59]))[::3]] = True
    drawn = [group_metrics(rng.random(len(groups)), labels, groups, k=12) for _ in range(1500)]
    for name in ("precision", "recall", "roc_auc"):
        values = np.array([getattr(d, name) for d in drawn])
        tolerance = 4 * values.std() / np.sqrt(len(values)) + (0.005 if name != "roc_auc" else 0)
        assert getattr(drawn[0], f"chance_{name}") == pytest.approx(values.mean(), abs=tolerance)
    assert drawn[0].chance_roc_auc > 0.6
    assert drawn[0].chance_precision > 1.3 * drawn[0].n_true_groups / drawn[0].n_groups


def test_group_of_another_true_edge_is_left_out_unless_it_holds_one_to_find():
    scores, groups = [0.9, 0.8, 0.7, 0.6, 0.1], [0, 0, 1, 2, 2]
    labels, other = [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]
    found = group_metrics(scores, labels, groups, other_true=other)
    assert (found.n_groups, found.n_true_groups, found.n_left_out, found.precision) == (2, 2, 1, 1.0)
    assert group_metrics(scores, labels, groups).precision == 0.5


def test_undefined_is_nan_and_nan_ranks_last():
    none = group_metrics([0.3, 0.2], [0, 0], [0, 1])
    numbers = [
        none.precision,
        none.recall,
        none.average_precision,
        none.roc_auc,
        none.chance_precision,
        none.chance_roc_auc,
    ]
    assert np.isnan(numbers).all()
    assert np.isnan(group_metrics([], [], []).precision)
    everything = group_metrics([0.3, 0.2], [1, 1], [0, 1])
    assert (everything.precision, everything.chance_precision) == (1.0, 1.0)
    assert np.isnan(everything.roc_auc)
    assert group_metrics([np.nan, 0.2, np.nan, -5.0], [1, 0, 0, 0], [0, 1, 0, 2]).roc_auc == 0.0
    assert group_metrics([0.5, 0.2, 0.1], [1, 0, 0], [0, 1, 2], k=9).precision == pytest.approx(1 / 3)


def test_names_carry_k():
    found = group_metrics([0.9, 0.1], [1, 0], [0, 1])
    assert found.to_dict()["group_precision@1"] == 1.0
    assert found.chance == {"group_precision@1": 0.5, "group_recall@1": 0.5, "group_roc_auc": 0.5}
    assert {"group_n_groups", "group_roc_auc", "group_average_precision", "group_recall@1"} <= set(found.to_dict())


@pytest.mark.parametrize(("n", "n_groups", "n_true"), [(25, 674, 35), (12, 167, 16)])
def test_figures_of_the_benchmark_and_agreement_with_the_evaluator(n, n_groups, n_true):
    G, inputs, functions, outputs, _ = convergence_graph(n)
    held = held_out_edges(n)
    G.remove_edges_from(held)
    graph = nx2pyg(G, inputs, functions, outputs)
    aliases = alias_groups(graph)
    place = {name: i for i, name in enumerate(graph.functions)}
    truth = np.zeros((graph.N, graph.N), bool)
    truth[tuple(np.array([(place[s], place[t]) for s, t in held]).T)] = True
    candidate = ~np.eye(graph.N, dtype=bool)
    candidate[tuple(graph.edge_index_dict["function", "to", "function"].numpy())] = False
    scores = np.random.default_rng(0).normal(size=truth.shape) + 3 * truth
    found = group_metrics(scores[candidate], truth[candidate], aliases.matrix()[candidate])
    assert (found.n_groups, found.n_true_groups, found.k) == (n_groups, n_true, n_true)
    both = evaluate_edges(
        scores, held, graph.function_edges, names=list(graph.functions), groups=aliases.matrix()
    ).by_group
    assert both == {n_true: found}
    # Whoever finds an alias of every hidden edge, and never the edge itself, has found every group.
    stand_in = np.where(np.isin(aliases.matrix(), aliases.matrix()[truth]) & ~truth, 1.0, 0.0)
    lonely = truth & (aliases.size(*np.divmod(np.arange(truth.size), graph.N)).reshape(truth.shape) == 1)
    stand_in[lonely] = 1.0
    assert group_metrics(stand_in[candidate], truth[candidate], aliases.matrix()[candidate]).precision == 1.0


@pytest.mark.parametrize(("seed", "n", "n_edges"), [(0, 12, 15), (1, 6, 15), (2, 5, 12), (3, 6, 4)])
def test_near_edges_match_a_loop(seed, n, n_edges):
    """Dense graphs too: edges in both directions, and pairs that are near two hidden edges."""
    rng = np.random.default_rng(seed)
    edges, hidden = rng.integers(0, n, (2, n_edges)), rng.integers(0, n, (2, 6))
    beside = [{i} for i in range(n)]
    for i, j in edges.T.tolist():
        beside[i].add(j)
        beside[j].add(i)
    expected = {(i, d) for s, d in hidden.T.tolist() for i in beside[s]}
    expected |= {(s, j) for s, d in hidden.T.tolist() for j in beside[d]}
    assert list(map(tuple, near_edges(hidden, edges, n).T.tolist())) == sorted(expected)


def test_near_hits_beside_chance():
    n = 30
    rng = np.random.default_rng(2)
    edges, hidden = rng.integers(0, n, (2, 25)), rng.integers(0, n, (2, 5))
    rows = np.union1d(rng.permutation(n * n)[:396], hidden[0] * n + hidden[1])
    source, target = np.divmod(rng.permutation(rows), n)
    scores = rng.normal(size=len(rows))
    scores[3] = np.nan
    near = set(map(tuple, near_edges(hidden, edges, n).T.tolist()))
    best = np.argsort(-np.nan_to_num(scores, nan=-99))[:40]
    pairs = list(zip(source.tolist(), target.tolist(), strict=True))
    found = near_hits(scores, source, target, hidden, edges, n, k=40)
    among = sum(p in near for p in pairs)
    assert found.near == sum(pairs[b] in near for b in best)
    assert (found.n_near, found.chance_near) == (among, pytest.approx(40 * among / len(rows)))
    assert found.enrichment == pytest.approx(found.near / found.chance_near)
    exact = {tuple(e) for e in hidden.T.tolist()}
    assert found.exact == sum(pairs[b] in exact for b in best)
    # A constant score gets what chance gets.
    blind = near_hits(np.ones(len(rows)), source, target, hidden, edges, n)
    assert (blind.near, blind.k) == (pytest.approx(blind.chance_near), sum(p in exact for p in pairs))


def test_errors():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        group_metrics([1.0], [1], [0], k=0)
    with pytest.raises(ValueError, match="other_true must have the shape"):
        group_metrics([1.0], [1], [0], other_true=[1, 0])
    with pytest.raises(ValueError, match="pass its transpose"):
        near_edges([[0, 1], [1, 2], [0, 2]], [[0], [1]], 3)
    with pytest.raises(ValueError, match=r"out of range 0\.\.2"):
        near_edges([[0], [3]], [[0], [1]], 3)
    with pytest.raises(ValueError, match=r"must have one shape \(n,\)"):
        near_hits([1.0], [0, 1], [1, 2], [[0], [1]], [[0], [1]], 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        near_hits([1.0], [0], [1], [[0], [1]], [[0], [1]], 3, k=0)
    assert np.isnan(near_hits([1.0], [0], [2], [[0], [1]], [[0], [1]], 3).near)


def chance_hits(sizes, holds, k):
    """Expected true groups among the k best, by bisection and one group at a time."""
    low, high = 0.0, 1.0
    for _ in range(200):
        t = (low + high) / 2
        if sum(1 - (1 - t) ** s for s in sizes) < k:
            low = t
        else:
            high = t
    return sum(1 - (1 - low) ** s for s, true in zip(sizes, holds, strict=True) if true)


@pytest.mark.parametrize("k", [1, 4, 9, None])
def test_chance_is_that_of_its_formulas(k):
    sizes = [1, 1, 2, 5, 5, 9, 3, 1, 2, 30]
    holds = [True, False, False, True, False, True, False, False, True, False]
    groups = np.repeat(np.arange(10), sizes)
    labels = np.zeros(len(groups), bool)
    labels[np.cumsum(sizes)[holds] - 1] = True
    found = group_metrics(np.arange(len(groups)) % 7, labels, groups, k=k)
    places = k or 4
    hits = chance_hits(sizes, holds, places)
    assert found.k == places
    assert found.chance_precision == pytest.approx(hits / places, rel=1e-9)
    assert found.chance_recall == pytest.approx(hits / 4, rel=1e-9)
    true, false = ([s for s, hold in zip(sizes, holds, strict=True) if hold is wanted] for wanted in (True, False))
    assert found.chance_roc_auc == pytest.approx(np.mean([s / (s + u) for s in true for u in false]))


@pytest.mark.parametrize("k", [10, 25])
def test_all_groups_are_found_where_there_are_places_for_all(k):
    groups = np.repeat(np.arange(10), 3)
    labels = np.isin(groups, [2, 5, 9])
    found = group_metrics(np.arange(30.0), labels, groups, k=k)
    assert (found.k, found.recall, found.chance_recall) == (k, 1.0, 1.0)
    assert found.precision == found.chance_precision == pytest.approx(0.3)


def test_one_place_is_enough():
    found = group_metrics([0.9, 0.8], [1, 0], [0, 1], k=1)
    assert (found.k, found.precision, found.recall) == (1, 1.0, 1.0)
    assert near_hits([0.9, 0.8], [0, 1], [1, 2], [[0], [1]], [[0], [2]], 3, k=1).exact == 1.0
    # Without a true group, places or not: there is no recall, and nothing to find by chance.
    none = group_metrics([0.9, 0.8], [0, 0], [0, 1], k=1)
    assert (none.precision, none.chance_precision) == (0.0, 0.0)
    assert np.isnan([none.recall, none.chance_recall, none.chance_roc_auc, none.roc_auc]).all()
    empty = group_metrics([], [], [], k=1)
    assert np.isnan([empty.precision, empty.chance_precision, empty.recall, empty.chance_recall]).all()
    assert (empty.k, empty.n_groups) == (1, 0)


def test_groups_that_are_left_out_have_no_part_in_chance():
    groups = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    labels, other = np.array([1, 0, 0, 0, 0, 0, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 0])
    scores = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    keep = groups != 2
    found = group_metrics(scores, labels, groups, other_true=other, k=2)
    alone = group_metrics(scores[keep], labels[keep], groups[keep], k=2)
    assert found.n_left_out == 1
    assert found.to_dict() == alone.to_dict() | {"group_n_left_out": 1}
    assert found.chance == alone.chance
    square = [values.reshape(2, 4) for values in (scores, labels, groups, other)]
    assert group_metrics(*square[:2], square[2], other_true=square[3], k=2) == found


def test_every_number_has_its_name():
    found = group_metrics([0.9, 0.8, 0.3, 0.1], [0, 1, 0, 1], [0, 1, 2, 3], k=3)
    assert found.to_dict() == {
        "group_precision@3": pytest.approx(1 / 3),
        "group_recall@3": 0.5,
        "group_roc_auc": 0.25,
        "group_average_precision": 0.5,
        "group_n_groups": 4,
        "group_n_true_groups": 2,
        "group_n_left_out": 0,
    }
    assert set(found.chance) == {"group_precision@3", "group_recall@3", "group_roc_auc"}


def test_near_hits_by_hand():
    """The kept graph is 0 -> 1, the hidden edge 0 -> 2: near are (0, 2) itself and (1, 2)."""
    source, target = [0, 1, 2, 2, 0], [2, 2, 0, 1, 3]
    found = near_hits([0.5, 0.9, 0.8, np.nan, 0.1], source, target, [[0], [2]], [[0], [1]], 4, k=2)
    assert (found.k, found.n_candidates, found.n_near) == (2, 5, 2)
    assert (found.exact, found.near) == (0.0, 1.0)
    assert (found.chance_exact, found.chance_near) == (pytest.approx(2 / 5), pytest.approx(4 / 5))
    assert found.enrichment == pytest.approx(5 / 4)
    everything = near_hits([0.5, 0.9, 0.8, np.nan, 0.1], source, target, [[0], [2]], [[0], [1]], 4, k=50)
    assert (everything.k, everything.exact, everything.near, everything.enrichment) == (5, 1.0, 2.0, 1.0)
    by_default = near_hits([0.5, 0.9, 0.8, np.nan, 0.1], source, target, [[0], [2]], [[0], [1]], 4)
    assert (by_default.k, by_default.near) == (1, 1.0)
    far = near_hits([0.5], [3], [3], [[0], [2]], [[0], [1]], 4, k=1)
    assert (far.near, far.n_near) == (0.0, 0)
    assert np.isnan(far.enrichment)
    nobody = near_hits([], [], [], [[0], [2]], [[0], [1]], 4, k=3)
    assert (nobody.k, nobody.n_candidates) == (0, 0)
    assert np.isnan([nobody.exact, nobody.near, nobody.chance_exact, nobody.chance_near, nobody.enrichment]).all()


def test_near_edges_by_hand():
    # 3 -> 0 and 2 -> 4 are kept; 0 -> 2 is hidden, given twice. Edges are followed both ways, one of them at a time.
    found = near_edges(np.array([[0, 0], [2, 2]]), np.array([[3, 2], [0, 4]]), 5)
    assert found.T.tolist() == [[0, 2], [0, 4], [3, 2]]
    assert found.dtype == np.int64
    assert near_edges(np.empty((2, 0)), [[0], [1]], 2).shape == (2, 0)
    assert near_edges([[1], [0]], np.empty((2, 0)), 2).tolist() == [[1], [0]]


ARGUMENTS = {"src_idx": [0, 1], "dst_idx": [1, 2], "hidden": [[0], [1]], "edges": [[1], [2]]}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_indices_are_checked_by_name(name):
    def call(wrong):
        return near_hits([0.5, 0.1], **ARGUMENTS | {name: wrong}, n_nodes=3)

    given = np.array(ARGUMENTS[name])
    highest = given.copy()
    highest.flat[0] = 2
    call(highest)
    for value in (3, -1):
        wrong = given.copy()
        wrong.flat[0] = value
        between = rf"{wrong.min()}\.\.{wrong.max()}"
        with pytest.raises(ValueError, match=rf"^{name} has an index out of range 0\.\.2: {between}$"):
            call(wrong)
    with pytest.raises(ValueError, match=rf"^{name} must hold whole numbers, got float64$"):
        call(given.astype(float))


@pytest.mark.parametrize("name", ["hidden", "edges"])
def test_pairs_are_checked_by_name(name):
    for wrong, hint in (([[0, 1], [1, 2], [0, 2]], "; pass its transpose"), ([0, 1], ""), ([[0, 1, 2]] * 3, "")):
        shape = str(np.shape(wrong)).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=rf"^{name} must have shape \(2, n\), got {shape}{hint}$"):
            near_edges(**{"hidden": [[0], [1]], "edges": [[1], [2]], name: wrong}, n_nodes=3)


def test_shapes_are_named():
    with pytest.raises(ValueError, match=r"^other_true must have the shape of labels, \(1,\), got \(2,\)$"):
        group_metrics([1.0], [1], [0], other_true=[1, 0])
    message = r"^scores, src_idx and dst_idx must have one shape \(n,\), got \(2,\), \(1,\) and \(2,\)$"
    with pytest.raises(ValueError, match=message):
        near_hits([1.0, 2.0], [0], [1, 2], [[0], [1]], [[0], [1]], 3)
    with pytest.raises(ValueError, match=r"^scores, src_idx and dst_idx .*\(2,\) and \(1,\)$"):
        near_hits([1.0, 2.0], [0, 1], [1], [[0], [1]], [[0], [1]], 3)
    with pytest.raises(ValueError, match=r"^scores, src_idx and dst_idx must have one shape"):
        near_hits([[1.0]], [[0]], [[1]], [[0], [1]], [[0], [1]], 3)
    for call in (
        lambda: group_metrics([1.0], [1], [0], k=0),
        lambda: near_hits([1.0], [0], [1], [[0], [1]], [[0], [1]], 3, k=0),
    ):
        with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
            call()
