"""What every edge inferer offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.edges.pairs import Nodes, ScoredPairs
from gsnn.edges.prior import PriorEdges


class EdgeInferer(ABC):
    """Scores every ordered pair (i, j) of function nodes: how much does the model miss the edge i -> j?

    A subclass reads a model, holds what it learnt from samples, and implements :meth:`scored`; tables, rankings and
    matrices are built here, for all of them alike. Its laws, checked by one suite for every inferer:

    - the model is left as it was, also after an exception;
    - permuting the nodes permutes the scores; scaling the loss changes none of them;
    - how samples were batched does not matter; fitting twice is fitting once; merged statistics are those of the
      whole;
    - an undefined score is NaN and ranks last; equal scores keep the order (source, target) of the nodes; neither
      the diagonal nor a known edge is ever a candidate.

    An inferer for which one of them cannot hold says so.

    Args:
        data: HeteroData-like prior graph; its function-function edges are the known ones.
        model: What the subclass was given to read, or None.

    Attributes:
        score_name: The column of the result table that holds the score.
        function_nodes: The N names.
        N: Number of function nodes.
        edges: Set of the known edges as (source, target) names.
        model: The model it was given, in its wrapper if it came in one; None for what reads none.
        data: The prior graph it was given.
    """

    model: Any

    score_name: ClassVar[str] = "score"

    def __init__(self, data: Any, model: Any = None) -> None:  # noqa: ANN401 - anything HeteroData-like, any model
        # Not through nn.Module's own setter: an inferer that is a module must not take the model for a part of itself.
        self.__dict__["model"] = model
        self.data = data
        self._prior = PriorEdges(data)
        self.function_nodes = self._prior.names
        self.N = self._prior.N
        self.edges = set(self._prior.edges)

    @abstractmethod
    def scored(self, **options: Any) -> ScoredPairs:  # noqa: ANN401 - each inferer has its own
        """Scores of all pairs, and how to compute the other columns.

        Args:
            **options: What the inferer's ``evaluate`` takes, except ``exclude_self``.

        Returns:
            The scores.

        Raises:
            RuntimeError: If it was not fitted, or on too few samples.
        """

    def score_matrix(self, **options: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
        """Scores as an array, without a table.

        Args:
            **options: What ``evaluate`` takes, except ``exclude_self``.

        Returns:
            (N, N), [i, j] for the edge i -> j; NaN where undefined.
        """
        return self.scored(**options).score.astype(np.float64)

    def top_edges(
        self,
        k: int | None = None,
        per_target: int | None = None,
        exclude_known: bool = True,
        sources: Nodes | None = None,
        targets: Nodes | None = None,
        **options: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """The best pairs, without building the table of all; rows and columns are those of ``evaluate``.

        Self pairs and undefined scores are never among them.

        Args:
            k: At most this many in all; None for no limit.
            per_target: At most this many for each target, chosen before ``k`` applies.
            exclude_known: Leave out known edges.
            sources: Names or glob patterns of the sources allowed; q-values are still over all candidates.
            targets: The same for targets.
            **options: What ``evaluate`` takes, except ``exclude_self``.

        Returns:
            One row per pair, best first.

        Raises:
            ValueError: If ``k`` or ``per_target`` is negative, or a name matches no node.
        """
        scored = self.scored(**options)
        rows = scored.top_rows(k, per_target=per_target, exclude_known=exclude_known, sources=sources, targets=targets)
        return scored.table(rows)

    @staticmethod
    def evaluate_target_ranking(
        res: pd.DataFrame,
        positive_edges: Iterable[tuple[str, str]],
        score_col: str = "score",
        top_k: Sequence[int] = (1, 3, 5),
    ) -> tuple[pd.DataFrame, dict[str, float]]:
        """Rank of each true edge among all rows of its target that have a score, known edges and self pairs included.

        See :func:`gsnn.metrics.target_ranking`, and :func:`gsnn.metrics.filtered_target_ranking` for ranks without the
        other true edges.

        Args:
            res: A table of ``evaluate``.
            positive_edges: True edges as (source, target) names.
            score_col: The column to rank by, descending.
            top_k: The k of the top@k figures.

        Returns:
            A table with one row per true edge, sorted by name, and the floats 'n_positives', 'mrr', 'top@k' by name.

        Raises:
            ValueError: If there are no true edges or a name is unknown.
        """
        from gsnn.metrics import target_ranking

        return target_ranking(res, positive_edges, score_col, top_k)
