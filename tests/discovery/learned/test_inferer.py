"""The learnt scorer on a problem: what it sees, whom it judges, what it says of strangers."""

import gc
import itertools

import numpy as np
import pytest
import torch

from gsnn.discovery import METHODS, CombinedEdgeInferer
from gsnn.discovery.hiding import mask_edges
from gsnn.discovery.learned import AnsweredPairs, LearnedEdgeInferer, LearnedStructureEdgeInferer, Scorer, learn
from gsnn.discovery.learned import scorer as module
from gsnn.discovery.learned.features import OF_DATA
from gsnn.discovery.stacked.features import stack
from gsnn.edges.sample_store import SampleStore
from gsnn.graph import Graph
from gsnn.nn import GSNN


def problem(seed):
    """Four layers of five functions with two parents each, some edges hidden, and an untrained model."""
    rng = np.random.default_rng(seed)
    names = [[f"f{layer}{k}" for k in range(5)] for layer in range(4)]
    edges = [(f"x{k}", names[0][k]) for k in range(5)] + [(names[3][k], f"y{k}") for k in range(5)]
    for above, below in itertools.pairwise(names):
        edges += [(above[k], node) for node in below for k in rng.choice(5, 2, replace=False)]
    edges += [(names[1][0], "y5")]
    full = Graph.from_edges(
        edges,
        input_nodes=[f"x{k}" for k in range(5)],
        function_nodes=[name for layer in names for name in layer],
        output_nodes=[f"y{k}" for k in range(6)],
    )
    masking = mask_edges(full, 0.2, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(120, 5, generator=generator)
    y = torch.tanh(x @ torch.randn(5, 6, generator=generator))
    torch.manual_seed(seed)
    model = GSNN.from_graph(masking.graph, channels=3, layers=5, norm="groupbatch")
    return model, masking, x, y


def fitted(given, kind=LearnedEdgeInferer, **options):
    model, masking, x, y = given
    inferer = kind(model, masking.graph, **options)
    inferer.fit(zip(x.split(50), y.split(50), strict=True), verbose=False)
    return inferer


@pytest.fixture(scope="module")
def taught():
    """A scorer of four small problems."""
    nobody = Scorer("", [], np.zeros((0, 0)))
    problems = []
    for seed in range(4):
        given = problem(seed)
        problems.append(AnsweredPairs.of(fitted(given, scorer=nobody), given[1].testable, n_others=None))
    return learn(problems, rounds=20, min_data_in_leaf=20)


@pytest.fixture(scope="module")
def fresh():
    return problem(9)


def test_the_score_is_what_the_scorer_says_of_the_features(taught, fresh):
    inferer = fitted(fresh, scorer=taught)
    table = inferer.evaluate()
    assert list(table.columns)[4:] == ["score", "has_edge", "combined", "likely", "explained", "sign"]
    assert table.loc[table["has_edge"], "score"].isna().all()
    free = np.flatnonzero(inferer.prior.candidates().ravel())
    names, seen = stack(inferer.features(), free, inferer.N)
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(inferer.score_matrix().ravel()[free], taught.log_odds(names, seen))
    assert inferer.distance == pytest.approx(taught.distance(names, seen))
    combined = fitted(fresh, CombinedEdgeInferer)
    np.testing.assert_array_equal(inferer.score_matrix(score="combined"), combined.score_matrix())
    control = fitted(fresh, LearnedStructureEdgeInferer)
    np.testing.assert_array_equal(
        inferer.beside()["structure"].score[inferer.prior.candidates()],
        control.score_matrix()[inferer.prior.candidates()],
    )


def test_of_all_features_only_those_of_scores_that_some_functions_lack_are_undefined(taught, fresh):
    inferer = fitted(fresh, scorer=taught)
    measured = np.zeros((inferer.N, inferer.N), dtype=bool)
    own = [inferer.prior.index[name] for name in ("f10", "f30", "f31", "f32", "f33", "f34")]
    measured[np.ix_(own, own)] = True
    np.fill_diagonal(measured, False)
    for name, values in inferer.features():
        assert values.dtype == np.float32, name
        whole = np.broadcast_to(values, measured.shape)
        if name.startswith("measured"):
            np.testing.assert_array_equal(np.isfinite(whole), measured, err_msg=name)
        elif not name.startswith("direct"):
            assert np.isfinite(whole).all(), name


def test_models_of_features_are_freed_without_a_collection(taught, fresh):
    inferer = fitted(fresh, scorer=taught)

    def held():
        return sum(type(each) in (GSNN, SampleStore) for each in gc.get_objects())

    gc.collect()
    before = held()
    gc.disable()
    try:
        for _ in inferer.features():
            pass
        assert held() == before
    finally:
        gc.enable()


def test_pairs_beyond_the_first_keep_the_order_of_combined_behind_them(taught, fresh, monkeypatch):
    every = fitted(fresh, scorer=taught).scored()
    monkeypatch.setattr(module, "JUDGED", 40)
    few = fitted(fresh, scorer=taught).scored()
    rows = np.flatnonzero(np.isfinite(every.score.ravel()))
    combined = every.columns["combined"](rows)
    order = rows[np.argsort(-combined, kind="stable")]
    score = few.score.ravel()
    np.testing.assert_allclose(score[order[:40]], every.score.ravel()[order[:40]])
    assert score[order[40:]].max() < score[order[:40]].min()
    assert (np.diff(score[order[40:]]) <= 0).all()


def test_pairs_beyond_the_first_keep_the_order_of_the_logistic_model_in_the_control(fresh, monkeypatch):
    every = fitted(fresh).beside()["structure"].score
    inferer = fitted(fresh)
    own = np.where(inferer.prior.candidates(), inferer._opinions()[1], np.nan).ravel()
    monkeypatch.setattr(module, "JUDGED", 40)
    few = inferer.beside()["structure"].score
    order = np.argsort(-own, kind="stable")[: np.isfinite(own).sum()]
    score = few.ravel()
    np.testing.assert_allclose(score[order[:40]], every.ravel()[order[:40]])
    assert score[order[40:]].max() < score[order[:40]].min()
    assert (np.diff(score[order[40:]]) <= 0).all()
    assert (np.isnan(few) == np.isnan(every)).all()


def test_it_says_when_a_problem_is_a_stranger(taught, fresh):
    far = Scorer(taught.trees, taught.names, taught.figures + 100 * taught.figures.std(0), taught.card)
    inferer = fitted(fresh, scorer=far)
    (note,) = inferer.scored().notes
    assert note.startswith(f"these data lie {inferer.distance:.1f} times as far from the problems")
    assert inferer.distance > 1
    near = Scorer(taught.trees, taught.names, np.zeros((0, 0)))
    assert not fitted(fresh, scorer=near).scored().notes


def test_answered_pairs_stand_for_all_pairs(taught, fresh):
    inferer = fitted(fresh, scorer=taught)
    missing = fresh[1].testable
    whole = AnsweredPairs.of(inferer, missing, n_others=None)
    few = AnsweredPairs.of(inferer, missing, n_others=60, seed=1)
    assert whole.label.sum() == few.label.sum() == len(missing)
    assert len(few.label) == 60 + len(missing)
    assert few.weight[~few.label].sum() == pytest.approx((~whole.label).sum())
    assert len(np.unique(few.rows)) == len(few.rows)
    rank = few.values[:, few.names.index("combined_rank")]
    assert (rank[~few.label] < np.median(whole.values[:, whole.names.index("combined_rank")])).mean() > 0.6
    left = AnsweredPairs.of(inferer, missing[1:], missing[:1], n_others=None)
    assert len(left.label) == len(whole.label) - 1
    with pytest.raises(ValueError, match="missing names unknown function nodes: \\['nobody'\\]"):
        AnsweredPairs.of(inferer, [("nobody", "f00")])


def test_the_control_sees_features_of_the_graph_alone_and_is_the_method_structure(fresh):
    _, masking, x, y = fresh
    control = fitted(fresh, LearnedStructureEdgeInferer)
    names = Scorer.shipped("structure").names
    assert not [name for name in names if name.startswith(OF_DATA)]
    of_graph = {name for name, _ in fitted(fresh).features() if not name.startswith(OF_DATA)}
    assert set(names) == of_graph
    other = LearnedStructureEdgeInferer(None, masking.graph)
    other.fit([(x, torch.randn(y.shape))], verbose=False)
    np.testing.assert_array_equal(other.score_matrix(), control.score_matrix())
    assert METHODS["structure"].inferer is LearnedStructureEdgeInferer
    assert not fitted(fresh).prior.candidates()[~np.isfinite(control.score_matrix())].any()
