"""What a report shows, as plain tables and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gsnn.errors import DataError

# The columns each table must have; more are allowed and ignored.
COLUMNS = {
    "history": ("epoch",),
    "fit": ("readout", "n", "model", "ridge", "mean"),
    "predictions": ("readout", "condition", "observed", "predicted"),
    "edges": ("source", "target", "score", "rank", "p", "q", "known"),
    "network": ("source", "target", "sign"),
}


def _empty(table: str) -> pd.DataFrame:
    return pd.DataFrame({column: [] for column in COLUMNS[table]})


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows, independent of where it came from.

    Args:
        title: Heading of the page.
        config: Configuration of the run, JSON-able, shown so that it can be repeated.
        command: Shell command that repeats the run, or an empty string.
        summary: Label -> number or short text, in the order shown.
        warnings: What reading and checking the data found.
        history: One row per epoch: ``epoch`` and any number of columns whose name ends in ``loss``.
        fit: One row per readout: ``readout``, ``n`` (held-out values) and the R2 of ``model``, ``ridge`` and ``mean``.
        pooled: R2 over all readouts together, of ``model``, ``ridge`` and ``mean``; NaN where undefined.
        predictions: Held-out values: ``readout``, ``condition``, ``observed``, ``predicted``.
        edges: Table of candidate edges with ``source``, ``target``, ``score``, ``rank``, ``p``, ``q``, ``known``.
        network: Known function-to-function edges: ``source``, ``target``, ``sign`` (-1, 0 unknown, +1).
        functions: Names of all function nodes, so that isolated ones are drawn too.
        treated: Function node -> the inputs that feed it.
        measured: Function node -> the outputs it feeds.
        notes: Further remarks, one paragraph each.

    Raises:
        DataError: If a table lacks a column.

    Example:
        >>> data = ReportData(title="empty")
        >>> len(data.edges), list(data.network.columns)
        (0, ['source', 'target', 'sign'])
    """

    title: str
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    history: pd.DataFrame = field(default_factory=lambda: _empty("history"))
    fit: pd.DataFrame = field(default_factory=lambda: _empty("fit"))
    pooled: Mapping[str, float] = field(default_factory=dict)
    predictions: pd.DataFrame = field(default_factory=lambda: _empty("predictions"))
    edges: pd.DataFrame = field(default_factory=lambda: _empty("edges"))
    network: pd.DataFrame = field(default_factory=lambda: _empty("network"))
    functions: Sequence[str] = ()
    treated: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measured: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for table, columns in COLUMNS.items():
            missing = [column for column in columns if column not in getattr(self, table).columns]
            if missing:
                raise DataError(
                    f"report table {table!r} lacks the columns {missing}; it has {list(getattr(self, table).columns)}"
                )

    @property
    def candidates(self) -> pd.DataFrame:
        """The edges that are not in the network, best first."""
        known = self.edges["known"].astype(bool).to_numpy()
        return self.edges[~known].sort_values("rank", kind="stable", na_position="last")
