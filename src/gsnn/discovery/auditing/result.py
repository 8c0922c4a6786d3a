"""The outcome of an audit: a verdict on each known edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from gsnn.discovery.result_file import StoredResult
from gsnn.graph.checks import Edge

VERDICTS = ("supported", "not needed", "contradicts the sign", "cannot be judged")
COLUMNS = (
    "kind",
    "source",
    "target",
    "verdict",
    "why",
    "carried",
    "gain",
    "gain_low",
    "gain_high",
    "p",
    "sign_network",
    "sign_model",
    "estimated",
)


@dataclass(frozen=True, eq=False, repr=False)
class Audit(StoredResult):
    """The outcome of :func:`gsnn.discovery.audit`, kept in ``audit.json`` and ``audit.csv``.

    Attributes:
        settings: What was asked for, and the fingerprint of the data.
        folds: A record for each fold that is done, JSON-able: the ``network`` that was trained without it, its figures
            for each edge, and those of the edges that were refitted.
        edges: A record for each edge, with the columns of :data:`COLUMNS`; empty until all folds are done.
        agreement: How the estimate and the refit of random edges agree; empty where every edge was refitted.
        removal: What removing all edges that are not needed does to the test samples; empty until it is done.
        facts: Figures of the whole: held-out R2 of the restricted network, number of conditions.
    """

    COMMAND: ClassVar[str] = "audit"
    NOUN: ClassVar[str] = "audit"
    COUNT: ClassVar[str] = "-"

    settings: dict[str, Any]
    folds: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    removal: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return bool(self.edges) and bool(self.removal)

    def table(self) -> pd.DataFrame:
        """A row per known edge, in the order of the network.

        Returns:
            Columns kind, source, target; verdict and why; carried (what passes along the edge, in standard deviations
            of a response; the larger, the more it is supported); gain (share by which the edge lowers the loss of
            held-out samples) with its interval of 95 %, and p of no gain; sign_network and sign_model (-1, 1, 0 where
            unknown); estimated (whether the gain is a first-order estimate).
        """
        return pd.DataFrame(self.edges, columns=list(COLUMNS)).astype(
            {name: float for name in ("carried", "gain", "gain_low", "gain_high", "p")}
        )

    def to_frame(self) -> pd.DataFrame:
        """:meth:`table`, by the name that other results have for it."""
        return self.table()

    def of(self, verdict: str) -> list[Edge]:
        """The edges with a verdict."""
        return [(edge["source"], edge["target"]) for edge in self.edges if edge["verdict"] == verdict]

    def summary(self) -> pd.DataFrame:
        """How many edges of each kind got which verdict: columns kind, edges, and one per verdict."""
        table = self.table()
        rows = [
            {"kind": kind, "edges": len(part), **{name: int((part["verdict"] == name).sum()) for name in VERDICTS}}
            for kind, part in table.groupby("kind", sort=False)
        ]
        return pd.DataFrame(rows, columns=["kind", "edges", *VERDICTS])

    @property
    def warnings(self) -> list[str]:
        """What a user should know before relying on the verdicts."""
        found = [] if self.drawn is None else [self.drawn.note]
        r2 = self.facts.get("r2")
        if self.edges and r2 is not None and r2 < 0.1:
            found.append(
                f"the restricted networks explain {r2:.0%} of the variance of held-out samples, so what they say of "
                "edges rests on little"
            )
        return found

    @property
    def notes(self) -> list[str]:
        """The outcome in sentences."""
        found = []
        if self.facts:
            found.append(
                f"{self.facts['conditions']} conditions judge, each by a network that was trained without it; these "
                f"networks explain {_percent(self.facts['r2'])} of their variance."
            )
        if self.agreement:
            found.append(
                f"Of {self.agreement['edges']} random edges that were estimated and then refitted, "
                f"{_percent(self.agreement['same'])} kept their verdict (rank correlation of the gains "
                f"{self.agreement['spearman']:.2f})."
            )
        if self.removal:
            found.append(_removal(self.removal))
        return found

    def content(self) -> dict[str, Any]:
        """Settings and records."""
        names = ("settings", "folds", "edges", "agreement", "removal", "facts")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Audit:
        """The inverse of :meth:`to_dict`."""
        return cls(
            dict(values["settings"]),
            list(values["folds"]),
            list(values["edges"]),
            dict(values["agreement"]),
            dict(values["removal"]),
            dict(values["facts"]),
        )


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None or share != share else f"{share:.0%}"


def _removal(record: Mapping[str, Any]) -> str:
    """What the removal did, in a sentence."""
    if record.get("reason"):
        return f"What removing edges does was not measured: {record['reason']}."
    if not record["removed"]:
        return "No edge was found to be not needed, so none was removed."
    change = record["gain"]
    words = "lower" if change > 0 else "higher"
    return (
        f"Without the {record['removed']} edges that are not needed, the loss of {record['conditions']} test "
        f"conditions, which judged nothing, is {abs(change):.1%} {words} ({record['loss_before']:.4f} to "
        f"{record['loss_after']:.4f}; 95 % interval of the change {-record['gain_high']:+.1%} to "
        f"{-record['gain_low']:+.1%})."
    )
