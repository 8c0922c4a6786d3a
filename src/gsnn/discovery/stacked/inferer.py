"""Edges from classifiers that learn from hidden known edges what a missing edge looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import check_option
from gsnn.base.progress import track
from gsnn.base.torch_state import own_random_state
from gsnn.base.workers import arrays_in_processes, workers_for
from gsnn.discovery.hiding import hideable_edges
from gsnn.discovery.stacked.caps import capped
from gsnn.discovery.stacked.features import FLOOR, Feature, response_scores, stack, structural_features
from gsnn.discovery.stacked.learners import learn_linear, learn_pairs, log_odds, log_probability
from gsnn.discovery.stacked.lessons import (
    BATCH,
    FRACTION,
    OTHERS,
    REPEATS,
    Lesson,
    ModelScores,
    lessons,
    predictions,
    shown_rows,
)
from gsnn.discovery.stacked.refit import Train, default_config, refit
from gsnn.edges.capture import Criterion, all_samples, iterate_batches, tapped, unwrap
from gsnn.edges.inferer import EdgeInferer, check_model
from gsnn.edges.pairs import ScoredPairs, column_of
from gsnn.graph import Graph
from gsnn.graph.checks import Edge

if TYPE_CHECKING:
    from gsnn.training import TrainConfig


SCORES = ("stacked", "learnt", "structure")
COLUMNS = ("learnt", "structure", "explained", "sign")
# A refit takes long: fewer repeats where each hides at least so many edges.
_FEWER_REPEATS, _MANY = 3, 50
# Pairs judged at a time.
_PAIRS = 1 << 18


class _Hiding(EdgeInferer):
    """Which known edges are hidden, and what was learnt from them; shared by the stack and its control."""

    def __init__(
        self,
        model: object,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        fraction: float,
        repeats: int | None,
        seed: int,
        n_others: int,
    ) -> None:
        super().__init__(model, data)
        self._graph = Graph.coerce(data)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be above 0 and below 1, got {fraction}")
        check_integers(repeats=(REPEATS if repeats is None else repeats, 1), n_others=(n_others, 1), seed=(seed, 0))
        n_drawn = round(fraction * len(hideable_edges(self._graph).rows))
        if repeats is None:
            repeats = _FEWER_REPEATS if n_drawn >= _MANY else REPEATS
        self.fraction, self.repeats, self.seed = fraction, repeats, seed
        self.n_others = n_others
        self.masked: list[list[Edge]] = []
        self.n = 0
        self._results: dict[str, npt.NDArray[Any]] | None = None

    def _lessons(self) -> list[Lesson]:
        """What each repeat hides, and the pairs that it teaches."""
        return lessons(self._graph, self.prior, self.fraction, self.repeats, self.seed, self.n_others)

    def _of_candidates(self, score: FloatArray) -> FloatArray:
        """The scores, NaN for known edges and self pairs."""
        score[~self.prior.candidates()] = np.nan
        return score

    def _fitted(self) -> dict[str, npt.NDArray[Any]]:
        if self._results is None:
            raise RuntimeError("not fitted: call fit first")
        return self._results


class StackedEdgeInferer(_Hiding):
    r"""Learns from known edges what a missing edge looks like.

    Several times, with other edges each time, a share of the known edges is hidden and the model trained again without
    them. Three classifiers (extremely randomised trees, boosted trees, a logistic model) learn to tell the hidden pairs
    from all other pairs that the masked graph lacks. They see features of the masked graph (degrees, reach, short
    paths, distances, shared inputs and outputs), of the scores of :class:`GradientEdgeInferer` and
    :class:`MagnitudeEdgeInferer` on the refitted model and, where many functions have an input and an output of their
    own, of the responses themselves. Then they judge the pairs that the full graph lacks by the same features.
    Edges are hidden as in a self-check (:func:`gsnn.discovery.mask_edges`): on a path from an input to an output, and
    without leaving a function bare of children or parents. Hidden edges that carry no signal once the others are gone
    (no input reaches their source, or their target reaches no output) are not learnt from: to the data they are like
    any other pair. Scores, all logarithms:

    - ``'stacked'``: the mean log-probability plus the logarithm of the score ``'explained'``;
    - ``'learnt'``: the mean log-probability alone;
    - ``'structure'``: the log-probability of a logistic model that saw features of the graph only, and nothing of the
      data. On networks from the literature most of what a stack ranks well is due to topology, so compare the two: an
      edge that only ``'structure'`` ranks high is a guess that the network goes on as it is.

    The scores of known edges are undefined (NaN): the classifiers learnt from them.

    The cost is a training for each repeat. No p-value is defined (hidden edges were drawn, not tested).

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, trained on ``data``.
        data: The prior graph, with its inputs and outputs; at least 2 of its function edges are known.
        train: How to train a model on a masked graph: a function (graph, seed) -> model, or a
            :class:`gsnn.training.TrainConfig` whose optimiser, epochs and batch size are used for a model of the same
            architecture on the samples given to :meth:`fit`; None: a config for about 1200 steps.
        fraction: Share hidden in a repeat, of the known edges that can be (see :func:`gsnn.discovery.mask_edges`).
        repeats: How often; None: 3, or 8 where a repeat hides fewer than 50.
        seed: Fixes the hidden edges, the samples, the refits and the trees.
        max_samples: Samples that the scores are computed on, drawn at random from all rows; refits see all.
        n_others: Other pairs that the classifiers see of a repeat, at most.
        n_trees: Extremely randomised trees.

    Attributes:
        masked: The edges that each repeat of the last fit hid and learnt from.

    Raises:
        RuntimeError: If the model has fewer than 2 blocks.
        ValueError: If an option is out of range, or model and graph disagree.
        TypeError: If the model has no taps, or ``train`` is none of the above.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> edges = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "y"), ("b", "z")]
        >>> graph = Graph.from_edges(
        ...     edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y", "z"]
        ... )
        >>> x = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
        >>> model = GSNN.from_graph(graph, channels=2, layers=4)
        >>> def train(graph, seed):
        ...     return GSNN.from_graph(graph, channels=2, layers=4)
        >>> inferer = StackedEdgeInferer(model, graph, train, repeats=2)
        >>> inferer.fit([(x, torch.cat([x, -x], 1))], verbose=False)
        60
        >>> list(inferer.evaluate().columns)[4:]
        ['score', 'has_edge', 'learnt', 'structure', 'explained', 'sign']
    """

    needs_all = True

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        train: TrainConfig | Train | None = None,
        *,
        fraction: float = FRACTION,
        repeats: int | None = None,
        seed: int = 0,
        max_samples: int = 2048,
        n_others: int = 4000,
        n_trees: int = 300,
    ) -> None:
        super().__init__(model, data, fraction, repeats, seed, n_others)
        check_integers(max_samples=(max_samples, 3), n_trees=(n_trees, 1))
        n_edges = sum(s != t for s, t in self.edges)
        if n_edges < 2:
            raise ValueError(f"data must have at least 2 function -> function edges to learn from, got {n_edges}")
        self.n_trees = n_trees
        if train is not None and not callable(train) and not hasattr(train, "model_options"):
            raise TypeError(
                f"train must be a TrainConfig, a function (graph, seed) -> model or None, got {type(train).__name__}"
            )
        self._model = unwrap(model)
        check_model(tapped(model), self.function_nodes, use_pre_norm=True)
        self.train, self.max_samples = train, max_samples

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
        *,
        loss_reduction: str | None = None,
    ) -> int:
        """Hide, train again, learn, and judge all pairs.

        Args:
            dataloader: Yields (x, y) or tuples with more items, which are ignored; y standardised.
            crit: ``crit(prediction, target)``, a mean or a sum over samples, for the scores; None for the mean squared
                error. Refits by a TrainConfig always use that.
            device: Where to read activations and gradients; refits by a TrainConfig run on the CPU.
            verbose: Show progress on stderr.
            loss_reduction: ``'mean'`` or ``'sum'`` of ``crit``; None finds out.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty or a batch has the wrong width (the error names the batch).
        """
        self._results, self.masked, self.n = None, [], 0
        x, y = all_samples(self._model, dataloader)
        # Refits need gradients, also where the caller has turned them off.
        with torch.inference_mode(False), torch.enable_grad():
            self._learn(x, y, crit, device, verbose, loss_reduction)
        self.n = len(x)
        return self.n

    def _learn(
        self,
        x: Tensor,
        y: Tensor,
        crit: Criterion | None,
        device: torch.device | str,
        verbose: bool,
        loss_reduction: str | None,
    ) -> None:
        """The work of :meth:`fit` on (M, I) inputs and (M, O) targets."""

        def scores(model: nn.Module, graph: Graph) -> tuple[ModelScores, Iterator[Feature]]:
            unexplained = y.double() - predictions(model, x)
            responses = {"response": y.double().numpy(), "unexplained": unexplained.numpy()}
            direct = response_scores(graph, x.double().numpy(), responses)
            batches = list(zip(x[rows].split(BATCH), y[rows].split(BATCH), strict=True))
            of_model = ModelScores(model, graph, batches, crit, device, loss_reduction)
            return of_model, of_model.features(direct)

        train = self._trainer(x, y)
        rows = _some_rows(len(x), self.max_samples, self.seed)
        # First, so that samples that cannot be scored are refused before the refits.
        model, features = scores(self._model, self._graph)
        of_scores = dict(features)
        taught = self._lessons()
        if not taught:
            raise ValueError(
                "no hidden edge carries a signal from an input to an output, so there is nothing to learn from; "
                "hide others by another seed, or fewer by a smaller fraction"
            )

        def refitted(lesson: Lesson) -> dict[str, npt.NDArray[Any]]:
            features = scores(train(lesson.graph, lesson.seed), lesson.graph)[1]
            return shown_rows(lesson.graph, lesson.rows, self.N, features)

        jobs = [partial(refitted, lesson) for lesson in taught]
        with closing(arrays_in_processes(jobs, self._workers(len(x), device))) as done:
            shown = list(track(done, "refits", total=self.repeats, show=verbose))
        topology, scored = (np.concatenate([rows[part] for rows in shown]) for part in ("topology", "scores"))
        label = np.concatenate([lesson.label for lesson in taught])
        structure = learn_linear(topology, shown[0]["names"].tolist()[: topology.shape[1]], label)
        opinion = learn_pairs(np.concatenate([topology, scored], axis=1), label, self.seed, self.n_trees)
        all_features = {**dict(structural_features(self._graph)), **of_scores}
        free, learnt = np.flatnonzero(self.prior.candidates()), np.full(self.N * self.N, np.nan)
        for some in np.split(free, range(_PAIRS, len(free), _PAIRS)):
            learnt[some] = opinion(stack(all_features.items(), some, self.N)[1])
        explained, sign = model.explained()
        (odds,) = log_odds([structure], all_features.items(), self.N)
        self._results = {
            "learnt": learnt.reshape(self.N, self.N),
            "structure": self._of_candidates(log_probability(odds)),
            "explained": explained,
            "sign": sign,
        }
        self.masked = [lesson.hidden for lesson in taught]

    def scored(
        self, *, score: str = "stacked", per_target: int | None = None, per_source: int | None = None
    ) -> ScoredPairs:
        """Scores and columns of all pairs.

        Args:
            score: ``'stacked'``, ``'learnt'`` or ``'structure'``.
            per_target: Put a pair behind all others when this many better ones have its target already; 1 gives a list
                without repetitions. None: no limit.
            per_source: The same for its source.

        Returns:
            The scores; the further columns are learnt, structure, explained (as of :class:`GradientEdgeInferer`) and
            sign (1, -1 or 0).

        Raises:
            RuntimeError: If it was not fitted.
            ValueError: If an option is unknown or below 1.
        """
        check_option("score", score, SCORES)
        results = self._fitted()
        total = results["learnt"] + log_score(results["explained"]) if score == "stacked" else results[score]
        columns = {name: column_of(results[name]) for name in COLUMNS}
        return ScoredPairs(self.prior, capped(total, per_target, per_source), self.score_name, columns)

    def _trainer(self, x: Tensor, y: Tensor) -> Train:
        """How to train on a masked graph, with the samples at hand."""
        if callable(self.train):
            return self.train
        config = default_config(len(x)) if self.train is None else self.train
        return lambda graph, seed: refit(self._model, graph, seed, x, y, config)

    def _workers(self, n: int, device: torch.device | str) -> int:
        """How many refits to do at a time; a function of the user's may count on being called in this process."""
        if callable(self.train) or torch.device(device).type != "cpu":
            return 0
        config = default_config(n) if self.train is None else self.train
        gsnn = tapped(self._model)
        # A matrix over all pairs for each pair of blocks and for each feature, twice; every channel of every block.
        values = 2 * (gsnn.L + 40) * self.N**2 + 3 * gsnn.L * len(gsnn.channel_node) * min(n, self.max_samples)
        return workers_for(self._model, config.batch_size, 8 * values)


class StructureEdgeInferer(_Hiding):
    """A logistic model of features of the graph alone: what the stack would say without the data.

    It is the column ``structure`` and the control of :class:`StackedEdgeInferer`, and a baseline for any method. No
    model is trained or read, so it takes seconds. What it ranks high is a guess that the network goes on as it is.

    Args:
        model: Not used; any inferer takes one.
        data: The prior graph, with its inputs and outputs. Where fewer than 2 of its function edges can be hidden there
            is nothing to learn, and all scores are 0.
        fraction: As for :class:`StackedEdgeInferer`.
        repeats: How often edges are hidden.
        seed: Fixes the hidden edges and the other pairs.
        n_others: As there.

    Attributes:
        masked: The edges that each repeat of the last fit hid and learnt from.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y"])
        >>> inferer = StructureEdgeInferer(None, graph)
        >>> inferer.fit([(torch.zeros(5, 1), torch.zeros(5, 1))], verbose=False)
        5
        >>> inferer.score_matrix().shape
        (4, 4)
    """

    def __init__(
        self,
        model: object,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        fraction: float = FRACTION,
        repeats: int = REPEATS,
        seed: int = 0,
        n_others: int = OTHERS,
    ) -> None:
        super().__init__(model, data, fraction, repeats, seed, n_others)

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
        *,
        loss_reduction: str | None = None,
    ) -> int:
        """Hide, learn, and judge all pairs; see :meth:`gsnn.edges.EdgeInferer.fit`. Samples are only counted."""
        self._results, self.masked, self.n = None, [], 0
        with own_random_state():
            n = sum(len(batch.x) for batch in iterate_batches(dataloader))
        taught = self._lessons()
        score = np.zeros((self.N, self.N))
        if taught:
            shown = [stack(structural_features(lesson.graph), lesson.rows, self.N) for lesson in taught]
            label = np.concatenate([lesson.label for lesson in taught])
            model = learn_linear(np.concatenate([rows for _, rows in shown]), shown[0][0], label)
            score = log_probability(log_odds([model], structural_features(self._graph), self.N)[0])
        self._results = {"structure": self._judged(self._of_candidates(score))}
        self.masked, self.n = [lesson.hidden for lesson in taught], n
        return n

    def _judged(self, own: FloatArray) -> FloatArray:
        """The scores (N, N) from what this network teaches; a subclass may know more."""
        return own

    def scored(self, *, per_target: int | None = None, per_source: int | None = None) -> ScoredPairs:
        """Scores of all pairs, without further columns; see :meth:`StackedEdgeInferer.scored`."""
        score = capped(self._fitted()["structure"], per_target, per_source)
        return ScoredPairs(self.prior, score)


def _some_rows(n: int, most: int, seed: int) -> Tensor:
    """Numbers of at most ``most`` of n samples, drawn at random, in order."""
    if n <= most:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng((seed, 2)).choice(n, most, replace=False)))


def log_score(score: FloatArray) -> FloatArray:
    """The logarithm of a score, raised to a small share of the largest; NaN counts as 0."""
    best = np.nanmax(score, initial=0.0)
    return np.log(np.maximum(np.nan_to_num(score), FLOOR * best)) if best > 0 else np.zeros_like(score)


def check_integers(**options: tuple[int, int]) -> None:
    """Refuse a value that is no integer or below its least value."""
    for name, (value, least) in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
