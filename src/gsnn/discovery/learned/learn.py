"""How a scorer learns: from problems whose missing edges are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.base.torch_state import in_turn
from gsnn.discovery.learned.inferer import LearnedEdgeInferer
from gsnn.discovery.learned.scorer import Scorer, figures
from gsnn.discovery.stacked.features import FloatMatrix, stack
from gsnn.edges.pairs import edge_indices

# Chosen with families left out (benchmarks/learned).
SETTINGS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
}
ROUNDS = 400
# Weight of all other pairs of a problem together, relative to all of its missing edges.
OTHERS = 10.0
# Other pairs that are shown of a problem; half of them are of this share of pairs, the best by 'combined'.
N_OTHERS, HARD = 3000, 0.05


@dataclass(frozen=True, eq=False)
class AnsweredPairs:
    """Pairs of one problem that are known to be missing edges or not.

    Attributes:
        names: Names of the features.
        values: (K, F) features of the pairs.
        label: (K,) True for the edges that are missing.
        weight: (K,) how many pairs each stands for; None for 1.
        rows: (K,) the pairs, i * N + j; None if they are not needed.
    """

    names: Sequence[str]
    values: FloatMatrix
    label: BoolArray
    weight: FloatArray | None = None
    rows: IntArray | None = None

    @classmethod
    def of(
        cls,
        inferer: LearnedEdgeInferer,
        missing: Iterable[tuple[str, str]],
        unknown: Iterable[tuple[str, str]] = (),
        *,
        n_others: int | None = N_OTHERS,
        seed: int = 0,
    ) -> AnsweredPairs:
        """The missing edges of a problem, and some of the other pairs.

        Args:
            inferer: An inferer that has seen the samples of the problem; its scorer is not used.
            missing: The edges that are true and not in its graph, as (source, target) names.
            unknown: Edges to leave out, such as missing ones that carry no signal.
            n_others: How many other pairs, at most; half of them are drawn from the twentieth that ``combined`` ranks
                first. None for all.
            seed: Seed of the draw.

        Returns:
            The pairs; their weights make up for the draw.

        Raises:
            ValueError: If a name is unknown.
        """
        n, index = inferer.N, inferer.prior.index
        true, closed = (
            edge_indices(edges, index, name) for edges, name in ((missing, "missing"), (unknown, "unknown"))
        )
        free = inferer.prior.candidates()
        free[closed[0], closed[1]] = False
        true = true[:, free[true[0], true[1]]]
        free[true[0], true[1]] = False
        others = np.flatnonzero(free.ravel())
        weight = np.ones(len(others))
        if n_others is not None and len(others) > n_others:
            rng = np.random.default_rng(seed)
            order = others[np.argsort(-inferer.score_matrix(score="combined").ravel()[others], kind="stable")]
            hard = max(n_others // 2, int(HARD * len(order)))
            head, tail = (rng.permutation(part)[: n_others // 2] for part in (order[:hard], order[hard:]))
            others = np.concatenate([head, tail])
            weight = np.repeat([hard / len(head), (len(order) - hard) / max(len(tail), 1)], [len(head), len(tail)])
        rows = np.concatenate([true[0] * n + true[1], others])
        names, values = stack(inferer.features(), rows, n)
        label = np.arange(len(rows)) < true.shape[1]
        return cls(names, values, label, np.concatenate([np.ones(true.shape[1]), weight]), rows)


def learn(
    problems: Iterable[AnsweredPairs],
    *,
    leave_out: Iterable[str] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
    card: Mapping[str, Any] | None = None,
    **settings: Any,  # noqa: ANN401 - LightGBM's
) -> Scorer:
    """Grow boosted trees on problems whose missing edges are known.

    The missing edges of a problem together weigh the root of their number, and its other pairs ten times as much.

    Args:
        problems: The problems; all with the same features.
        leave_out: Beginnings of the names of features to leave out.
        rounds: Number of trees.
        seed: Fixes the trees.
        card: Description of the scorer, such as what it saw and where it fails.
        **settings: Settings of LightGBM that differ from :data:`SETTINGS`. It uses one thread: with ``num_threads``
            above 1, processes that are forked later, as by a self-check, would wait for its threads for ever.

    Returns:
        The scorer; give it to :class:`LearnedEdgeInferer`.

    Raises:
        ValueError: If there is no problem, features differ, or none holds both kinds of pairs.
    """
    usable = [pairs for pairs in problems if pairs.label.any() and not pairs.label.all()]
    if not usable:
        raise ValueError("problems must hold at least one with missing edges and with other pairs, got none")
    names = list(usable[0].names)
    if any(list(pairs.names) != names for pairs in usable):
        raise ValueError("problems must all have the same features in the same order, as one version makes them")
    left_out = tuple(leave_out)
    kept = [k for k, name in enumerate(names) if not name.startswith(left_out)]
    import lightgbm  # deferred: it takes a while

    options = {**SETTINGS, "seed": seed, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    options |= {"num_threads": 1, **settings}
    values = [pairs.values[:, kept].astype(np.float32) for pairs in usable]
    data = lightgbm.Dataset(
        np.concatenate(values),
        label=np.concatenate([pairs.label for pairs in usable]).astype(np.float32),
        weight=np.concatenate([_weights(pairs) for pairs in usable]),
        feature_name=[names[k] for k in kept],
        params={key: options[key] for key in ("verbosity", "max_bin", "num_threads")},
    )
    with in_turn(), threadpool_limits(options["num_threads"], user_api="openmp"):
        trees = lightgbm.train(options, data, num_boost_round=rounds).model_to_string()
    of_problems = [figures(part, pairs.weight) for part, pairs in zip(values, usable, strict=True)]
    return Scorer(trees, [names[k] for k in kept], np.array(of_problems), dict(card or {}))


def _weights(pairs: AnsweredPairs) -> FloatArray:
    weight = np.ones(len(pairs.label)) if pairs.weight is None else np.asarray(pairs.weight, np.float64)
    true, others = weight[pairs.label].sum(), weight[~pairs.label].sum()
    shares: FloatArray = np.sqrt(pairs.label.sum()) * weight * np.where(pairs.label, 1 / true, OTHERS / others)
    return shares
