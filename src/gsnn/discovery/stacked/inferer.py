"""Edges from a classifier that learns, on known edges hidden for the purpose, what a missing edge looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import unknown_option
from gsnn.base.progress import track
from gsnn.base.torch_state import own_random_state
from gsnn.base.workers import arrays_in_processes, workers_for
from gsnn.discovery.hiding import hideable_edges
from gsnn.discovery.stacked.caps import capped
from gsnn.discovery.stacked.features import (
    FLOOR,
    Feature,
    response_scores,
    stack,
    structural_features,
)
from gsnn.discovery.stacked.learners import learn_linear, learn_pairs, log_odds, log_probability
from gsnn.discovery.stacked.lessons import (
    FRACTION,
    OTHERS,
    REPEATS,
    Lesson,
    ModelScores,
    free_pairs,
    lessons,
    shown_rows,
)
from gsnn.discovery.stacked.refit import Train, default_config, refit
from gsnn.edges.capture import Criterion, all_samples, isolated, iterate_batches, tapped, unwrap
from gsnn.edges.inferer import EdgeInferer, check_model
from gsnn.edges.pairs import Column, ScoredPairs
from gsnn.graph import Graph
from gsnn.graph.checks import Edge

if TYPE_CHECKING:
    from gsnn.training import TrainConfig


SCORES = ("stacked", "learnt", "structure")
COLUMNS = ("learnt", "structure", "explained", "sign")
# A refit takes long: fewer repeats where one brings this many examples.
_FEWER_REPEATS, _MANY = 3, 50
_BATCH = 256
# Pairs judged at a time.
_PAIRS = 1 << 18


class _Hiding(EdgeInferer):
    """What the two share: which edges are hidden, and the classifiers that learn from them."""

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
        self._graph = data if isinstance(data, Graph) else Graph(data.edge_index_dict, data.node_names_dict)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must be above 0 and below 1, got {fraction}")
        _check_integers(repeats=(repeats, 1), n_others=(n_others, 1), seed=(seed, 0))
        n_drawn = round(fraction * len(hideable_edges(self._graph).rows))
        if repeats is None:
            repeats = _FEWER_REPEATS if n_drawn >= _MANY else REPEATS
        self.fraction, self.repeats, self.seed = fraction, repeats, seed
        self.n_others = n_others
        self.masked: list[list[Edge]] = []
        self._n = 0
        self._found: dict[str, npt.NDArray[Any]] | None = None

    @property
    def n(self) -> int:
        """Number of samples of the last fit."""
        return self._n

    def _repeats(self) -> list[Lesson]:
        """What each repeat hides, and the pairs it teaches."""
        return lessons(self._graph, self.prior, self.fraction, self.repeats, self.seed, self.n_others)

    def _unknown(self, score: FloatArray) -> FloatArray:
        """The scores, NaN for known edges and self pairs."""
        score[~self.prior.candidates()] = np.nan
        return score

    def _columns(self, names: Sequence[str]) -> dict[str, Column]:
        """Columns of the table from what was found."""
        found = self._fitted()

        def entries(values: npt.NDArray[Any]) -> Column:
            return lambda rows: values.ravel()[rows]

        return {name: entries(found[name]) for name in names}

    def _fitted(self) -> dict[str, npt.NDArray[Any]]:
        if self._found is None:
            raise RuntimeError("not fitted: call fit first")
        return self._found


class StackedEdgeInferer(_Hiding):
    r"""Learns from known edges what a missing edge looks like, and looks for more of the kind.

    A share of the known edges is hidden, the model trained again without them, and three classifiers (extremely
    randomised trees, boosted trees, a logistic model) learn to tell the hidden pairs from all other pairs that the
    masked graph lacks; several times, with other edges. They see features of the masked graph (degrees, reach, short
    paths, distances, shared inputs and outputs), of the scores of :class:`GradientEdgeInferer` and
    :class:`MagnitudeEdgeInferer` on the refitted model and, where many functions have an input and an output of their
    own, of the responses themselves. Then they judge the pairs that the full graph lacks by the same features.
    Edges are hidden as in a self-check (:func:`gsnn.discovery.mask_edges`): on a path from an input to an output, and
    without leaving a function bare of children or parents. Hidden edges that carry no signal once the others are gone
    (no input reaches their source, or their target reaches no output) are not learnt from: to the data they are like
    any other pair. Scores, all logarithms:

    - ``'stacked'``: the mean log-probability plus the logarithm of the score ``'explained'``;
    - ``'learnt'``: the mean log-probability alone;
    - ``'structure'``: the log-probability of a logistic model that saw features of the graph only. It knows nothing of
      the data. On networks from the literature most of what a stack ranks well is due to topology, so look at this
      beside it: an edge that only ``'structure'`` ranks high is a guess that the network goes on as it is.

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
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.
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
        _check_integers(max_samples=(max_samples, 3), n_trees=(n_trees, 1))
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
        self._found, self.masked, self._n = None, [], 0
        x, y = all_samples(self._model, dataloader)
        # Refits need gradients, whatever the caller is inside of.
        with torch.inference_mode(False), torch.enable_grad():
            self._learn(x, y, crit, device, verbose, loss_reduction)
        self._n = len(x)
        return self._n

    def _learn(
        self,
        x: Tensor,
        y: Tensor,
        crit: Criterion | None,
        device: torch.device | str,
        verbose: bool,
        loss_reduction: str | None,
    ) -> None:
        """Hide, train again, learn, and judge all pairs; see :meth:`fit`."""

        def scores(model: nn.Module, graph: Graph) -> tuple[ModelScores, Iterator[Feature]]:
            with isolated(model) as there, torch.no_grad():
                dtype = next((p.dtype for p in model.parameters()), x.dtype)
                parts = [model(part.to(there, dtype)).double().cpu() for part in x.split(_BATCH)]
            responses = {"response": y.double().numpy(), "unexplained": (y.double() - torch.cat(parts)).numpy()}
            direct = response_scores(graph, x.double().numpy(), responses)
            batches = list(zip(x[rows].split(_BATCH), y[rows].split(_BATCH), strict=True))
            found = ModelScores(model, graph, batches, crit, device, loss_reduction)
            return found, found.features(direct)

        train = self._trainer(x, y)
        rows = _some_rows(len(x), self.max_samples, self.seed)
        # First, so that samples that cannot be scored are refused before the refits.
        model, features = scores(self._model, self._graph)
        mine = dict(features)
        repeats = self._repeats()
        if not repeats:
            raise ValueError(
                "no hidden edge carries a signal from an input to an output, so there is nothing to learn from; "
                "hide others by another seed, or fewer by a smaller fraction"
            )

        def refitted(repeat: Lesson) -> dict[str, npt.NDArray[Any]]:
            features = scores(train(repeat.graph, repeat.seed), repeat.graph)[1]
            return shown_rows(repeat.graph, repeat.rows, self.N, features)

        jobs = [partial(refitted, repeat) for repeat in repeats]
        with closing(arrays_in_processes(jobs, self._workers(len(x), device))) as done:
            seen = list(track(done, "refits", total=self.repeats, show=verbose))
        topology, of_scores = (np.concatenate([each[part] for each in seen]) for part in ("topology", "scores"))
        both = np.concatenate([topology, of_scores], axis=1)
        label = np.concatenate([repeat.label for repeat in repeats])
        alone = learn_linear(topology, seen[0]["names"].tolist()[: topology.shape[1]], label)
        opinion = learn_pairs(both, label, self.seed, self.n_trees)
        all_features = {**dict(structural_features(self._graph)), **mine}
        free, learnt = free_pairs(self.prior), np.full(self.N * self.N, np.nan)
        for some in np.split(free, range(_PAIRS, len(free), _PAIRS)):
            learnt[some] = opinion(stack(all_features.items(), some, self.N)[1])
        explained, sign = model.explained()
        self._found = {
            "learnt": learnt.reshape(self.N, self.N),
            "structure": self._unknown(log_probability(log_odds([alone], all_features.items(), self.N)[0])),
            "explained": explained,
            "sign": sign,
        }
        self.masked = [repeat.hidden for repeat in repeats]

    def scored(
        self, *, score: str = "stacked", per_target: int | None = None, per_source: int | None = None
    ) -> ScoredPairs:
        """Scores and columns of all pairs.

        Args:
            score: ``'stacked'``, ``'learnt'`` or ``'structure'``.
            per_target: Put a pair behind all others when so many better ones have its target already; 1 makes a
                list without repetitions. None: no limit.
            per_source: The same for its source.

        Returns:
            The scores; the further columns are learnt, structure, explained (as of :class:`GradientEdgeInferer`) and
            sign (1, -1 or 0).

        Raises:
            RuntimeError: If it was not fitted.
            ValueError: If an option is unknown or below 1.
        """
        if score not in SCORES:
            raise unknown_option("score", score, SCORES)
        found = self._fitted()
        total = found["learnt"] + log_score(found["explained"]) if score == "stacked" else found[score]
        total = capped(total, per_target, per_source)
        return ScoredPairs(self.prior, total, self.score_name, self._columns(COLUMNS))

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
    """What the stack would say without the data: a logistic model of features of the graph alone.

    The control of :class:`StackedEdgeInferer`, whose column ``structure`` it is, and a baseline for any method. No
    model is trained or read, so it takes seconds. Whatever it ranks high is a guess that the network goes on as it is.

    Args:
        model: Not used; any inferer takes one.
        data: The prior graph, with its inputs and outputs. Where fewer than 2 of its function edges can be hidden there
            is nothing to learn, and all scores are 0.
        fraction: As for :class:`StackedEdgeInferer`.
        repeats: How often edges are hidden.
        seed: Fixes the hidden edges and the other pairs.
        n_others: As there.

    Attributes:
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.
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
        """Hide, learn, and judge all pairs.

        Args:
            dataloader: Its samples are counted, nothing else.
            crit: Not used.
            device: Not used.
            verbose: Not used; nothing here takes long.
            loss_reduction: Not used.

        Returns:
            Number of samples.

        Raises:
            ValueError: If the loader is empty.
        """
        self._found, self.masked, self._n = None, [], 0
        with own_random_state():
            n = sum(len(batch.x) for batch in iterate_batches(dataloader))
        repeats = self._repeats()
        found = np.zeros((self.N, self.N))
        if repeats:
            shown = [stack(structural_features(repeat.graph), repeat.rows, self.N) for repeat in repeats]
            label = np.concatenate([repeat.label for repeat in repeats])
            alone = learn_linear(np.concatenate([rows for _, rows in shown]), shown[0][0], label)
            found = log_probability(log_odds([alone], structural_features(self._graph), self.N)[0])
        self._found = {"structure": self._unknown(found)}
        self.masked, self._n = [repeat.hidden for repeat in repeats], n
        return n

    def scored(self, *, per_target: int | None = None, per_source: int | None = None) -> ScoredPairs:
        """Scores of all pairs, without further columns; see :meth:`StackedEdgeInferer.scored`."""
        score = capped(self._fitted()["structure"], per_target, per_source)
        return ScoredPairs(self.prior, score)


def _some_rows(n: int, most: int, seed: int) -> Tensor:
    """Numbers of at most so many of n samples, at random, in order."""
    if n <= most:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng((seed, 2)).choice(n, most, replace=False)))


def log_score(score: FloatArray) -> FloatArray:
    """Its logarithm, where none is below a small share of the largest; undefined ones count as 0."""
    best = np.nanmax(score, initial=0.0)
    return np.log(np.maximum(np.nan_to_num(score), FLOOR * best)) if best > 0 else np.zeros_like(score)


def _check_integers(**options: tuple[int | None, int]) -> None:
    """Refuse what is no integer, or below its least value; None is left to the default."""
    for name, (value, least) in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
