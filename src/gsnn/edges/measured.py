"""Edges between functions that are measured themselves: correlations of readouts beyond the known edges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsnn.base.arrays import FloatArray
from gsnn.edges.capture import Criterion, all_samples, isolated, tapped, unwrap
from gsnn.edges.inferer import EdgeInferer
from gsnn.edges.pairs import ScoredPairs, column_of
from gsnn.graph.checks import EDGE_TYPES
from gsnn.graph.kinds import edge_pairs

# The ridge, as a share of the variance of the regressors; and the least share of a variance that is not rounding.
_RIDGE, _LEFT = 1e-6, 1e-6
_BATCH = 256


class MeasuredEdgeInferer(EdgeInferer):
    r"""Scores i -> j by what the readout of i explains of the readout of j beyond j's known parents and inputs.

    The state of a function with a readout of its own (an output that reads nothing else) is known and needs no
    activation. For each such j its state is regressed on those of its known parents and on the inputs that feed it; a
    parent without a readout is represented by the leading principal component of its activation in the last block of
    the model. r(i, j) is the correlation of the residual with that of i's state under the same regression (a partial
    correlation), and the score is Fisher's

    .. math:: |\operatorname{artanh} r(i, j)| \sqrt{m_j - k_j - 3},

    an effect in standard errors: m_j samples, k_j regressors. Samples in which an input of j's own (one that feeds
    nothing else, such as its knock-out) is not at its most frequent value are left out for j: there the experimenter
    has set j, which says nothing of its parents. Where this would leave fewer than twice as many samples as regressors,
    or 10, all are taken, with that input among the regressors. Several readouts of one function are averaged; a missing
    readout of j leaves the sample out for j, one of a source or a parent counts as its mean.

    Functions without a readout have no score (NaN). There is no p-value: readouts of connected functions correlate for
    many reasons, and an association is not an edge. The sign is that of r: 1 activating, -1 inhibiting.

    Args:
        model: The trained model, read for parents without a readout; any model will do if there are none.
        data: The prior graph, with its inputs and outputs.

    Attributes:
        measured: Names of the functions with a readout of their own, in the order of the nodes.
        n: Number of samples of the last fit.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> edges = [("x", "a"), ("w", "b"), ("a", "y"), ("b", "z")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x", "w"], function_nodes=["a", "b"], output_nodes=["y", "z"])
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> inferer = MeasuredEdgeInferer(GSNN.from_graph(graph, channels=2, layers=2), graph)
        >>> inferer.fit([(x, torch.stack([x[:, 0], x[:, 0] + x[:, 1]], 1))], verbose=False)
        60
        >>> inferer.top_edges(1)[["src_func", "dst_func"]].to_numpy().tolist()
        [['a', 'b']]
    """

    needs_all = True

    def __init__(self, model: nn.Module, data: Any) -> None:  # noqa: ANN401 - anything HeteroData-like
        super().__init__(model, data)
        self._model = unwrap(model)
        functions, outputs = edge_pairs(data, EDGE_TYPES[2])
        readers = np.bincount(outputs, minlength=int(outputs.max(initial=-1)) + 1)
        own = readers[outputs] == 1
        self._readouts = [outputs[own & (functions == j)] for j in range(self.N)]
        self._read = np.array([len(its) > 0 for its in self._readouts])
        self.measured = [name for name, read in zip(self.function_nodes, self._read, strict=True) if read]
        inputs, fed = edge_pairs(data, EDGE_TYPES[1])
        feeds = np.bincount(inputs, minlength=int(inputs.max(initial=-1)) + 1)
        self._inputs = [inputs[fed == j] for j in range(self.N)]
        self._own_inputs = [its[feeds[its] == 1] for its in self._inputs]
        self.n = 0
        self._correlation: FloatArray | None = None
        self._freedom = np.zeros(self.N)

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
    ) -> int:
        """Correlate the residuals of every pair of readouts; see :meth:`EdgeInferer.fit`. Takes no loss."""
        self._correlation, self.n = None, 0
        x, y = all_samples(self._model, dataloader)
        treatments, responses = x.double().numpy(), y.double().numpy()
        state, seen = self._states(responses)
        hidden = self._unread(x, device)
        correlation = np.full((self.N, self.N), np.nan)
        for j in np.flatnonzero(self._read).tolist():
            parents = [state[:, [i]] if self._read[i] else hidden[int(i)] for i in self.prior.parents[j]]
            regressors = np.concatenate([np.zeros((len(state), 0)), *parents, treatments[:, self._inputs[j]]], axis=1)
            rows = self._rows(j, seen[:, j], treatments, regressors.shape[1])
            sources, target = _residuals([state[rows][:, self._read], state[rows][:, [j]]], regressors[rows])
            correlation[self._read, j] = _correlations(sources, target[:, 0])
            varying = int((np.ptp(regressors[rows], axis=0) > 0).sum()) if rows.any() else 0
            self._freedom[j] = rows.sum() - varying - 3
        np.fill_diagonal(correlation, np.nan)
        self._correlation, self.n = correlation, len(x)
        return self.n

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; columns r, the partial correlation, and sign.

        Raises:
            RuntimeError: If it was not fitted.
        """
        if self._correlation is None:
            raise RuntimeError("not fitted: call fit first")
        r = self._correlation
        score = np.abs(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))) * np.sqrt(np.maximum(self._freedom, 0.0))
        sign = np.sign(np.nan_to_num(r)).astype(np.int8)
        return ScoredPairs(self.prior, score, self.score_name, {"r": column_of(r), "sign": column_of(sign)})

    def _states(self, y: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """(M, N) standardised states, 0 where missing or not read; and which were read."""
        mean, spread = _moments(y)
        z = (y - mean) / spread
        state, seen = np.zeros((len(y), self.N)), np.zeros((len(y), self.N), dtype=bool)
        for j, its in enumerate(self._readouts):
            known = np.isfinite(z[:, its])
            seen[:, j] = known.any(1)
            state[:, j] = np.where(known, z[:, its], 0.0).sum(1) / np.maximum(known.sum(1), 1)
        return state, seen

    def _unread(self, x: Tensor, device: torch.device | str) -> dict[int, FloatArray]:
        """(M, 1) by function: the leading component of the activation of every parent without a readout."""
        unread = {int(i) for j in np.flatnonzero(self._read) for i in self.prior.parents[j] if not self._read[i]}
        if not unread:
            return {}
        gsnn = tapped(self._model)
        node = gsnn.channel_node.detach().cpu().numpy()
        channels = np.flatnonzero(np.isin(node, list(unread)))
        parts: list[Tensor] = []

        def keep(block: int, values: Tensor) -> None:
            if block == gsnn.L - 1:
                parts.append(values.detach().cpu().double()[channels])

        with isolated(self._model, device) as place, torch.no_grad():
            dtype = next((p.dtype for p in self._model.parameters()), x.dtype)
            for part in x.split(_BATCH):
                gsnn.forward_with_taps(part.to(place, dtype), post=keep)
        values = torch.cat(parts, 1).numpy()
        components = {}
        for i in unread:
            own = values[node[channels] == i]
            own = own - own.mean(1, keepdims=True)
            _, _, right = np.linalg.svd(own, full_matrices=False)
            components[i] = right[:1].T * np.sqrt(own.shape[1])
        return components

    def _rows(self, j: int, seen: npt.NDArray[np.bool_], x: FloatArray, n_regressors: int) -> npt.NDArray[np.bool_]:
        """Samples that tell something about j's parents."""
        rows = seen.copy()
        for own in self._own_inputs[j]:
            values, counts = np.unique(x[:, own], return_counts=True)
            rows &= x[:, own] == values[counts.argmax()]
        return rows if rows.sum() >= max(10, 2 * n_regressors) else seen


def _moments(y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and SD (1 where 0) of the observed entries of each column."""
    seen = np.isfinite(y)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, y, 0.0).sum(0) / count
    spread = np.sqrt((np.where(seen, y - mean, 0.0) ** 2).sum(0) / count)
    return mean, np.where(spread > 0, spread, 1.0)


def _residuals(parts: list[FloatArray], regressors: FloatArray) -> list[FloatArray]:
    """Residuals of each part, by a regression with an intercept."""
    if not len(regressors):
        return parts
    centred = [part - part.mean(0) for part in parts]
    z = regressors - regressors.mean(0)
    z = z / np.maximum(z.std(0), 1e-12)
    z = z[:, np.abs(z).max(0) > 0]
    if not z.shape[1]:
        return centred
    gram = z.T @ z
    gram += _RIDGE * len(z) * np.eye(len(gram))
    return [part - z @ np.linalg.solve(gram, z.T @ part) for part in centred]


def _correlations(sources: FloatArray, target: FloatArray) -> FloatArray:
    """(S,) correlations of centred columns; NaN where one is 0 but for rounding."""
    if len(target) < 4:
        return np.full(sources.shape[1], np.nan)
    norms, own = np.sqrt((sources**2).mean(0)), float(np.sqrt((target**2).mean()))
    defined = (norms > _LEFT) & (own > _LEFT)
    product = norms * own * len(target)
    return np.divide(target @ sources, product, out=np.full(len(norms), np.nan), where=defined)
