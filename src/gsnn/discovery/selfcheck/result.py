"""What a self-check found: tables, controls, and the precision to expect of a rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import check_option
from gsnn.base.verdict import Verdict
from gsnn.discovery.baselines import PRIOR_BASELINES
from gsnn.discovery.result_file import StoredResult
from gsnn.discovery.selfcheck.precision import WIDEST, estimable, false_shares, found_share, precision_interval
from gsnn.discovery.verdicts import BEST, Recovery, check_verdict
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES
from gsnn.io.text import counted
from gsnn.metrics.auc import auc_difference, auc_interval, least_visible

NEGATIVES = ("all", "degree-matched")
PRECISION_COLUMNS = ("expected_precision", "precision_low", "precision_high", "precision_chance", "stated_fdr")
# The stated false discovery rate of a list, unless another one is asked for.
RATE = 0.2
# A control that could not show an AUC of this size proves nothing by passing.
LARGEST_UNSEEN = 0.75
_SUMMARY = ["kind", "condition", "method", "by", "negatives", "roc_auc", "auc_low", "auc_high", "auc_visible", "auc_sd"]
_SUMMARY += ["average_precision", "chance", "precision", "mrr", "n_positives"]


def variant_of(kind: str) -> str:
    """What the files of a self-check of a kind of edges are called after ``selfcheck``.

    Example:
        >>> variant_of("input->function"), variant_of("function->function")
        ('-input', '')
    """
    return {INPUT_EDGES: "-input", FUNCTION_EDGES: "", OUTPUT_EDGES: "-output"}[kind]


@dataclass(frozen=True, eq=False, repr=False)
class SelfCheck(StoredResult):
    """The outcome of :func:`gsnn.discovery.self_check`, kept in ``selfcheck.json`` and ``selfcheck.csv``.

    Attributes:
        settings: What was asked for: ``fraction``, ``repeats``, ``seed``, ``stratify``, ``methods``, ``controls``,
            ``config``, the ``kind`` of the edges; and the data: ``fingerprint``, ``n_functions``, ``n_known``,
            ``n_candidates``, and ``sample`` where they are a part of the samples.
        repeats: A record for each finished repeat, JSON-able: by condition (``real``, ``rewired``, ``permuted``) the
            hidden edges and, by method, their placements among the negatives.
    """

    COMMAND: ClassVar[str] = "selfcheck"
    NOUN: ClassVar[str] = "self-check"
    COUNT: ClassVar[str] = "repeats"

    settings: dict[str, Any]
    repeats: list[dict[str, Any]]

    @property
    def kind(self) -> str:
        """The kind of the edges that were hidden."""
        return str(self.settings.get("kind", FUNCTION_EDGES))

    @property
    def variant(self) -> str:
        """Empty between functions, ``-input`` or ``-output``."""
        return variant_of(self.kind)

    @property
    def complete(self) -> bool:
        """Whether every repeat that was asked for is there."""
        return len(self.repeats) >= int(self.settings["repeats"])

    @property
    def methods(self) -> list[str]:
        """Names of the inferers that were checked."""
        return list(self.settings["methods"])

    def _records(self, condition: str) -> list[dict[str, Any]]:
        return [each["conditions"][condition] for each in self.repeats if condition in each["conditions"]]

    # ------------------------------------------------------------------ tables

    def table(self) -> pd.DataFrame:
        """Every figure of every repeat in one tidy table.

        Returns:
            Columns kind, repeat, condition, method, by (inferer or baseline), negatives (all or degree-matched),
            metric, value.
        """
        rows = []
        for each in self.repeats:
            for condition, record in each["conditions"].items():
                for method, found in record["methods"].items():
                    for negatives in NEGATIVES:
                        for metric, value in found["metrics"][negatives].items():
                            rows.append(
                                (self.kind, each["repeat"], condition, method, found["by"], negatives, metric, value)
                            )
        columns = ["kind", "repeat", "condition", "method", "by", "negatives", "metric", "value"]
        table = pd.DataFrame(rows, columns=columns)
        return table.astype({"value": float})

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """One row per condition, method and kind of negatives, over the repeats.

        Args:
            level: Coverage of the interval of the AUC.

        Returns:
            Columns kind, condition, method, by, negatives, roc_auc with auc_low and auc_high (pooled over the repeats),
            auc_visible (the smallest AUC that so many hidden edges would show, see
            :func:`gsnn.metrics.auc.least_visible`), auc_sd (over the repeats), average_precision, chance (the average
            precision of a score that knows nothing), precision (among as many candidates as were hidden), mrr,
            n_positives (distinct).
        """
        rows = []
        for condition in ("real", *self.settings["controls"]):
            records = self._records(condition)
            for method in dict.fromkeys(name for record in records for name in record["methods"]):
                for negatives in NEGATIVES:
                    rows.append(self._row(records, condition, method, negatives, level))
        return pd.DataFrame(rows, columns=_SUMMARY)

    def _row(
        self, records: list[dict[str, Any]], condition: str, method: str, negatives: str, level: float
    ) -> dict[str, Any]:
        having = _with_method(records, method)
        edges, shares = _placements(having, method, negatives)
        # The negatives are nearly the same in every repeat, so their part does not shrink with the repeats.
        variance = _mean(_negative_variances(having, method, negatives))
        auc, low, high = auc_interval(edges, shares, variance, level)

        def metric(name: str) -> list[float]:
            return [_number(record["methods"][method]["metrics"][negatives].get(name)) for record in having]

        aucs = [value for value in metric("roc_auc") if np.isfinite(value)]
        return {
            "condition": condition,
            "method": method,
            "kind": self.kind,
            "by": having[-1]["methods"][method]["by"] if having else "inferer",
            "negatives": negatives,
            "roc_auc": auc,
            "auc_low": low,
            "auc_high": high,
            "auc_visible": least_visible(edges, shares, variance, level),
            "auc_sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else float("nan"),
            "average_precision": _mean(metric("average_precision")),
            "chance": _mean(metric("chance_average_precision")),
            "precision": _mean(metric("precision")),
            "mrr": _mean(metric("mrr")),
            "n_positives": _n_distinct(edges, shares),
        }

    def control_table(self, level: float = 0.95) -> pd.DataFrame:
        """The negative controls of the inferers: is 0.5 inside the interval of the AUC?

        A rewired graph keeps the degrees, and hidden edges sit where degrees are high, so against all negatives a
        score that merely follows degrees is above 0.5 even here. The AUC that must be at 0.5 is that against
        degree-matched negatives. Permuted samples leave the topology as it is, and a method that knows what networks
        have in common still finds hidden edges. It passes if its AUC is not above that of ``structure``, which knows
        the graph alone (the interval of the difference is not above 0).

        With few hidden edges the interval holds 0.5 whatever the truth is. A control that does not fail, but would not
        have shown an AUC of 0.75 (``auc_visible`` is above it, or undefined), has no power and does not pass either.

        Args:
            level: Coverage of the interval.

        Returns:
            The rows of :meth:`summary` of the controls, with a column ``passed``: True, False, or None without power;
            and ``verdict``, the same in words: passed, failed, no power.
        """
        table = self.summary(level)
        table = table[(table["condition"] != "real") & (table["by"] == "inferer")].reset_index(drop=True)
        inside = (table["auc_low"] <= 0.5) & (table["auc_high"] >= 0.5)
        failed = np.array(~inside & table["auc_low"].notna(), dtype=bool)
        power = np.array(table["auc_visible"] <= LARGEST_UNSEEN, dtype=bool)
        for row in np.flatnonzero(failed & (table["auc_low"] > 0.5).to_numpy()):
            name, condition, negatives = (table[column][row] for column in ("method", "condition", "negatives"))
            if condition == "permuted" and name != "structure":
                _, low, high = self._difference(self._records("permuted"), name, "structure", level, negatives)
                failed[row] = not low <= 0
                # As for the AUC: a difference of that size would have been seen.
                power[row] = high - low <= 2 * (LARGEST_UNSEEN - 0.5)
        passed = [False if no else True if able else None for no, able in zip(failed, power, strict=True)]
        table["passed"] = pd.Series(passed, dtype=object)
        table["verdict"] = [{True: "passed", False: "failed", None: "no power"}[value] for value in passed]
        return table

    def groups(self, level: float = 0.95) -> pd.DataFrame:
        """AUC of hidden edges that leave a function without children or parents, and of the others, separately.

        Only where fewer than 10 edges could be hidden without leaving such a hole (:func:`gsnn.discovery.mask_edges`).
        Each group is compared with pairs of its own sort, so neither gains by the hole.

        Args:
            level: Coverage of the interval.

        Returns:
            Columns kind, condition, method, by, group (``no hole`` or ``hole``), roc_auc, auc_low, auc_high,
            n_positives (distinct); empty where no hole was left.
        """
        columns = ["kind", "condition", "method", "by", "group", "roc_auc", "auc_low", "auc_high", "n_positives"]
        rows = []
        for condition in ("real", *self.settings["controls"]):
            records = [record for record in self._records(condition) if record.get("holes")]
            for method in dict.fromkeys(name for record in records for name in record["methods"]):
                edges, by = _tested_edges(records), records[0]["methods"][method]["by"]
                for group in ("no hole", "hole"):
                    figures = [record["methods"][method]["groups"][group] for record in records]
                    shares = np.array([value for each in figures for value in each["placement"]], dtype=np.float64)
                    variance = _mean([_number(each["negative_variance"]) for each in figures])
                    auc, low, high = auc_interval(edges, shares, variance, level)
                    n = _n_distinct(edges, shares)
                    rows.append((self.kind, condition, method, by, group, auc, low, high, n))
        return pd.DataFrame(rows, columns=columns)

    def caveats(self, level: float = 0.95) -> list[str]:
        """What this self-check cannot say, in sentences, because of samples left out, controls without power or holes.

        Args:
            level: Coverage of the intervals.

        Returns:
            Sentences; empty if there is nothing to add.
        """
        found = []
        if self.drawn is not None:
            found.append(
                f"made with {self.drawn}, and {self.settings['config']['epochs']} epochs: models of all samples may "
                "find more, so that the precision to expect is of these models and not of the edges of the run"
            )
        table = self.control_table(level)
        blind = table[(table["negatives"] == "degree-matched") & (table["verdict"] == "no power")]
        for row in blind.to_dict("records"):
            n = counted(int(row["n_positives"]), "hidden edge")
            told = f"less than an AUC of {row['auc_visible']:.2f}" if row["auc_visible"] < 1 else "anything"
            found.append(
                f"control {row['condition']!r}, {row['method']}: {n} cannot show {told}, so an AUC near 0.5 "
                "proves nothing"
            )
        groups = self.groups(level)
        # The rewired network may have needed holes where the real one did not.
        of = groups[groups["condition"] == "real"].groupby("group")["n_positives"].max() if len(groups) else None
        if of is not None and "hole" in of:
            found.append(
                f"{counted(int(of['hole']), 'hidden edge')} of {int(of.sum())} left a function without children or "
                "parents, which the graph alone can tell: fewer than 10 others could be hidden; look at the AUC of the "
                "two groups apart"
            )
        return found

    def verdicts(self, level: float = 0.95) -> dict[str, Verdict]:
        """Whether each method found hidden edges, in words; :func:`gsnn.discovery.verdicts.check_verdict` has the rule.

        What the graph alone says is ``structure``, where it was measured; else the best of the other scores that know
        the graph alone, which makes the rule stricter.

        Args:
            level: Coverage of the intervals.

        Returns:
            By method, in the order of :attr:`methods`; empty before the first repeat.
        """
        records = self._records("real")
        controls = self.control_table(level)
        failed = controls[(controls["negatives"] == "degree-matched") & (controls["verdict"] == "failed")]
        alone: tuple[str, ...] = ("structure",)
        if not any("structure" in record["methods"] for record in records):
            alone = tuple(PRIOR_BASELINES) if self.kind == FUNCTION_EDGES else ("degree product",)
        aucs = {name: self._row(records, "real", name, "degree-matched", level)["roc_auc"] for name in alone}
        topology = max((name for name in alone if np.isfinite(aucs[name])), key=lambda name: aucs[name], default="")
        detours = [record["bypassed"] for record in records if "bypassed" in record]
        verdicts = {}
        for method in self.methods if records else ():
            row = self._row(records, "real", method, "degree-matched", level)
            beside = "" if method == topology else topology
            less, less_low, less_high = self._difference(records, method, beside, level)
            edges, placed = _placements(_with_method(records, method), method, "all")
            share = pd.Series(placed >= 1 - BEST).groupby([f"{source}\t{target}" for source, target in edges]).mean()
            verdicts[method] = check_verdict(
                Recovery(
                    n=len(share),
                    auc=float(row["roc_auc"]),
                    low=float(row["auc_low"]),
                    high=float(row["auc_high"]),
                    best=float(share.sum()),
                    topology=beside,
                    difference=less,
                    difference_low=less_low,
                    difference_high=less_high,
                    bypassed=len({tuple(edge) for edges in detours for edge in edges}) if detours else None,
                    failed=tuple(str(name) for name in failed.loc[failed["method"] == method, "condition"]),
                )
            )
        return verdicts

    def _difference(
        self,
        records: list[dict[str, Any]],
        method: str,
        other: str,
        level: float,
        negatives: str = "degree-matched",
    ) -> tuple[float, float, float]:
        """AUC of a method less that of another score, with its interval; NaN where the other was not measured."""
        both = _with_method(_with_method(records, method), other)
        (edges, own), (_, others) = (_placements(both, name, negatives) for name in (method, other))
        variances = (_negative_variances(both, name, negatives) for name in (method, other))
        return auc_difference(edges, own, others, _mean([a + b for a, b in zip(*variances, strict=True)]), level)

    # ------------------------------------------------------------------ calibration

    @property
    def counts(self) -> dict[str, float]:
        """How many edges could be hidden and were, on average over the repeats; ``n_distinct`` is over all of them."""
        records = self._records("real")
        names = ("n_eligible", "n_pathless", "n_protected", "n_last")
        counts = {name: _mean([float(record.get(name, 0)) for record in records]) for name in names}
        counts["n_holes"] = _mean([float(len(record.get("holes", ()))) for record in records])
        counts["n_testable"] = _mean([float(len(record["testable"])) for record in records])
        counts["n_cut_off"] = _mean([float(len(record["cut_off"])) for record in records])
        counts["n_distinct"] = float(len({tuple(edge) for record in records for edge in record["testable"]}))
        return counts

    def missing_edges(self, missing: float | None = None) -> float:
        """How many edges that could be found are assumed to be missing.

        Args:
            missing: Share of the complete network that the prior graph lacks, in [0, 1); None: as large as the share
                that was hidden.

        Returns:
            missing / (1 - missing) times the known edges that could be drawn, times the share of hidden edges that
            were not cut off.

        Raises:
            ValueError: If ``missing`` is out of range.
        """
        share = float(self.settings["fraction"]) if missing is None else float(missing)
        if not 0 <= share < 1:
            raise ValueError(f"missing must be a share in [0, 1), got {missing}")
        counts = self.counts
        hidden = counts["n_testable"] + counts["n_cut_off"]
        if not hidden:
            return float("nan")
        return share / (1 - share) * counts["n_eligible"] * counts["n_testable"] / hidden

    def precision(
        self,
        method: str,
        k: npt.ArrayLike,
        *,
        missing: float | None = None,
        level: float = 0.95,
        widest: float = WIDEST,
    ) -> pd.DataFrame:
        """Precision to expect among the k best candidates of a method on the whole prior graph.

        Each hidden edge is ranked alone among the candidates that were never known, so that a method is not blamed for
        other hidden edges above it. The share found among the k best is turned into a precision by
        :func:`gsnn.discovery.selfcheck.precision.precision_interval`. It is right on average at every k, so it need not
        fall with k.

        An expectation is given only where the interval is at most ``widest`` wide. At the first ranks it hardly ever
        is: a precision among one candidate is 0 or 1, and few hidden edges cannot tell which.

        Args:
            method: Name of an inferer or a baseline that was checked.
            k: Numbers of places, at least 1.
            missing: Share of the complete network that is missing; None: the share that was hidden.
            level: Coverage of the interval.
            widest: Where the interval is wider, the expected precision is NaN, not estimable; 1 gives it everywhere.

        Returns:
            Columns k, expected_precision, precision_low, precision_high, precision_chance (of a score that knows
            nothing), and stated_fdr: the smallest stated false discovery rate of a list that holds the candidate of
            this place (:func:`gsnn.discovery.selfcheck.precision.false_shares`).

        Raises:
            ValueError: If the method was not checked.
        """
        records = self._records("real")
        names = dict.fromkeys([*self.methods, *(name for record in records for name in record["methods"])])
        check_option("method", method, names)
        places = np.asarray(k, dtype=np.float64)
        ranks, weight, n_distinct = self._weighted_ranks(records, method)
        recall = found_share(ranks, weight, places)
        lacking = self.missing_edges(missing)
        expected, low, high = precision_interval(recall, n_distinct, lacking, places, level)
        expected = np.where(estimable(low, high, widest), expected, np.nan)
        chance = np.where(np.isfinite(low), self.chance(missing), np.nan)
        stated = false_shares(ranks, weight, lacking, places, int(self.settings["n_candidates"]))
        columns = zip(PRECISION_COLUMNS, (expected, low, high, chance, stated), strict=True)
        return pd.DataFrame({"k": places, **dict(columns)})

    def listed(self, method: str, rate: float = RATE, *, missing: float | None = None) -> int:
        """The length of the longest list of candidates with a stated false discovery rate.

        Args:
            method: As for :meth:`precision`.
            rate: The share of false edges that the list may have, in (0, 1).
            missing: As for :meth:`precision`.

        Returns:
            Number of candidates; 0 if there is no such list.

        Raises:
            ValueError: If the method was not checked, or the rate is out of range.
        """
        if not 0 < rate < 1:
            raise ValueError(f"rate must be a share in (0, 1), got {rate}")
        # No list can be longer: it would hold more than all the missing edges.
        most = min(int(np.nan_to_num(self.missing_edges(missing)) / (1 - rate)), int(self.settings["n_candidates"]))
        stated = self.precision(method, np.arange(1, most + 1), missing=missing)["stated_fdr"]
        return int((stated <= rate).sum())

    def list_text(self, method: str, rate: float = RATE, *, missing: float | None = None) -> str:
        """The result of :meth:`listed`, in words."""
        n = self.listed(method, rate, missing=missing)
        if not n:
            return f"no list of {method} can be stated to hold at most {rate:.0%} false edges"
        return f"the best {n} of {method} are a list with a stated false discovery rate of {rate:.0%}"

    def chance(self, missing: float | None = None) -> float:
        """The precision of a score that knows nothing: the share of missing edges among all candidates.

        Args:
            missing: As for :meth:`missing_edges`.

        Returns:
            A share; NaN if no edge was hidden.
        """
        return min(1.0, self.missing_edges(missing) / int(self.settings["n_candidates"]))

    def _weighted_ranks(self, records: list[dict[str, Any]], method: str) -> tuple[FloatArray, FloatArray, int]:
        """Ranks of hidden edges among the never known candidates, weights by which each edge counts once, and edges."""
        having = _with_method(records, method)
        edges = _tested_edges(having)
        ranks = np.array([rank for record in having for rank in record["methods"][method]["rank"]], dtype=np.float64)
        times = Counter(edges)
        return ranks, np.array([1.0 / times[edge] for edge in edges]), len(times)

    def statement(self, missing: float | None = None, level: float = 0.95) -> str:
        """What the expected precision means and assumes, in words.

        Args:
            missing: As for :meth:`precision`.
            level: As for :meth:`precision`.
        """
        share = float(self.settings["fraction"]) if missing is None else missing
        counts = self.counts
        kind = "" if counts["n_holes"] else ", not the only child or parent of a function"
        return (
            f"Expected precision: of the candidates ranked this high or higher, the share that are edges; the interval "
            f"holds it with probability {level:.0%}. Where that is wider than {WIDEST:g} it is not estimable, and not "
            f"told. Guessing gives {self.chance(missing):.2g}. From "
            f"{counts['n_distinct']:.0f} known edges hidden in {counted(len(self.repeats), 'repeat')} "
            f"({self.settings['fraction']:.0%} each of {counts['n_eligible']:.0f} that can be hidden). It assumes "
            f"that the missing edges are as hard to find as the known ones, and that the graph lacks {share:.0%} of "
            f"the complete network, that is about {self.missing_edges(missing):.0f} edges of the kind that was hidden "
            f"(on a path from an input to an output{kind}); with fewer missing edges every precision is lower in "
            f"proportion. Edges that differ in kind from the known ones are not covered."
        )

    # ------------------------------------------------------------------ files

    def content(self) -> dict[str, Any]:
        """Settings and records, with the summary beside them."""
        result: dict[str, Any] = {"settings": self.settings, "repeats": self.repeats}
        if self.repeats:
            result["summary"] = self.summary().to_dict("records")
            result["counts"] = self.counts
            result["caveats"] = self.caveats()
            result["groups"] = self.groups().to_dict("records")
            result["verdicts"] = {name: verdict.to_dict() for name, verdict in self.verdicts().items()}
            result["statement"] = self.statement()
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SelfCheck:
        """The inverse of :meth:`to_dict`."""
        return cls(dict(values["settings"]), list(values["repeats"]))


def _with_method(records: list[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    """The records that measured a method; none if nothing that could be found was hidden."""
    return [record for record in records if method in record["methods"]]


def _tested_edges(records: list[dict[str, Any]]) -> list[Edge]:
    """The hidden edges, once for each repeat."""
    return [(source, target) for record in records for source, target in record["testable"]]


def _placements(records: list[dict[str, Any]], method: str, negatives: str) -> tuple[list[Edge], FloatArray]:
    """The hidden edges, once for each repeat, and the share of the negatives that each beats."""
    shares = [value for record in records for value in record["methods"][method]["placement"][negatives]]
    return _tested_edges(records), np.array(shares, dtype=np.float64)


def _negative_variances(records: list[dict[str, Any]], method: str, negatives: str) -> list[float]:
    return [_number(record["methods"][method]["negative_variance"][negatives]) for record in records]


def _n_distinct(edges: list[Edge], shares: FloatArray) -> int:
    """How many different edges have a placement."""
    return len({edge for edge, share in zip(edges, shares, strict=True) if np.isfinite(share)})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _mean(values: list[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")
