"""A scorer that has learnt from many problems whose truth is known what a missing edge looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.memory import check_fits
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
from gsnn.discovery.stacked.features import Feature, response_scores, score_features, stack, structural_features
from gsnn.edges.capture import isolated
from gsnn.edges.gradient.blocks import leading, principal_components
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.measured import MeasuredEdgeInferer
from gsnn.edges.pairs import Column, ScoredPairs
from gsnn.nn.losses import masked_mse

# Samples that features are made of.
SAMPLES = 2048
_BATCH = 256
# Bytes for each pair that is judged: its features, twice.
_BYTES = 8 * 160


def learned_memory(n: int, n_pairs: int = 9) -> int:
    """Bytes that :class:`LearnedEdgeInferer` takes for N functions and P pairs of blocks, beside the samples."""
    return combined_memory(n, n_pairs) + _BYTES * min(n * n, JUDGED)


class LearnedEdgeInferer(CombinedEdgeInferer):
    r"""Boosted trees that were shown hundreds of problems with hidden edges, and now judge the pairs of this one.

    They see what :class:`gsnn.discovery.CombinedEdgeInferer` sees and says (topology, hidden known edges of this very
    network, the score ``explained``), and further of the one trained model and its samples: the other scores, where a
    pair stands at every pair of blocks and in two halves of the samples, how like a source is to the known parents of
    its target, and where in the matrix of inputs and outputs the model's residuals still go with inputs. Nothing is
    trained again.

    Of a large network the 500,000 pairs that ``combined`` ranks first are judged; the others keep its order behind
    them.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks, trained on ``data``.
        data: The prior graph, with its inputs and outputs.
        memory_budget: As for :class:`gsnn.discovery.CombinedEdgeInferer`; a little more is needed.
        seed: As there; fixes the samples, too.
        scorer: What has learnt; None for the one that comes with the package.

    Attributes:
        distance: How far this problem lies from those that were learnt from, as a multiple of what is usual among them.
            Above 1 a note says so. NaN before the first scores.

    Raises:
        RuntimeError: As there.
        TypeError: As there.
        ValueError: As there.
    """

    default_score = "learned"

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
        check_fits(
            learned_memory(self.N, self.n_pairs),
            self.memory_budget,
            f"features of the pairs of {self.N} nodes",
            "use GradientEdgeInferer, score 'explained'",
        )
        self.scorer = Scorer.shipped() if scorer is None else scorer
        self.distance = float("nan")

    def scored(
        self,
        *,
        layer_agg: str | None = None,
        score: str = "learned",
        ridge: float = 1e-6,
        rank_tolerance: float = 0.0,
        null_correction: bool = True,
    ) -> ScoredPairs:
        """Scores and columns of all pairs.

        Args:
            layer_agg: Of 'explained'; as for :class:`gsnn.edges.GradientEdgeInferer`, like the others.
            score: ``'learned'``, or a score of :class:`gsnn.discovery.CombinedEdgeInferer`.
            ridge: As there.
            rank_tolerance: As there.
            null_correction: As there.

        Returns:
            The scores; of ``'learned'``, logarithms of odds, with the columns combined, likely, explained and sign.

        Raises:
            RuntimeError: If fewer than 3 samples were seen.
            ValueError: If an option is unknown.
        """
        options: dict[str, Any] = {
            "layer_agg": layer_agg,
            "ridge": ridge,
            "rank_tolerance": rank_tolerance,
            "null_correction": null_correction,
        }
        if score != "learned":
            return super().scored(score=score, **options)
        base = super().scored(score="combined", **options)

        def judge(rows: IntArray) -> FloatArray:
            judged, self.distance = self._judged(rows)
            return judged

        total = best_judged(base.score, self.prior.candidates(), judge)

        def entries(matrix: npt.NDArray[Any]) -> Column:
            return lambda chosen: matrix.ravel()[chosen]

        columns = {"combined": entries(base.score), **base.columns}
        return ScoredPairs(self.prior, total, self.score_name, columns, notes=self._notes())

    def beside(self) -> dict[str, ScoredPairs]:
        """The ranking by what other problems, and this network, teach of topology alone."""
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

    def _judged(self, rows: IntArray) -> tuple[FloatArray, float]:
        """Logarithms of the odds of some pairs, and how far the problem lies from what was learnt from."""
        names, seen = stack(self.features(), rows, self.N)
        return self.scorer.log_odds(names, seen), self.scorer.distance(names, seen)

    def features(self) -> Iterator[Feature]:
        """All features of all pairs, one after the other."""
        self._check_seen(3)
        known = self.prior.matrix()
        yield from self._of_problem()
        yield from structural_features(self._graph)
        yield from self._opinions_features(known)
        x, y = (self._store.read(key).T.float() for key in (len(self._store.sizes) - 2, len(self._store.sizes) - 1))
        rows = np.sort(np.random.default_rng((self.seed, 3)).permutation(len(x))[:SAMPLES])
        yield from self._score_features(x[rows], y[rows], known)
        yield from self._halves(rows, known)
        yield from self._signals(rows)
        residual = y[rows].double() - self._predicted(x[rows])
        responses = {"residual": residual.numpy(), "response": y[rows].double().numpy()}
        drive = x[rows].double().numpy()
        yield from residual_features(self._graph, reach_masks(self._graph), drive, responses, known)
        direct = response_scores(self._graph, drive, responses)
        for name in ("response", "residual"):
            score = direct.get(name, np.full((self.N, self.N), np.nan))
            yield from _with_gaps(f"direct_{name}", score, known)

    def _of_problem(self) -> Iterator[Feature]:
        """What is the same for all pairs: the graph, how many samples, how much hidden edges taught."""
        self._opinions()
        yield from graph_facts(self._graph, self.N)
        for name, value in (("samples", np.log(self.n)), ("weight", self.weight)):
            yield f"of_problem_{name}", np.full((1, 1), value, np.float32)

    def _opinions_features(self, known: npt.NDArray[np.bool_]) -> Iterator[Feature]:
        likely, structure = self._opinions()
        explained = GradientEdgeInferer.scored(self, score="explained").score
        log = np.log(np.maximum(np.nan_to_num(explained.astype(np.float64)), FLOOR))
        yield from opinion_features("likely", likely, known)
        yield from opinion_features("structure", structure, known)
        yield from opinion_features("above_chance", log, known)
        yield from opinion_features("combined", self.weight * likely + log, known)
        yield from opinion_features("both", structure + log, known)

    def _score_features(self, x: Tensor, y: Tensor, known: npt.NDArray[np.bool_]) -> Iterator[Feature]:
        """The research score, ours, and that of measured functions."""
        batches = list(zip(x.split(_BATCH), y.split(_BATCH), strict=True))
        with torch.inference_mode(False), torch.enable_grad():
            magnitude = MagnitudeEdgeInferer(self._model, self._graph, memory_budget=self.memory_budget // 2)
            magnitude.fit(batches, masked_mse, verbose=False)
        yield from score_features("magnitude", magnitude.score_matrix(layer_agg="mean0"), known)
        del magnitude
        for name in ("regressed", "normalised", "explained"):
            found = GradientEdgeInferer.scored(self, score=name, null_correction=False)
            yield from score_features(name, found.score.astype(np.float64), known)
            if name == "explained":
                pairs = (
                    found.columns[f"score_a{p}_g{p + 1}"](np.arange(found.score.size)).reshape(found.score.shape)
                    for p in range(self.n_pairs)
                )
                yield from block_features(pairs, known)
        measured = MeasuredEdgeInferer(self._model, self._graph)
        score = np.full((self.N, self.N), np.nan)
        if measured.measured:
            measured.fit(batches, verbose=False)
            score = measured.score_matrix()
        yield from _with_gaps("measured", score, known)

    def _halves(self, rows: IntArray, known: npt.NDArray[np.bool_]) -> Iterator[Feature]:
        """What two halves of the samples say apart: the product of the scores, and whether signs agree."""
        found = []
        for half in (rows[::2], rows[1::2]):
            inferer = GradientEdgeInferer(self._model, self._graph, memory_budget=self.memory_budget // 2)
            inferer._store.append([self._store.read(key)[:, half] for key in range(len(self._store.sizes))])
            scored = inferer.scored(score="explained", null_correction=False)
            sign = scored.columns["sign"](np.arange(scored.score.size)).reshape(scored.score.shape)
            found.append((np.nan_to_num(scored.score), sign))
        (first, sign), (second, other) = found
        found.clear()
        same = sign.astype(np.float32) * other.astype(np.float32)
        del sign, other
        np.multiply(first, second, out=first)
        del second
        yield from score_features("halves", np.sqrt(first, out=first), known)
        yield "halves_sign", same

    def _signals(self, rows: IntArray) -> Iterator[Feature]:
        """Likeness of activations to those of known parents, of gradients to those of known children."""
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
                # Children are those of the source: the pair is looked at from its other end.
                yield feature, values if name == "activation" else values.T

    def _leading(self, key: int, rows: IntArray) -> npt.NDArray[np.float32]:
        """(N, M) leading principal components of the functions' channels; 0 where they do not vary."""
        found = leading(principal_components(self._store.read(key)[:, rows], self._channel_node, self.N), 1, 0.0)
        out = np.zeros((self.N, len(rows)), np.float32)
        alive = found.counts[0] if found.counts else 0
        out[found.order[:alive]] = found.values[:alive].float().numpy()
        return out

    def _predicted(self, x: Tensor) -> Tensor:
        with isolated(self._model) as there, torch.no_grad():
            dtype = next((p.dtype for p in self._model.parameters()), x.dtype)
            return torch.cat([self._model(part.to(there, dtype)).double().cpu() for part in x.split(_BATCH)])


def _with_gaps(name: str, score: FloatArray, known: npt.NDArray[np.bool_]) -> Iterator[Feature]:
    """Features of a score that many functions have not, NaN for theirs."""
    undefined = np.isnan(score)
    for feature, values in score_features(name, score, known):
        filled = np.broadcast_to(values, score.shape).copy()
        filled[undefined] = np.nan
        yield feature, filled
