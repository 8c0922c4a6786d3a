from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch

from gsnn.discovery import StackedEdgeInferer, StructureEdgeInferer, mask_edges
from gsnn.discovery.hiding import holes, live_nodes
from gsnn.discovery.stacked.caps import capped, chosen_pairs
from gsnn.discovery.stacked.features import MAX_HOPS, response_scores, score_features, stack, structural_features
from gsnn.discovery.stacked.learners import learn_pairs, sample_alike
from gsnn.discovery.stacked.refit import default_config, refit
from gsnn.edges import GradientEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig

from ..edges.worlds import FUNCTIONS, Tiny, batches, gsnn, samples, small_graph, tiny_data


def untrained(graph, seed):
    return gsnn(graph, dtype=torch.float64, seed=seed % 1000)


def fitted(repeats=2, **options):
    x, y = samples(60)
    inferer = StackedEdgeInferer(gsnn(), small_graph(), untrained, repeats=repeats, n_trees=30, **options)
    assert inferer.fit(batches(x, y, 25), verbose=False) == 60
    return inferer


# Features of the graph, each beside a loop over networkx.


@pytest.fixture(scope="module")
def features():
    return {k: np.broadcast_to(v, (8, 8)) for k, v in structural_features(small_graph())}


@pytest.fixture(scope="module")
def prior():
    graph = small_graph()
    functions = nx.DiGraph()
    functions.add_nodes_from(FUNCTIONS)
    functions.add_edges_from(edge for edge in graph.function_edges if edge[0] != edge[1])
    whole = nx.DiGraph(graph.to_networkx())
    whole.remove_edges_from(list(nx.selfloop_edges(whole)))
    return functions, whole


def pairs():
    return [(i, j, a, b) for i, a in enumerate(FUNCTIONS) for j, b in enumerate(FUNCTIONS)]


def test_degrees_and_reach(features, prior):
    functions, whole = prior
    inputs, outputs = {"x0", "x1", "x2"}, {"y0", "y1"}
    for i, j, a, b in pairs():
        assert features["source_out_degree"][i, j] == pytest.approx(np.log1p(functions.out_degree(a)))
        assert features["target_in_degree"][i, j] == pytest.approx(np.log1p(functions.in_degree(b)))
        assert features["source_inputs"][i, j] == pytest.approx(np.log1p(len(nx.ancestors(whole, a) & inputs)))
        assert features["target_outputs"][i, j] == pytest.approx(np.log1p(len(nx.descendants(whole, b) & outputs)))


def test_distances(features, prior):
    functions, _ = prior
    both = functions.to_undirected()

    def far(graph, a, b):
        return min(nx.shortest_path_length(graph, a, b), MAX_HOPS) if nx.has_path(graph, a, b) else MAX_HOPS

    for i, j, a, b in pairs():
        assert features["distance"][i, j] == far(functions, a, b)
        assert features["distance_back"][i, j] == far(functions, b, a)
        assert features["distance_undirected"][i, j] == far(both, a, b)
        fed = min([far(functions, s, a) for s in "abc"])  # the functions that an input feeds
        read = min([far(functions, b, t) for t in "dec"])
        assert features["source_from_input"][i, j] == fed
        assert features["target_to_output"][i, j] == read
        assert features["path_length"][i, j] == fed + read


def test_short_paths(features, prior):
    functions, _ = prior
    A = nx.to_numpy_array(functions, nodelist=FUNCTIONS)
    for name, expected in (
        ("square", A @ A.T @ A),
        ("same_targets", A @ A.T),
        ("same_sources", A.T @ A),
        ("two_steps", A @ A),
        ("three_steps", A @ A @ A),
        ("two_steps_back", (A @ A).T),
    ):
        np.testing.assert_allclose(features[name], np.log1p(expected), rtol=1e-6)
    np.testing.assert_array_equal(features["reverse"], A.T)
    for i, j, a, b in pairs():
        shared = len(set(functions.successors(a)) & set(functions.successors(b)))
        scale = np.sqrt(max(functions.out_degree(a) * functions.out_degree(b), 1))
        assert features["same_targets_cosine"][i, j] == pytest.approx(shared / scale)


def test_shared_inputs_and_outputs(features, prior):
    _, whole = prior
    for name, reached, ends in (
        ("inputs", nx.ancestors, {"x0", "x1", "x2"}),
        ("outputs", nx.descendants, {"y0", "y1"}),
    ):
        for i, j, a, b in pairs():
            mine, other = reached(whole, a) & ends, reached(whole, b) & ends
            jaccard = len(mine & other) / len(mine | other) if mine | other else 0.0
            assert features[f"{name}_jaccard"][i, j] == pytest.approx(jaccard)
            own, lacks = (mine, mine - other) if name == "inputs" else (other, other - mine)
            assert features[f"new_{name}"][i, j] == pytest.approx(len(lacks) / len(own) if own else 0.0)


def test_features_follow_a_permutation_of_the_nodes():
    graph = small_graph()
    order = [3, 0, 5, 1, 7, 4, 2, 6]
    names = [FUNCTIONS[k] for k in order]
    other = Graph.from_edges(
        list(nx.DiGraph(graph.to_networkx()).edges),
        input_nodes=list(graph.inputs), function_nodes=names, output_nodes=list(graph.outputs),
    )  # fmt: skip
    before, after = dict(structural_features(graph)), dict(structural_features(other))
    assert list(before) == list(after)
    for name in before:
        values = np.broadcast_to(before[name], (8, 8))
        np.testing.assert_allclose(np.broadcast_to(after[name], (8, 8)), values[np.ix_(order, order)], err_msg=name)


def test_features_of_a_graph_without_inputs_or_edges():
    data = tiny_data(Tiny(), [])
    found = dict(structural_features(data))
    assert all(np.isfinite(values).all() for values in found.values())
    assert (np.broadcast_to(found["distance"], (6, 6))[~np.eye(6, dtype=bool)] == MAX_HOPS).all()


# Features of scores.


def test_score_features_against_a_loop():
    rng = np.random.default_rng(0)
    score = rng.random((5, 5))
    score[1, 2] = np.nan
    known = np.zeros((5, 5), dtype=bool)
    known[0, 1] = known[3, 4] = True
    found = dict(score_features("s", score, ~(known | np.eye(5, dtype=bool))))
    free = {(i, j) for i in range(5) for j in range(5) if i != j and not known[i, j]}
    value = {pair: 0.0 if np.isnan(score[pair]) else score[pair] for pair in free}
    log = {pair: np.log(max(v, 1e-3 * max(value.values()))) for pair, v in value.items()}
    middle = np.median(list(log.values()))
    for i, j in free:
        row = [log[i, b] - middle for b in range(5) if (i, b) in free]
        column = [log[a, j] - middle for a in range(5) if (a, j) in free]
        assert found["s_log"][i, j] == pytest.approx(log[i, j] - middle, abs=1e-5)
        assert found["s_centred"][i, j] == pytest.approx(log[i, j] - middle - np.mean(row) - np.mean(column), abs=1e-5)
        assert found["s_of_target"][i, j] == pytest.approx(value[i, j] / max(value[p] for p in free if p[1] == j))
        ahead = sum(value[p] > value[i, j] for p in free if p[1] == j)
        assert found["s_rank_in_target"][i, j] == pytest.approx(np.log((ahead + 0.5) / 5), abs=1e-5)
        ahead = sum(value[p] > value[i, j] for p in free if p[0] == i)
        assert found["s_rank_in_source"][i, j] == pytest.approx(np.log((ahead + 0.5) / 5), abs=1e-5)


def test_score_features_do_not_depend_on_the_scale():
    score = np.random.default_rng(1).random((6, 6))
    free = ~np.eye(6, dtype=bool)
    one, other = (dict(score_features("s", scale * score, free)) for scale in (1.0, 1e-6))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5, err_msg=name)


def test_scores_that_say_nothing():
    for score in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        assert all(np.isfinite(values).all() for _, values in score_features("s", score, ~np.eye(3, dtype=bool)))


def test_responses_against_numpy():
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    graph = Graph.from_edges(
        [("x0", "a"), ("x1", "a"), ("x2", "b"), ("a", "b"), ("b", "c"), ("b", "y0"), ("c", "y1")],
        input_nodes=["x0", "x1", "x2"], function_nodes=names, output_nodes=["y0", "y1"],
    )  # fmt: skip
    x, y = rng.normal(size=(30, 3)) + 5, rng.normal(size=(30, 2)) - 7
    y[:4, 1] = np.nan
    found = response_scores(graph, x, {"r": y})["r"]

    def squared(p, o):
        seen = np.isfinite(y[:, o])
        return np.corrcoef(x[seen, p], y[seen, o])[0, 1] ** 2

    expected = np.zeros((3, 3))
    for j, o in ((1, 0), (2, 1)):
        expected[0, j] = np.sqrt(squared(0, o) + squared(1, o))
        expected[1, j] = np.sqrt(squared(2, o))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_no_responses_where_few_functions_are_perturbed_or_read():
    names = [f"n{i}" for i in range(30)]
    chain = [("x", "n0"), *((names[i], names[i + 1]) for i in range(29)), ("n29", "y")]
    graph = Graph.from_edges(chain, input_nodes=["x"], function_nodes=names, output_nodes=["y"])
    assert response_scores(graph, np.ones((4, 1)), {"r": np.ones((4, 1))}) == {}


def test_stack_of_broadcast_features():
    features = {"a": np.arange(3.0)[:, None], "b": np.arange(3.0)[None, :], "c": np.arange(9.0).reshape(3, 3)}
    names, matrix = stack(features.items(), np.array([1, 5]), 3)
    assert names == list(features)
    np.testing.assert_array_equal(matrix, [[0, 1, 1], [1, 2, 5]])


# Limits.


def walk(score, per_target, per_source):
    """Down the ranking, one pair after the other."""
    chosen = np.zeros(score.shape, dtype=bool)
    for flat in np.argsort(np.where(np.isnan(score), np.inf, -score), axis=None, kind="stable"):
        i, j = divmod(int(flat), score.shape[1])
        if np.isnan(score[i, j]):
            break
        if per_target is not None and chosen[:, j].sum() >= per_target:
            continue
        if per_source is not None and chosen[i].sum() >= per_source:
            continue
        chosen[i, j] = True
    return chosen


@pytest.mark.parametrize("per_target", [None, 1, 2, 50])
@pytest.mark.parametrize("per_source", [None, 1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_limits_against_a_walk(per_target, per_source, seed):
    rng = np.random.default_rng(seed)
    score = np.round(rng.random((9, 9)), 1)  # many ties
    score[rng.random((9, 9)) < 0.2] = np.nan
    np.testing.assert_array_equal(chosen_pairs(score, per_target, per_source), walk(score, per_target, per_source))


def test_capped_scores_keep_the_order_within_and_put_the_rest_behind():
    score = np.random.default_rng(0).normal(size=(6, 6))
    score[0, 0] = np.nan
    chosen = chosen_pairs(score, 1, 2)
    got = capped(score, 1, 2)
    assert np.isnan(got[0, 0])
    np.testing.assert_array_equal(got[chosen], score[chosen])
    rest = ~chosen & ~np.isnan(score)
    assert got[rest].max() < got[chosen].min()
    np.testing.assert_array_equal(np.argsort(got[rest]), np.argsort(score[rest]))
    assert capped(score, None, None) is score
    assert capped(score, 99, 99) is score, "nothing is beyond these limits"
    assert np.isnan(capped(np.full((3, 3), np.nan), 1, 1)).all()
    with pytest.raises(ValueError, match="per_source must be at least 1"):
        capped(score, 1, 0)


# Learners.


def test_learners_agree_with_their_mean_and_find_a_rule():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    label = x[:, 2] + 0.3 * rng.normal(size=600) > 1.2
    opinion = learn_pairs(x, label, seed=0)
    fresh = rng.normal(size=(300, 5)).astype(np.float32)
    score = opinion(fresh)
    assert score.max() <= 0
    assert np.corrcoef(score, fresh[:, 2])[0, 1] > 0.8
    np.testing.assert_array_equal(learn_pairs(x, label, seed=0)(fresh), score)
    with pytest.raises(ValueError, match="both masked and other"):
        learn_pairs(x, np.zeros(600, dtype=bool), seed=0)


def test_other_pairs_are_of_the_kinds_of_the_hidden_ones():
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2, 3], [100, 400, 30, 5])
    hidden = np.array([0, 1, 2, 100, 530])  # three of kind 0, one of kind 1, one of kind 3
    candidates = np.setdiff1d(np.arange(530), hidden)  # none of kind 3
    kept, others = sample_alike(hidden, candidates, kind, 40, rng)
    assert kept.tolist() == [0, 1, 2, 100]
    assert np.bincount(kind[others], minlength=4).tolist() == [30, 10, 0, 0]
    assert set(others.tolist()) <= set(candidates.tolist())
    assert len(set(others.tolist())) == 40
    # Where one kind is rare, fewer of the others are drawn, and the shares stay.
    _, others = sample_alike(hidden, candidates, kind, 10_000, rng)
    assert np.bincount(kind[others], minlength=4).tolist() == [97, 32, 0, 0]


def test_whether_a_function_is_bare_does_not_tell_hidden_pairs():
    """Fewer than 10 edges can be hidden without a hole, so holes are left; but the classifiers do not learn them."""
    graph = small_graph()
    n = graph.N
    seen = []
    inferer = StructureEdgeInferer(None, graph, repeats=12, fraction=0.4)
    for lesson in inferer._lessons():
        childless, orphaned = holes(lesson.graph.edge_index_dict["function", "to", "function"].numpy(), n)
        kind = (2 * childless[:, None] + orphaned[None, :]).ravel()
        kept, others = lesson.rows[lesson.label], lesson.rows[~lesson.label]
        names = np.array(inferer.function_nodes)
        assert set(zip(*(names[k] for k in np.divmod(kept, n)), strict=True)) <= set(lesson.hidden)
        shares = [np.bincount(kind[rows], minlength=4) / len(rows) for rows in (kept, others)]
        np.testing.assert_allclose(*shares, atol=4 / len(others))
        seen += kind[kept].tolist()
    assert len(set(seen)) > 1


def test_features_do_not_ask_whether_a_function_is_bare():
    graph = mask_edges(small_graph(), 0.4, 0).graph
    childless, orphaned = holes(graph.edge_index_dict["function", "to", "function"].numpy(), graph.N)
    for name, values in structural_features(graph):
        for side, bare in (("source", childless), ("target", orphaned)):
            column = np.broadcast_to(values, (8, 8))[:, 0] if side == "source" else np.broadcast_to(values, (8, 8))[0]
            if name.startswith(side):
                assert not np.array_equal(column > 0, bare), name


# Hiding and training again.


def test_hidden_edges_that_carry_no_signal_are_not_learnt_from():
    # Without a -> b and its twin by way of e, no input reaches b, and b -> c is an edge like none.
    inferer = StructureEdgeInferer(None, small_graph(), fraction=0.6, repeats=20)
    lost = 0
    for masked, hidden in ((lesson.graph, lesson.hidden) for lesson in inferer._lessons()):
        down, up = live_nodes(masked)
        index = inferer.prior.index
        gone = set(small_graph().function_edges) - set(masked.function_edges)
        dead = {(s, t) for s, t in gone if not (down[index[s]] and up[index[t]])}
        assert set(hidden) == gone - dead
        lost += len(dead)
    assert lost


def test_refit_has_the_architecture_and_is_seeded():
    x, y = samples(40, dtype=torch.float32)
    model = gsnn(dtype=torch.float32, norm="groupbatch", share_layers=True)
    graph = mask_edges(small_graph(), 0.3, 0).graph
    config = TrainConfig(epochs=2, patience=3, restore_best=True)
    one, same, other = (refit(model, graph, seed, x, y, config) for seed in (1, 1, 2))
    assert one.E < model.E
    assert (one.L, one.channels, one.norm) == (model.L, model.channels, model.norm)
    assert one.options["share_layers"] is True
    state, again = one.state_dict(), same.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert not all(torch.equal(state[name], other.state_dict()[name]) for name in state)
    with pytest.raises(TypeError, match="pass train="):
        refit(Tiny(), graph, 0, x, y, config)


@pytest.mark.parametrize("n", [1, 30, 2000, 100_000])
def test_default_settings_are_about_as_many_steps(n):
    config = default_config(n)
    steps = config.epochs * max(1, n // config.batch_size)
    assert config.epochs == 150 or config.epochs == 5 or 1000 < steps < 1400


# The inferer.


def test_table_and_scores():
    inferer = fitted()
    assert [len(edges) for edges in inferer.masked] == [1, 1]
    table = inferer.evaluate()
    assert list(table.columns) == [
        "src_func", "dst_func", "src_idx", "dst_idx", "score", "has_edge", "learnt", "structure", "explained", "sign",
    ]  # fmt: skip
    assert len(table) == 56
    known = table["has_edge"].to_numpy()
    assert table.loc[known, "score"].isna().all()
    assert table.loc[~known, "score"].notna().all()
    assert set(table["sign"]) <= {-1, 0, 1}
    explained = table["explained"].to_numpy()[~known]
    expected = table["learnt"].to_numpy()[~known] + np.log(np.maximum(explained, 1e-3 * np.nanmax(table["explained"])))
    np.testing.assert_allclose(table["score"].to_numpy()[~known], expected)
    learnt = inferer.evaluate(score="learnt")
    np.testing.assert_array_equal(learnt["score"], learnt["learnt"])
    assert inferer.top_edges(3).equals(table.head(3))


def test_explained_is_that_of_the_gradient_inferer():
    x, y = samples(60)
    gradient = GradientEdgeInferer(gsnn(), small_graph())
    gradient.fit(batches(x, y, 256), verbose=False)
    inferer = fitted()
    n = inferer.N
    columns = inferer.scored().columns
    expected = gradient.score_matrix(score="explained", null_correction=False)
    np.testing.assert_allclose(columns["explained"](np.arange(n * n)).reshape(n, n), expected, atol=1e-12)


def test_scored_samples_are_drawn_from_all_rows_and_all_are_trained_on():
    x, y = samples(60)
    inferer = fitted(max_samples=40, seed=3)
    rows = np.sort(np.random.default_rng((3, 2)).choice(60, 40, replace=False))
    assert rows.max() >= 55
    gradient = GradientEdgeInferer(gsnn(), small_graph())
    gradient.fit([(x[rows], y[rows])], verbose=False)
    found = inferer.scored().columns["explained"](np.arange(64)).reshape(8, 8)
    np.testing.assert_allclose(found, gradient.score_matrix(score="explained", null_correction=False), atol=1e-12)
    assert inferer.n == 60


def test_limits_of_a_list():
    table = fitted().evaluate(per_target=1, per_source=1)
    head = table[~table["has_edge"]].head(5)
    assert head["dst_func"].is_unique
    assert head["src_func"].is_unique


def test_structure_alone_agrees_and_needs_no_model():
    x, y = samples(60)
    alone = StructureEdgeInferer(None, small_graph(), repeats=2)
    assert alone.fit([(x, y)], verbose=False) == 60
    np.testing.assert_array_equal(alone.score_matrix(), fitted().score_matrix(score="structure"))
    assert alone.masked == fitted().masked
    assert "score" in alone.evaluate(per_target=1).columns


@pytest.mark.slow
def test_refits_with_a_config_and_by_default():
    x, y = samples(40, dtype=torch.float32)
    model = gsnn(dtype=torch.float32)
    config = TrainConfig(epochs=1, lr=1e-3)
    one, other = (StackedEdgeInferer(model, small_graph(), train, repeats=1) for train in (config, None))
    for inferer in (one, other):
        inferer.fit([(x, y)], verbose=False)
    assert not np.array_equal(one.score_matrix(), other.score_matrix(), equal_nan=True)


def test_wrong_arguments():
    graph, model = small_graph(), gsnn()
    for options, message in (
        ({"fraction": 1.0}, "fraction must be above 0 and below 1, got 1.0"),
        ({"repeats": 0}, "repeats must be an integer of at least 1, got 0"),
        ({"max_samples": 2}, "max_samples must be an integer of at least 3, got 2"),
        ({"n_others": True}, "n_others must be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            StackedEdgeInferer(model, graph, **options)
    with pytest.raises(TypeError, match="train must be a TrainConfig"):
        StackedEdgeInferer(model, graph, "fast")
    bare = graph.without_edges(graph.function_edges[1:])
    with pytest.raises(ValueError, match="at least 2 function -> function edges"):
        StackedEdgeInferer(model, bare)
    inferer = StackedEdgeInferer(model, graph, untrained)
    with pytest.raises(RuntimeError, match="call fit first"):
        inferer.evaluate()
    with pytest.raises(ValueError, match="unknown score 'structur'"):
        fitted().evaluate(score="structur")


def test_repeats_follow_the_number_of_edges():
    names = [f"n{i}" for i in range(30)]
    few = Graph.from_edges(
        [("x", "n0"), *((names[i], names[i + 1]) for i in range(29)), ("n29", "y")],
        input_nodes=["x"], function_nodes=names, output_nodes=["y"],
    )  # fmt: skip
    many = few.with_edges([(a, b) for a in names for b in names if a != b and (a, b) not in set(few.function_edges)])
    for graph, repeats in ((few, 8), (many, 3)):
        assert StackedEdgeInferer(GSNN.from_graph(graph, channels=2, layers=2), graph).repeats == repeats


def test_graph_like_data():
    graph = small_graph()
    data = SimpleNamespace(edge_index_dict=graph.edge_index_dict, node_names_dict=graph.node_names_dict)
    x, y = samples(60)
    inferer = StackedEdgeInferer(gsnn(), data, untrained, repeats=2, n_trees=30)
    inferer.fit([(x, y)], verbose=False)
    np.testing.assert_array_equal(inferer.score_matrix(), fitted().score_matrix())


def test_a_failed_fit_leaves_nothing_behind():
    inferer = fitted()
    with pytest.raises(ValueError, match="empty"):
        inferer.fit([], verbose=False)
    with pytest.raises(RuntimeError, match="call fit first"):
        inferer.evaluate()
    assert isinstance(inferer._model, GSNN)
