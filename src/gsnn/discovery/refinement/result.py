"""The outcome of a refinement: which edges entered when, and how the loss changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from gsnn.base.verdict import Verdict
from gsnn.discovery.refinement.held_out import power
from gsnn.discovery.repairs import Repair
from gsnn.discovery.result_file import StoredResult
from gsnn.discovery.verdicts import Arm, refine_verdict
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES

_POWER = 0.5  # a lower power is a warning
ARMS = ("inferred", "random")

_TESTED = ("p_random", "gain", "needed", "p")
_LOSSES = ("loss_before", "loss_after")
_COLUMNS = [
    "arm",
    "round",
    "action",
    "source",
    "target",
    "kind",
    "sign",
    "score",
    "method",
    *_TESTED,
    "kept",
    "true",
    *_LOSSES,
]


@dataclass(frozen=True, eq=False, repr=False)
class Refinement(StoredResult):
    """The outcome of :func:`gsnn.discovery.refine`, kept in ``refine.json`` and ``refine.csv``.

    Attributes:
        settings: What was asked for, and the fingerprint of the data.
        arms: For ``inferred`` and, if there is a control, ``random``: a record for each finished round, JSON-able:
            ``edges`` (source, target, kind, action, sign, score, method, p_random, gain, needed, p, kept, true),
            ``loss_before`` and ``loss_after`` of the deciding samples, test losses, how many ``conditions`` decided,
            the ``level`` of a test over them, and the number of ``trainings`` that the round used, also of its graph in
            an earlier round.
    """

    COMMAND: ClassVar[str] = "refine"
    NOUN: ClassVar[str] = "refinement"
    COUNT: ClassVar[str] = "rounds"

    settings: dict[str, Any]
    arms: dict[str, list[dict[str, Any]]]

    @property
    def complete(self) -> bool:
        """Whether every round that was asked for is there."""
        return all(len(rounds) >= int(self.settings["rounds"]) for rounds in self.arms.values())

    def kept(self, arm: str = "inferred") -> list[Edge]:
        """Edges that entered the graph, in the order in which they did."""
        rounds = self.arms.get(arm, [])
        return [(e["source"], e["target"]) for each in rounds for e in each["edges"] if e["kept"]]

    def repairs(self, arm: str = "inferred") -> list[Repair]:
        """The changes that were kept, as repairs of the prior graph."""
        kept = [e for each in self.arms.get(arm, []) for e in each["edges"] if e["kept"]]
        return [
            Repair(e.get("action", "add"), e.get("kind", FUNCTION_EDGES), (e["source"], e["target"]), e.get("sign", 0))
            for e in kept
        ]

    def tried(self, arm: str = "inferred") -> list[Edge]:
        """Edges that were proposed, kept or not."""
        return [(e["source"], e["target"]) for each in self.arms.get(arm, []) for e in each["edges"]]

    def settled(self, arm: str = "inferred") -> list[Edge]:
        """Edges that entered, and those of rounds in which none did."""
        rounds = self.arms.get(arm, [])
        idle = [each for each in rounds if not any(e["kept"] for e in each["edges"])]
        return [*self.kept(arm), *((e["source"], e["target"]) for each in idle for e in each["edges"])]

    def table(self) -> pd.DataFrame:
        """A row per proposed edge.

        Returns:
            Columns arm, round, action (add, remove or flip), source, target, kind, sign (of the edge after the change,
            0 where it is unknown), score (of a repair its gain in the table; NaN in the control), method (that gave the
            score), p_random (share of the non-edges of its degree class that promise as much on the deciding samples;
            in a round that is decided together the p of the test against random edges), gain (share of the held-out
            loss that it, or the batch it was tested in, takes away), needed (the gain above which it stays), p (of the
            test over the conditions), NaN where it was not tested, kept, true (NA without a truth), and the losses
            before and after its round.
        """
        rows = []
        for arm, rounds in self.arms.items():
            for each in rounds:
                losses = _number(each["loss_before"]), _number(each["loss_after"])
                for e in each["edges"]:
                    kind = e.get("kind", FUNCTION_EDGES)
                    edge = (e.get("action", "add"), e["source"], e["target"], kind, e.get("sign", 0))
                    start = (arm, each["round"], *edge, _number(e["score"]))
                    tested = (_number(e.get(name)) for name in _TESTED)
                    rows.append((*start, e.get("method", ""), *tested, e["kept"], e["true"], *losses))
        table = pd.DataFrame(rows, columns=_COLUMNS)
        numbers = dict.fromkeys(("score", *_TESTED, *_LOSSES), float)
        return table.astype({**numbers, "kept": bool, "true": "boolean"})

    def summary(self) -> pd.DataFrame:
        """A row per arm and round.

        Returns:
            Columns arm, round, proposed, kept, loss_before, loss_after (deciding samples), test_before, test_after,
            precision (of the edges kept so far) and precision_proposed (of all proposed so far), NaN without a truth,
            and trainings.
        """
        rows = []
        for arm, rounds in self.arms.items():
            edges: list[dict[str, Any]] = []
            for each in rounds:
                edges += each["edges"]
                kept = [e for e in each["edges"] if e["kept"]]
                rows.append(
                    {
                        "arm": arm,
                        "round": each["round"],
                        "proposed": len(each["edges"]),
                        "kept": len(kept),
                        "loss_before": _number(each["loss_before"]),
                        "loss_after": _number(each["loss_after"]),
                        "test_before": _number(each["test_before"]),
                        "test_after": _number(each["test_after"]),
                        "precision": _share([e for e in edges if e["kept"]]),
                        "precision_proposed": _share(edges),
                        "trainings": each["trainings"],
                    }
                )
        return pd.DataFrame(rows)

    @property
    def warnings(self) -> list[str]:
        """Warnings that not all samples were used, or that few conditions decide, with the power of the test."""
        found: dict[str, str] = {} if self.drawn is None else {"sample": self.drawn.note}
        for each in (each for rounds in self.arms.values() for each in rounds if each["level"]):
            n, level = int(each["conditions"]), float(each["level"])
            left = power(n, level)
            if left < _POWER:
                found["power"] = (
                    f"{n} conditions decide, few for a test at level {level:.1g}: an edge whose gain is as large as "
                    f"its standard deviation among conditions stays with a probability of {left:.0%}; a refinement of "
                    "more conditions, or of fewer edges a round, finds more"
                )
        return list(found.values())

    def accepted(self) -> pd.DataFrame:
        """The share of edges that stayed, for proposed and for random ones.

        Returns:
            A row per arm: arm, proposed, kept, share (NaN where nothing was proposed).
        """
        rows = []
        for arm, rounds in self.arms.items():
            edges = [e["kept"] for each in rounds for e in each["edges"]]
            rows.append((arm, len(edges), sum(edges), sum(edges) / len(edges) if edges else float("nan")))
        return pd.DataFrame(rows, columns=["arm", "proposed", "kept", "share"])

    def verdict(self) -> Verdict:
        """Whether the proposed edges helped more than random ones, in words.

        :func:`gsnn.discovery.verdicts.refine_verdict` has the rule.
        """
        arms = {}
        for row in self.accepted().to_dict("records"):
            rounds = self.arms[row["arm"]]
            before, after = (
                _number(rounds[i][name]) if rounds else float("nan")
                for i, name in ((0, "test_before"), (-1, "test_after"))
            )
            fall = 1 - after / before if before > 0 else float("nan")
            arms[row["arm"]] = Arm(int(row["proposed"]), int(row["kept"]), fall)
        return refine_verdict(
            arms.get("inferred", Arm(0, 0)), arms.get("random"), tested=self.settings.get("decision") != "none"
        )

    def content(self) -> dict[str, Any]:
        """Settings and records, with what they mean."""
        return {"settings": self.settings, "arms": self.arms, "verdict": self.verdict().to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Refinement:
        """The inverse of :meth:`to_dict`."""
        return cls(dict(values["settings"]), {arm: list(rounds) for arm, rounds in values["arms"].items()})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _share(edges: list[dict[str, Any]]) -> float:
    """Share of true edges; NaN without edges or without a truth."""
    known = [bool(e["true"]) for e in edges if e["true"] is not None]
    return sum(known) / len(known) if known else float("nan")
