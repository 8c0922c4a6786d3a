"""Which columns the table of candidate edges has, what they are called, and how a cell reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from gsnn.discovery.selfcheck.result import PRECISION_COLUMNS
from gsnn.report.text import number, numbers, percent, probability

MOST_OTHERS = 8  # columns the page knows nothing about, such as the ranks of further methods
# Read by name where a table has them; not columns of their own.
_PARTS = {"known", *PRECISION_COLUMNS, "alias_group", "src_idx", "dst_idx"}


@dataclass(frozen=True)
class Column:
    """A column of the table of candidate edges.

    Attributes:
        name: Its name in the table.
        label: Its heading.
        kind: How its cells read: name, count, number, probability, share (with an interval), aliases or sign.
        optional: Left out on narrow screens until it is asked for.
    """

    name: str
    label: str
    kind: str
    optional: bool = False

    @property
    def numeric(self) -> bool:
        """Whether its cells are aligned as numbers."""
        return self.kind not in {"name", "sign"}

    def cell(self, row: Mapping[Any, Any]) -> str:
        """The text of a cell; the page's script writes the same.

        Example:
            >>> Column("expected_precision", "", "share").cell(
            ...     {"expected_precision": 0.2, "precision_low": 0.05, "precision_high": 0.4})
            '20 % (5.0–40 %)'
        """
        value = row[self.name]
        if self.kind == "name":
            return str(value)
        if self.kind == "share":
            low, high = percent(row.get("precision_low")), percent(row.get("precision_high"))
            if "–" in (low, high):
                return percent(value)
            # An interval without an expectation is one that is too wide for it.
            return f"{'not estimable' if pd.isna(value) else percent(value)} ({low.removesuffix(' %')}–{high})"
        if pd.isna(value):
            return "–"
        if self.kind == "aliases":
            return "none" if value <= 1 else f"{int(value) - 1} more"
        if self.kind == "sign":
            return {1: "activates", -1: "inhibits"}.get(int(value), "unknown")
        if self.kind == "count":
            return str(int(value))
        return probability(value) if self.kind == "probability" else number(float(value))


_NAMED = (
    Column("rank", "Rank", "count"),
    Column("source", "Source", "name"),
    Column("target", "Target", "name"),
    Column("kind", "Kind", "name"),
    Column("score", "Score", "number"),
    Column("expected_precision", "Expected precision", "share", optional=True),
    Column("sign", "Sign", "sign", optional=True),
    Column("alias_size", "Look-alikes", "aliases", optional=True),
    Column("q", "q", "probability", optional=True),
    Column("p", "p", "probability", optional=True),
)
_ALWAYS = {"rank", "source", "target", "score"}


def edge_columns(table: pd.DataFrame) -> list[Column]:
    """The columns to show, in the order shown: those known by name that hold something, then others with numbers.

    Args:
        table: Candidate edges.

    Example:
        >>> table = pd.DataFrame({"rank": [1], "source": ["a"], "target": ["b"], "score": [0.5], "p": [None],
        ...                       "alias_size": [3], "rank_gradient": [7], "score_gradient": [0.1]})
        >>> [column.label for column in edge_columns(table)]
        ['Rank', 'Source', 'Target', 'Score', 'Look-alikes', 'Rank, gradient']
    """
    shown = [c for c in _NAMED if c.name in _ALWAYS or _holds_something(table, c.name)]
    if "precision_chance" in table.columns and table["precision_chance"].notna().any():
        # The same in every row, so it stands in the heading.
        chance = percent(table["precision_chance"].max())
        shown = [replace(c, label=f"{c.label} (guessing {chance})") if c.kind == "share" else c for c in shown]
    named = {column.name for column in _NAMED} | _PARTS
    others = [
        str(name)
        for name in table.columns
        # Another method's score says less than its rank, and the two together push the table off the page.
        if name not in named
        and f"rank_{str(name).removeprefix('score_')}" not in table.columns.difference([name])
        and pd.api.types.is_numeric_dtype(table[name])
        and table[name].notna().any()
    ]
    return shown + [Column(name, _label(name), _kind(name), optional=True) for name in others[:MOST_OTHERS]]


def _holds_something(table: pd.DataFrame, name: str) -> bool:
    if name == "kind":
        # One kind needs no column.
        return name in table.columns and table[name].nunique() > 1
    # An expectation may be told nowhere; its interval says so.
    columns = [name, "precision_low"] if name == "expected_precision" else [name]
    return name in table.columns and any(table[c].notna().any() for c in columns if c in table.columns)


def edge_values(table: pd.DataFrame, columns: list[Column]) -> dict[str, Any]:
    """The cells of those columns as JSON-able lists, and the parts that some are made of."""
    values: dict[str, Any] = {
        column.name: [str(v) for v in table[column.name]] if column.kind == "name" else numbers(table[column.name])
        for column in columns
    }
    parts = [name for name in ("precision_low", "precision_high", "alias_group") if name in table.columns]
    return values | {name: numbers(table[name]) for name in parts}


def _label(name: str) -> str:
    first, _, rest = name.partition("_")
    return f"{first.capitalize()}, {rest.replace('_', '-')}" if first in {"rank", "score"} and rest else name


def _kind(name: str) -> str:
    if name.startswith("rank"):
        return "count"
    return "probability" if name.startswith(("p_", "q_")) else "number"
