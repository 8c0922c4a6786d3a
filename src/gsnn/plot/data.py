"""What a report shows, as plain tables and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from gsnn.base.errors import DataError
from gsnn.base.verdict import Verdict

# The columns each table must have; more are allowed and ignored.
COLUMNS = {
    "history": ("epoch",),
    "fit": ("readout", "n", "model", "ridge", "mean"),
    "predictions": ("readout", "condition", "observed", "predicted"),
    "edges": ("source", "target", "score", "rank", "p", "q", "known"),
    "network": ("source", "target", "sign"),
    "agreement": ("edges", "first", "second", "spearman", "shared", "top", "n"),
}


def _empty(table: str) -> pd.DataFrame:
    return pd.DataFrame({column: [] for column in COLUMNS[table]})


@dataclass(frozen=True)
class Check:
    """What a self-check found, as tables.

    Args:
        method: The method that ranked the candidates of the run.
        methods: The inferers that were checked.
        curves: Columns condition, method, by, negatives, recall, precision, chance.
        places: Columns condition, method, by, place: the share of the never-known candidates that score lower, one
            row per hidden edge and repeat.
        summary: As :meth:`gsnn.discovery.SelfCheck.summary` gives it.
        controls: As :meth:`gsnn.discovery.SelfCheck.control_table` gives it.
        statement: What the expected precision assumes.
        caveats: What the self-check cannot say, in sentences.
        groups: As :meth:`gsnn.discovery.SelfCheck.groups` gives it.
        repeats: Number of repeats.
        fraction: Share of the known edges hidden in each.
        hidden: Number of different edges that were hidden and could have been found.
        verdict: Whether ``method`` found them, in words; None if it was not checked.
    """

    method: str
    methods: Sequence[str]
    curves: pd.DataFrame
    places: pd.DataFrame
    summary: pd.DataFrame
    controls: pd.DataFrame
    statement: str
    caveats: Sequence[str]
    groups: pd.DataFrame
    repeats: int
    fraction: float
    hidden: int
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Section:
    """A section of a report, in words and tables.

    Args:
        anchor: Name of the section in links, unique.
        title: Its heading.
        notes: Paragraphs.
        tables: Captions and tables; columns of numbers are aligned to the right.
        link: Its name in the navigation; empty for a section that the navigation leaves out.
    """

    anchor: str
    title: str
    notes: Sequence[str] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    link: str = ""


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
        edges: Table of candidate edges with ``source``, ``target``, ``score``, ``rank``, ``p``, ``q``, ``known``. Shown
            too, where it has them: ``expected_precision`` with ``precision_low`` and ``precision_high``,
            ``alias_group`` and ``alias_size``, ``sign``, and further columns of numbers.
        network: Known function-to-function edges: ``source``, ``target``, ``sign`` (-1, 0 unknown, +1).
        functions: Names of all function nodes, so that isolated ones are drawn too.
        treated: Function node -> the inputs that feed it.
        measured: Function node -> the outputs it feeds.
        notes: Further remarks, one paragraph each.
        method: Name of the method that ranked the candidates.
        samples: Number of samples the ranking was made from, 0 where unknown.
        n_candidates: Number of all candidates, where the table holds the best only; 0 where unknown.
        table_notes: What a reader of the table of edges should know, a sentence each.
        check: The self-check, if there is one.
        agreement: How far methods agree, two by two: ``edges`` (what was ranked), ``first``, ``second``, ``spearman``,
            ``shared`` of the ``top`` best of each, ``n``.
        folder: The run folder as it is typed in the commands that the page suggests.
        fit_notes: Further figures of the fit, a sentence each.
        audit: What an audit says of the known edges, with the columns of :meth:`gsnn.discovery.Audit.table`.
        audit_summary: How many edges of each kind got which verdict.
        audit_notes: What else the audit found, a sentence each.
        fit_verdict: What the fit means, in words.
        refinement: A row per arm and round, with the columns of :meth:`gsnn.discovery.Refinement.summary`.
        refined: Edges that a refinement kept: round, source, target, kind, gain, p.
        refine_verdict: What the refinement means, in words.
        repairs: Edges to add, to remove and to turn, with the columns of :func:`gsnn.discovery.repairs_table`.
        asked: Sections on the agreement of members and on what was asked of the model.
        next_step: What to do next, a command or words; empty where nothing is known.

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
    method: str = ""
    samples: int = 0
    n_candidates: int = 0
    table_notes: Sequence[str] = ()
    check: Check | None = None
    agreement: pd.DataFrame = field(default_factory=lambda: _empty("agreement"))
    folder: str = "RUN"
    fit_notes: Sequence[str] = ()
    audit: pd.DataFrame = field(default_factory=pd.DataFrame)
    audit_summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    audit_notes: Sequence[str] = ()
    fit_verdict: Verdict | None = None
    refinement: pd.DataFrame = field(default_factory=pd.DataFrame)
    refined: pd.DataFrame = field(default_factory=pd.DataFrame)
    refine_verdict: Verdict | None = None
    repairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    asked: Sequence[Section] = ()
    next_step: str = ""

    def __post_init__(self) -> None:
        for table, columns in COLUMNS.items():
            missing = [column for column in columns if column not in getattr(self, table).columns]
            if missing:
                raise DataError(
                    f"report table {table!r} lacks the columns {missing}; it has {list(getattr(self, table).columns)}"
                )

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """The edges that are not in the network, best first."""
        known = self.edges["known"].astype(bool).to_numpy()
        return self.edges[~known].sort_values("rank", kind="stable", na_position="last")

    @property
    def known(self) -> pd.DataFrame:
        """The rows of edges that are in the network, if the table holds them."""
        return self.edges[self.edges["known"].astype(bool).to_numpy()]
