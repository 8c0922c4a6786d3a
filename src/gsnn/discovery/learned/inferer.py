"""Edges from a scorer that has learnt on many problems of known truth what a missing edge looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsnn.base.arrays import BoolArray, FloatArray, IntArray
from gsnn.discovery.baselines import reach_masks
from gsnn.discovery.learned.features import (
    block_features,
    correlations,
    graph_facts,
    kin_features,
    opinion_features,
    residual_features,
)
from gsnn.discovery.learned.scorer import JUDGED, Scorer, best_judged
from gsnn.discovery.learned.structure import judged_by_structure
from gsnn.discovery.stacked.combined import FLOOR, CombinedEdgeInferer, combined_memory
from gsnn.discovery.stacked.features import (
    Feature,
    FloatMatrix,
    response_scores,
    score_features,
    stack,
    structural_features,
)
from gsnn.discovery.stacked.lessons import BATCH, FIRST_ORDER, column_matrix, predictions
from gsnn.edges.gradient.blocks import leading, principal_components
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.measured import MeasuredEdgeInferer
from gsnn.edges.pairs import ScoredPairs, column_of
from gsnn.nn.losses import masked_mse

# Samples from which features are made.
SAMPLES = 2048
# Bytes for each pair that is judged: its features, twice.
_BYTES = 8 * 160


def learned_memory(n: int, n_pairs: int = 9) -> int:
    """Bytes that :class:`LearnedEdgeInferer` takes for N functions and P pairs of blocks, beside the samples."""
    return combined_memory(n, n_pairs) + _BYTES * min(n * n, JUDGED)


class LearnedEdgeInferer(CombinedEdgeInferer):
    r"""Boosted trees that were shown hundreds of problems with hidden edges judge the pairs of this one.

    They see the features and scores of :class:`gsnn.discovery.CombinedEdgeInferer` (topology, hidden known edges of
    this very network, the score ``explained``). From the one trained model and its samples they also see the other
    scores, the rank of a pair at every pair of blocks and in two halves of the samples, how like a source is to the
    known parents of its target, and which inputs and outputs the model's residuals still correlate with. Nothing is
    trained again.

    In a large network the 500,000 pairs that ``combined`` ranks first are judged; the others follow in its order.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, trained on ``data``.
        data: The prior graph, with its inputs and outputs.
        memory_budget: As for :class:`gsnn.discovery.CombinedEdgeInferer`; a little more is needed.
        seed: As there; fixes the samples, too.
        scorer: The trained scorer; None for the one that comes with the package.

    Attributes:
        distance: How far this problem lies from those that were learnt from, as a multiple of what is usual among them.
            Above 1 a note says so. NaN before the first scores.

    Raises:
        RuntimeError: As there.
        TypeError: As there.
        ValueError: As there.
    """

    default_score = "learned"
    _own_scores = ("combined", "learned")
    _needed_memory = staticmethod(learned_memory)

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        memory_budget: int | float | str | None = None,
        seed: int = 0,
        scorer: Scorer | None = None,
    ) -> None:
        super().__init__(model, data, memory_budget=memory_budget, seed=seed)
        self.scorer = Scorer.shipped() if scorer is None else scorer
        self.distance = float("nan")

    def _own_score(self, score: str, combined: ScoredPairs) -> ScoredPairs:
        if score == "combined":
            return combined

        def judge(rows: IntArray) -> FloatArray:
            names, values = stack(self.features(), rows, self.N)
            odds, self.distance = self.scorer.log_odds(names, values), self.scorer.distance(names, values)
            return odds

        total = best_judged(combined.score, self.prior.candidates(), judge)
        columns = {"combined": column_of(combined.score), **combined.columns}
        return ScoredPairs(self.prior, total, self.score_name, columns, notes=self._notes())

    def beside(self) -> dict[str, ScoredPairs]:
        """The ranking by what other problems and this network teach about topology alone."""
        _, own = self._opinions()
        score = judged_by_structure(self._graph, own, self.prior.candidates(), Scorer.shipped("structure"))
        return {"structure": ScoredPairs(self.prior, score)}

    def _notes(self) -> list[str]:
        if not self.distance > 1:
            return []
        return [
            f"these data lie {self.distance:.1f} times as far from the problems that 'learned' has learnt from as is "
            "usual among them; trust what a self-check finds, and compare --method combined"
        ]

    def features(self) -> Iterator[Feature]:
        """All features of all pairs, one after the other."""
        self._check_seen(3)
        free = self.prior.candidates()
        yield from self._of_problem()
        yield from structural_features(self._graph)
        yield from self._opinion_features(free)
        x, y = self._samples()
        rows = np.sort(np.random.default_rng((self.seed, 3)).permutation(len(x))[:SAMPLES])
        x, y = x[rows], y[rows]
        yield from self._score_features(x, y, free)
        yield from self._halves(rows, free)
        yield from self._signals(rows)
        drive, response = x.double().numpy(), y.double()
        responses = {"residual": (response - predictions(self._model, x)).numpy(), "response": response.numpy()}
        yield from residual_features(self._graph, reach_masks(self._graph), drive, responses, free)
        direct = response_scores(self._graph, drive, responses)
        for name in ("response", "residual"):
            score = direct.get(name, np.full((self.N, self.N), np.nan))
            yield from _with_gaps(f"direct_{name}", score, free)

    def _of_problem(self) -> Iterator[Feature]:
        """Features that are the same for all pairs: of the graph, the number of samples, the weight of the odds."""
        self._opinions()
        yield from graph_facts(self._graph, self.N)
        for name, value in (("samples", np.log(self.n)), ("weight", self.weight)):
            yield f"of_problem_{name}", np.full((1, 1), value, np.float32)

    def _opinion_features(self, free: BoolArray) -> Iterator[Feature]:
        likely, structure = self._opinions()
        explained = GradientEdgeInferer.scored(self, score="explained").score
        log = np.log(np.maximum(np.nan_to_num(explained.astype(np.float64)), FLOOR))
        yield from opinion_features("likely", likely, free)
        yield from opinion_features("structure", structure, free)
        yield from opinion_features("above_chance", log, free)
        yield from opinion_features("combined", self.weight * likely + log, free)
        yield from opinion_features("both", structure + log, free)

    def _score_features(self, x: Tensor, y: Tensor, free: BoolArray) -> Iterator[Feature]:
        """Features of the research score, the first-order scores, and the score of measured functions."""
        batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
        with torch.inference_mode(False), torch.enable_grad():
            magnitude = MagnitudeEdgeInferer(self._model, self._graph, memory_budget=self.memory_budget // 2)
            magnitude.fit(batches, masked_mse, verbose=False)
        yield from score_features("magnitude", magnitude.score_matrix(layer_agg="mean0"), free)
        del magnitude
        for name in FIRST_ORDER:
            scored = GradientEdgeInferer.scored(self, score=name, null_correction=False)
            yield from score_features(name, scored.score.astype(np.float64), free)
        # Of 'explained', the last one.
        blocks = (column_matrix(scored, f"score_a{p}_g{p + 1}") for p in range(self.n_pairs))
        yield from block_features(blocks, free)
        measured = MeasuredEdgeInferer(self._model, self._graph)
        score = np.full((self.N, self.N), np.nan)
        if measured.measured:
            measured.fit(batches, verbose=False)
            score = measured.score_matrix()
        yield from _with_gaps("measured", score, free)

    def _halves(self, rows: IntArray, free: BoolArray) -> Iterator[Feature]:
        """Features of two halves of the samples: the product of their scores, and whether their signs agree."""
        halves = []
        for half in (rows[::2], rows[1::2]):
            inferer = GradientEdgeInferer(self._model, self._graph, memory_budget=self.memory_budget // 2)
            inferer.add_samples_of(self, half)
            scored = inferer.scored(score="explained", null_correction=False)
            halves.append((np.nan_to_num(scored.score), column_matrix(scored, "sign").astype(np.float32)))
        (first, sign), (second, other) = halves
        first *= second
        sign *= other
        del halves, second, other, inferer, scored
        yield from score_features("halves", np.sqrt(first, out=first), free)
        yield "halves_sign", sign

    def _signals(self, rows: IntArray) -> Iterator[Feature]:
        """Features of the likeness of activations to those of known parents, of gradients to those of children."""
        children = [np.flatnonzero(row) for row in self.prior.matrix()]
        blocks = sorted({0, self.n_pairs // 2, self.n_pairs - 1})
        for name, first, kin in (
            ("activation", self.L + self.n_pairs if self._separate_post else 0, self.prior.parents),
            ("gradient", self.L, children),
        ):
            alike = np.zeros((self.N, self.N), np.float32)
            for p in blocks:
                alike += correlations(self._leading(first + p, rows)) / np.float32(len(blocks))
            for feature, values in kin_features(alike, name, kin):
                # Children are those of the source, the other end of the pair.
                yield feature, values if name == "activation" else values.T

    def _leading(self, key: int, rows: IntArray) -> FloatMatrix:
        """(N, M) leading principal components of the functions' channels; 0 where they do not vary."""
        components = leading(principal_components(self._store.read(key)[:, rows], self._channel_node, self.N), 1, 0.0)
        values = np.zeros((self.N, len(rows)), np.float32)
        varying = components.counts[0] if components.counts else 0
        values[components.order[:varying]] = components.values[:varying].float().numpy()
        return values


def _with_gaps(name: str, score: FloatArray, free: BoolArray) -> Iterator[Feature]:
    """Features of a score that many pairs lack; NaN for these."""
    gaps = np.isnan(score)
    for feature, values in score_features(name, score, free):
        yield feature, np.where(gaps, np.float32(np.nan), values)
