"""What known edges look like, and what one trained model says: nothing is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray
from gsnn.base.memory import check_fits
from gsnn.base.progress import track
from gsnn.base.workers import arrays_in_processes, workers_for
from gsnn.discovery.stacked.features import Feature, structural_features
from gsnn.discovery.stacked.learners import learn_linear, log_odds, log_probability
from gsnn.discovery.stacked.lessons import FRACTION, OTHERS, REPEATS, Lesson, ModelScores, lessons, shown_rows
from gsnn.discovery.stacked.refit import untrained
from gsnn.discovery.stacked.trust import Exam, exam, odds_left_out, weight
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.measured import MeasuredEdgeInferer
from gsnn.edges.pairs import ScoredPairs, column_of
from gsnn.edges.sample_store import SampleStore
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse

# Samples that an untrained network reads, and its channels: more of them find no more.
SAMPLES, CHANNELS = 256, 3
# Correlations of readouts are read if this share of the functions has one of its own; and on how many samples.
LEAST_MEASURED, MEASURED_SAMPLES = 0.5, 2048
# With so many hidden edges, known edges need not be hidden again.
ENOUGH = 1000
# 'explained' is raised to this at least, 1 % of the variance of a gradient.
FLOOR = 0.1
# Bytes for each pair of functions, at the peak, once and for each pair of blocks (benchmarks/README.md).
_BYTES = 50


def combined_memory(n: int, n_pairs: int = 9) -> int:
    """Bytes that :class:`CombinedEdgeInferer` takes for N functions and P pairs of blocks, beside the samples."""
    return _BYTES * (1 + n_pairs) * n * n


class CombinedEdgeInferer(GradientEdgeInferer):
    r"""Combines what a missing edge looks like among known ones with what the trained model says; nothing is refitted.

    The score is a sum of two logarithms, the second times a weight from 0 to 1.5:

    - of ``explained``, the score of :class:`gsnn.edges.GradientEdgeInferer` on the trained model (at least 0.1);
    - of the odds of ``likely``, the probability that the pair is a missing edge. A tenth of the known edges is hidden,
      eight times or until 1,000 were, and a logistic model learns to tell them from other pairs that the masked graph
      lacks. It sees features of the masked graph and the scores of an *untrained* network of the same architecture on
      it, with at most 3 channels, which cost a pass over 256 samples. Before any training, activations are mixtures of
      the inputs upstream and gradients mixtures of the responses downstream, so they show where responses correlate
      with inputs that no path connects with them. Where half of the functions have a readout of their own, the scores
      of :class:`gsnn.edges.MeasuredEdgeInferer` on the masked graph are among the features, too.

    The weight is measured on hidden edges that were left out when the logistic model learnt (:mod:`.trust`). It is 0
    where the model does not put them before other candidates of their targets, and small where an untrained network is
    needed for that, since the trained one knows better. ``explained`` also decides alone if there is nothing to learn
    from: if fewer than two function edges are known, or no hidden one carries a signal; ``learnt_from`` is 0 then. The
    scores of known edges are undefined (NaN), and there is no p-value.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, trained on ``data``.
        data: The prior graph, with its inputs and outputs.
        memory_budget: As for :class:`gsnn.edges.GradientEdgeInferer`. The scores of all pairs from which features are
            made, about 50 (P + 1) N^2 bytes for P pairs of blocks, must fit, too.
        targets: As there.
        seed: Fixes the hidden edges, the samples and the weights of the untrained networks.

    Attributes:
        learnt_from: Number of hidden edges that the last scores learnt from.
        weight: The weight of the odds.

    Raises:
        RuntimeError: As there.
        TypeError: If the model is no GSNN.
        ValueError: As there.

    Example:
        >>> from gsnn.graph import Graph
        >>> edges = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "y"), ("b", "z")]
        >>> graph = Graph.from_edges(
        ...     edges, input_nodes=["x"], function_nodes=["a", "b", "c", "d"], output_nodes=["y", "z"]
        ... )
        >>> x = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
        >>> inferer = CombinedEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph)
        >>> inferer.fit([(x, torch.cat([x, -x], 1))], verbose=False)
        60
        >>> list(inferer.evaluate().columns)[4:]
        ['score', 'has_edge', 'likely', 'explained', 'sign']
    """

    default_score = "combined"
    _own_scores: ClassVar[tuple[str, ...]] = ("combined",)
    _needed_memory = staticmethod(combined_memory)

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        memory_budget: int | float | str | None = None,
        targets: range | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data, memory_budget=memory_budget, targets=targets)
        if not isinstance(self._model, GSNN):
            raise TypeError(f"model must be a gsnn.nn.GSNN, got {type(self._model).__name__}; use GradientEdgeInferer")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
        check_fits(
            self._needed_memory(self.N, self.n_pairs),
            self.memory_budget,
            f"features of all pairs of {self.N} nodes",
            "use GradientEdgeInferer, score 'explained'",
        )
        self._graph = Graph.coerce(data)
        self.seed, self.learnt_from, self.weight = seed, 0, 0.0
        self._learnt: tuple[SampleStore, int, tuple[FloatArray, FloatArray]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is learnt again."""
        return super().__getstate__() | {"_learnt": None}

    def scored(
        self,
        *,
        layer_agg: str | None = None,
        score: str | None = None,
        ridge: float = 1e-6,
        rank_tolerance: float = 0.0,
        null_correction: bool = True,
    ) -> ScoredPairs:
        """Scores and columns of all pairs.

        Args:
            layer_agg: Of 'explained', like the options below; as for :class:`gsnn.edges.GradientEdgeInferer`.
            score: ``'combined'``, a score of :class:`gsnn.edges.GradientEdgeInferer` or, of
                :class:`gsnn.discovery.LearnedEdgeInferer`, ``'learned'``; None for the one that the class is named
                after.
            ridge: As there.
            rank_tolerance: As there.
            null_correction: As there.

        Returns:
            The scores; ``'combined'`` with the columns likely, explained and sign, ``'learned'`` (logarithms of odds)
            with combined before these.

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If an option is unknown.
        """
        score = score or self.default_score
        explained = super().scored(
            layer_agg=layer_agg,
            score="explained" if score in self._own_scores else score,
            ridge=ridge,
            rank_tolerance=rank_tolerance,
            null_correction=null_correction,
        )
        if score not in self._own_scores:
            return explained
        combined = self._combined(explained)
        del explained  # its columns hold a matrix for each pair of blocks
        return self._own_score(score, combined)

    def _own_score(self, score: str, combined: ScoredPairs) -> ScoredPairs:
        """One of the scores of this class, from 'combined'."""
        return combined

    def _combined(self, explained: ScoredPairs) -> ScoredPairs:
        own = slice(self.targets.start, self.targets.stop)
        likely = self._opinions()[0][:, own]
        total = self.weight * likely + np.log(np.maximum(np.nan_to_num(explained.score.astype(np.float64)), FLOOR))
        total[self.prior.matrix()[:, own]] = np.nan
        columns = {
            "likely": column_of(expit(likely)),
            "explained": column_of(explained.score),
            "sign": explained.columns["sign"],
        }
        return ScoredPairs(self.prior, total, self.score_name, columns, self.targets.start)

    def beside(self) -> dict[str, ScoredPairs]:
        """The ranking by structure alone; nothing where there is nothing to learn from."""
        _, structure = self._opinions()
        if not self.learnt_from:
            return {}
        score = structure[:, self.targets.start : self.targets.stop]
        return {"structure": ScoredPairs(self.prior, score, first=self.targets.start)}

    def _samples(self) -> tuple[Tensor, Tensor]:
        """(M, I) inputs and (M, O) targets that were seen."""
        return self._store.read(-2).T.float(), self._store.read(-1).T.float()

    def _opinions(self) -> tuple[FloatArray, FloatArray]:
        """The result of :meth:`_learn` for the samples that were seen, computed once."""
        self._check_seen(3)
        if self._learnt is None or self._learnt[0] is not self._store or self._learnt[1] != self.n:
            self._learnt = self._store, self.n, self._learn()
        return self._learnt[2]

    def _learn(self) -> tuple[FloatArray, FloatArray]:
        """(N, N) logarithms of the odds that a pair is a missing edge, and of its probability by topology alone.

        Both are 0 where there is nothing to learn from; the second is NaN for known edges.
        """
        taught = lessons(self._graph, self.prior, FRACTION, REPEATS, self.seed, OTHERS, ENOUGH)
        self.learnt_from, self.weight = sum(int(lesson.label.sum()) for lesson in taught), 0.0
        if not taught:
            return np.zeros((self.N, self.N)), np.zeros((self.N, self.N))
        x, y = self._samples()
        exams = [exam(lesson, self.prior) for lesson in taught]

        def features_of(lesson: Lesson, asked: Exam) -> dict[str, npt.NDArray[Any]]:
            scores = self._untrained(lesson.graph, lesson.seed, x, y)
            return shown_rows(lesson.graph, np.concatenate([lesson.rows, asked.rows]), self.N, scores)

        workers = workers_for(self._model, SAMPLES, combined_memory(self.N, self.n_pairs))
        jobs = [partial(features_of, lesson, asked) for lesson, asked in zip(taught, exams, strict=True)]
        with closing(arrays_in_processes(jobs, workers)) as done:
            made = list(track(done, "hidden edges", total=len(jobs), show=None))
        names, n_topology = made[0]["names"].tolist(), made[0]["topology"].shape[1]
        whole = [np.concatenate([each["topology"], each["scores"]], axis=1) for each in made]
        labels, learnt, left_out = [lesson.label for lesson in taught], [], []
        for last in (len(names), n_topology):  # with the scores of the untrained networks, and without
            shown = [rows[: len(label), :last] for rows, label in zip(whole, labels, strict=True)]
            asked = [rows[len(label) :, :last] for rows, label in zip(whole, labels, strict=True)]
            learnt.append(learn_linear(np.concatenate(shown), names[:last], np.concatenate(labels)))
            left_out.append(odds_left_out(list(zip(shown, labels, strict=True)), asked, names[:last]))
        self.weight = weight(left_out[0], left_out[1], exams)
        features = chain(structural_features(self._graph), self._untrained(self._graph, self.seed, x, y))
        likely, structure = log_odds(learnt, features, self.N)
        structure = log_probability(structure)
        structure[~self.prior.candidates()] = np.nan
        return likely, structure

    def _untrained(self, graph: Graph, seed: int, x: Tensor, y: Tensor) -> Iterator[Feature]:
        """Features of the pairs of a graph from an untrained network on some of the samples, and from readouts."""

        def drawn(fixed: int, most: int) -> list[tuple[Tensor, Tensor]]:
            rows = np.sort(np.random.default_rng(fixed).permutation(len(x))[:most])
            return [(x[rows], y[rows])]

        direct: dict[str, FloatArray] = {}
        with torch.inference_mode(False), torch.enable_grad():
            model = untrained(self._model, graph, seed, CHANNELS).eval()
            readouts = MeasuredEdgeInferer(model, graph)
            if len(readouts.measured) >= LEAST_MEASURED * self.N:
                readouts.fit(drawn(self.seed, MEASURED_SAMPLES), verbose=False)
                direct["measured"] = readouts.score_matrix()
        scores = ModelScores(model, graph, drawn(seed, SAMPLES), masked_mse, memory_budget=self.memory_budget // 2)
        return scores.features(direct)
