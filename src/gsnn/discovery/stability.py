"""Edges by how often they enter a refinement, over subsamples of the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.progress import track
from gsnn.base.workers import arrays_in_processes, workers_for
from gsnn.data.split import conditions
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.discovery.stacked.inferer import check_integers
from gsnn.discovery.stacked.lessons import column_matrix
from gsnn.discovery.stacked.refit import default_config, untrained
from gsnn.edges.capture import Criterion, all_samples, tapped, unwrap
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.inferer import EdgeInferer, check_model
from gsnn.edges.pairs import PriorEdges, ScoredPairs, column_of, descending
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.union import can_unite, disjoint_union, split_union

if TYPE_CHECKING:
    from gsnn.training import TrainConfig

SUBSAMPLES, ROUNDS = 20, 2
# Edges that enter in a round: this share of the known ones, and at least so many.
SHARE, LEAST = 0.03, 5
LEAST_CONDITIONS, LEAST_SAMPLES = 4, 3
# Models that train as one, of graphs with at most so many edges: larger ones gain nothing by it. Results depend on it a
# little, so it does not follow the number of processors.
_TOGETHER, _SMALL = 10, 1500
_BATCH = 256


class StabilityEdgeInferer(EdgeInferer):
    r"""Refines the network on many halves of the conditions, and counts how often an edge enters.

    For each subsample a new model of the same architecture is trained on the prior graph and half of the conditions.
    The ``per_round`` best candidates by ``explained`` (:class:`gsnn.edges.GradientEdgeInferer`, at the weights when
    most was learnt), one into each target, enter its graph; it is trained again from new weights, and so on for
    ``rounds`` rounds. The halves come in pairs that have no condition in common (Shah and Samworth 2013, after
    Meinshausen and Buhlmann 2010, *Stability selection*).

    The score of an edge is (n + r) / (S + 1), where n of S subsamples took it and r is its mean percentile among the
    candidates in the first round, which orders edges that entered equally often. Nothing is tested here: an edge that
    always enters may be one that the model always proposes in place of another (see ``gsnn selfcheck``), and no p-value
    is defined. What enters by luck of the samples or of the weights does not enter often.

    The models of a small network (up to 1,500 edges) are trained ten at a time as one, on the disjoint union of their
    graphs, which is cheaper. These ten share the L weights of the residual connections, the epoch at which most was
    learnt, and which of their samples stand in a batch together; nothing else.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks; it gives the architecture, and no weights.
        data: The prior graph, with its inputs and outputs.
        train: Optimiser, epochs and batch size; None: about 1200 steps.
        subsamples: S, an even number.
        rounds: Rounds of a refinement.
        per_round: Edges that enter in a round; None: 3 % of the known function edges, and at least 5.
        seed: Fixes the halves, the weights and the order of the samples.

    Attributes:
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If an option is out of range, or model and graph disagree.
        TypeError: If the model is no GSNN.

    Example:
        >>> from gsnn.training import TrainConfig
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("x", "b"), ("a", "c"), ("c", "y")],
        ...     input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"],
        ... )
        >>> x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
        >>> model = GSNN.from_graph(graph, channels=2, layers=3)
        >>> inferer = StabilityEdgeInferer(model, graph, TrainConfig(epochs=2), subsamples=2, rounds=1)
        >>> inferer.fit([(x, x.abs())], verbose=False)
        40
        >>> list(inferer.evaluate().columns)[4:]
        ['score', 'has_edge', 'entered', 'percentile', 'sign']
    """

    needs_all = True
    reads_weights = False

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        train: TrainConfig | None = None,
        *,
        subsamples: int = SUBSAMPLES,
        rounds: int = ROUNDS,
        per_round: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data)
        self._graph = Graph.coerce(data)
        check_model(tapped(model), self.function_nodes, use_pre_norm=True)
        inner = unwrap(model)
        if not isinstance(inner, GSNN):
            raise TypeError(f"model must be a gsnn.nn.GSNN to be trained again, got {type(inner).__name__}")
        self._model: GSNN = inner
        if per_round is None:
            per_round = max(LEAST, round(SHARE * len(self.edges)))
        check_integers(subsamples=(subsamples, 2), rounds=(rounds, 1), per_round=(per_round, 1), seed=(seed, 0))
        if subsamples % 2:
            raise ValueError(f"subsamples must be even, because halves come in pairs, got {subsamples}")
        self.train, self.subsamples, self.rounds, self.per_round, self.seed = train, subsamples, rounds, per_round, seed
        self._n = 0
        self._counts: tuple[FloatArray, FloatArray, FloatArray] | None = None

    @property
    def n(self) -> int:
        """Number of samples of the last fit."""
        return self._n

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
    ) -> int:
        """Refine on every subsample, and count.

        Args:
            dataloader: Yields (x, y) or tuples with more items, which are ignored; y standardised.
            crit: ``crit(prediction, target)``, a mean or a sum over samples, for the scores; None for the mean squared
                error. Trainings always use that.
            device: Where to read activations and gradients; trainings run on the CPU.
            verbose: Show progress on stderr.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty, a batch has the wrong width (the error names the batch), or there are
                fewer than 4 conditions (distinct inputs), or fewer than 3 samples in a half.
        """
        self._counts, self._n = None, 0
        x, y = all_samples(self._model, dataloader)
        if not x.isfinite().all() or y.isinf().any():
            raise ValueError("x must be finite, and y finite or NaN where missing, got infinite or undefined values")
        # Trainings need gradients, whatever the caller is inside of.
        with torch.inference_mode(False), torch.enable_grad():
            self._counts = self._refined(x, y, crit, device, verbose)
        self._n = len(x)
        return self._n

    def scored(self) -> ScoredPairs:
        """Scores of all pairs.

        The further columns are the share of the subsamples in which the edge ``entered``, its mean ``percentile`` among
        the candidates in the first round (1 is the best), and ``sign`` (1, -1 or 0).

        Raises:
            RuntimeError: If it was not fitted.
        """
        if self._counts is None:
            raise RuntimeError("not fitted: call fit first")
        entered, percentile, sign = self._counts
        score = (entered + percentile) / (self.subsamples + 1)
        score[~self.prior.candidates()] = np.nan
        columns = {"entered": entered / self.subsamples, "percentile": percentile, "sign": sign}
        return ScoredPairs(
            self.prior, score, self.score_name, {name: column_of(values) for name, values in columns.items()}
        )

    def _refined(
        self, x: Tensor, y: Tensor, crit: Criterion | None, device: torch.device | str, verbose: bool
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(N, N) each: how often edges entered, mean percentile of the first round, sign."""
        halves = halved(conditions(x.double().numpy()), self.subsamples, self.seed)
        graphs = [self._graph] * self.subsamples
        entered, percentile, signs = (np.zeros((self.N, self.N)) for _ in range(3))
        together = _TOGETHER if can_unite(self._model) and self._graph.E <= _SMALL else 1
        groups = [range(start, min(start + together, len(halves))) for start in range(0, len(halves), together)]
        config = default_config(len(x) // 2) if self.train is None else self.train
        names = self.function_nodes

        def round_of(number: int, group: range) -> dict[str, npt.NDArray[Any]]:
            seed = int(np.random.SeedSequence((self.seed, number, group.start)).generate_state(1)[0])
            some, samples = [graphs[k] for k in group], [(x[halves[k]], y[halves[k]]) for k in group]
            models = train_together(self._model, some, samples, config, seed)
            pairs, ranks, sign = [], np.zeros((self.N, self.N)), np.zeros((self.N, self.N))
            for each in zip(models, some, samples, strict=True):
                score, directions = self._scores(*each, crit, device)
                pairs.append(self._best(score))
                if number == 0:
                    ranks += percentiles(score)
                    sign += directions
            first = {"percentile": ranks, "sign": sign} if number == 0 else {}
            return {"pairs": np.array(pairs), **first}

        workers = self._workers(config.batch_size, len(x), together, device)
        rounds = "rounds on subsamples"
        for number in range(self.rounds):
            jobs = [partial(round_of, number, group) for group in groups]
            with closing(arrays_in_processes(jobs, workers)) as done:
                results = track(done, f"{rounds}, {number + 1} of {self.rounds}", total=len(groups), show=verbose)
                for group, result in zip(groups, results, strict=True):
                    for k, pairs in zip(group, result["pairs"], strict=True):
                        i, j = np.divmod(pairs[pairs >= 0], self.N)
                        entered[i, j] += 1
                        edges = [(names[a], names[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
                        graphs[k] = graphs[k].with_edges(edges) if edges else graphs[k]
                    if number == 0:
                        percentile += result["percentile"] / self.subsamples
                        signs += result["sign"]
        return entered, percentile, np.sign(signs)

    def _scores(
        self,
        model: GSNN,
        graph: Graph,
        samples: tuple[Tensor, Tensor],
        crit: Criterion | None,
        device: torch.device | str,
    ) -> tuple[FloatArray, FloatArray]:
        """(N, N) each: ``explained``, NaN for known edges, and the signs."""
        inferer = GradientEdgeInferer(model, graph)
        x, y = samples
        inferer.fit(list(zip(x.split(_BATCH), y.split(_BATCH), strict=True)), crit, device, verbose=False)
        scored = inferer.scored(score="explained")
        score = np.where(PriorEdges(graph).candidates(), scored.score, np.nan).astype(np.float64)
        return score, column_matrix(scored, "sign").astype(np.float64)

    def _best(self, score: FloatArray) -> IntArray:
        """The pairs that enter a graph, as i N + j, filled up with -1: one into each target, none below chance."""
        score = np.where(score > 0, score, np.nan)
        score[~chosen_pairs(score, per_target=1, per_source=None)] = np.nan
        best = descending(score.ravel())[: self.per_round]
        best = best[np.isfinite(score.ravel()[best])]
        return np.pad(best, (0, self.per_round - len(best)), constant_values=-1)

    def _workers(self, batch: int, n: int, together: int, device: torch.device | str) -> int:
        """How many groups to train at a time."""
        if torch.device(device).type != "cpu":
            return 0
        channels = len(self._model.channel_node)
        values = 2 * (self._model.L + 10) * self.N**2 + 3 * self._model.L * channels * (n + together * batch)
        values += 6 * together * sum(p.numel() for p in self._model.parameters())  # with Adam, and early copies
        return workers_for(self._model, batch, 8 * values)


def halved(condition: IntArray, subsamples: int, seed: int) -> list[IntArray]:
    """Samples of half of the conditions, in pairs that have no condition in common.

    Args:
        condition: (M,) number of the condition of each sample, from 0 on.
        subsamples: How many halves, an even number.
        seed: Fixes them.

    Returns:
        For each half the numbers of its samples, in order.

    Raises:
        ValueError: If there are fewer than 4 conditions, or a half can have fewer than 3 samples.

    Example:
        >>> [half.tolist() for half in halved(np.array([0, 1, 1, 2, 3, 4, 5]), 2, seed=0)]
        [[0, 1, 2, 4], [3, 5, 6]]
    """
    n = int(condition.max()) + 1
    if n < LEAST_CONDITIONS:
        raise ValueError(
            f"there are {n} distinct treatments, and halves need at least {LEAST_CONDITIONS}; give more conditions, or "
            "use another method"
        )
    least = int(np.sort(np.bincount(condition))[: n // 2].sum())
    if least < LEAST_SAMPLES:
        raise ValueError(f"half of {n} distinct treatments can be {least} samples; give at least {LEAST_SAMPLES}")
    rng, halves = np.random.default_rng((seed, 3)), []
    for _ in range(subsamples // 2):
        first = np.zeros(n, dtype=bool)
        first[rng.permutation(n)[: n // 2]] = True
        halves += [np.flatnonzero(first[condition]), np.flatnonzero(~first[condition])]
    return halves


def percentiles(score: FloatArray) -> FloatArray:
    """Share of the defined scores that are no larger, ties at their mean; 0 where undefined.

    Example:
        >>> percentiles(np.array([3.0, np.nan, 1.0, 1.0]))
        array([1. , 0. , 0.5, 0.5])
    """
    known = np.isfinite(score)
    share = np.zeros(score.shape)
    share[known] = rankdata(score[known]) / max(1, known.sum())
    return share


def train_together(
    model: GSNN, graphs: Sequence[Graph], samples: Sequence[tuple[Tensor, Tensor]], config: TrainConfig, seed: int
) -> list[GSNN]:
    """Train models of some graphs as one, each on samples of its own.

    Args:
        model: Gives the architecture.
        graphs: Of the same nodes.
        samples: For each graph its x (M, I) and y (M, O), NaN where missing. Where a graph has fewer samples than
            another, it sees some of them twice in an epoch.
        config: Optimiser, epochs and batch size.
        seed: Fixes weights, pairing and order of the samples.

    Returns:
        The models when most was learnt (:mod:`gsnn.training.early`), over all of them together.
    """
    from gsnn.training import train_model

    config = replace(config, seed=seed % 2**31, patience=None, restore_best=False, drop_last=False)
    united = disjoint_union(graphs) if len(graphs) > 1 else graphs[0]
    rng = np.random.default_rng(seed)
    most = max(len(x) for x, _ in samples)
    rows = [np.resize(rng.permutation(len(x)), most) for x, _ in samples]
    x, y = (
        np.concatenate([part[k].float().numpy()[own] for part, own in zip(samples, rows, strict=True)], axis=1)
        for k in (0, 1)
    )
    trained = untrained(model, united, config.seed)
    early = train_model(trained, (x, y), None, config).early
    if early is not None:
        trained.load_state_dict(early[1])
    return split_union(trained, graphs) if len(graphs) > 1 else [trained.eval()]
