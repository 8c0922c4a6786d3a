"""What a self-check and a refinement mean, in words; the rules stand here and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gsnn.base.verdict import Verdict
from gsnn.io.text import counted

FEWEST = 10  # with fewer hidden edges no ranking can be judged
BEST = 0.1  # share of the candidates among which hidden edges are counted
ALPHA = 0.05  # level of the tests that decide on edges


@dataclass(frozen=True)
class Found:
    """What a self-check measured of a method.

    Attributes:
        n: Distinct hidden edges.
        auc: AUC against pairs of similar degree.
        low: Lower end of its interval.
        high: Upper end.
        best: How many of the n stand among the best tenth of the candidates.
        topology: What the difference is to: ``structure``, or another score of the graph alone; empty without one.
        difference: AUC less that of the topology.
        difference_low: Lower end of its interval.
        difference_high: Upper end.
        bypassed: Hidden edges whose source reaches the target without them; None where it was not counted.
        failed: Controls that failed.
    """

    n: int
    auc: float
    low: float
    high: float
    best: float
    topology: str = ""
    difference: float = math.nan
    difference_low: float = math.nan
    difference_high: float = math.nan
    bypassed: int | None = None
    failed: tuple[str, ...] = ()


def check_verdict(found: Found) -> Verdict:
    """Whether a method found hidden edges.

    Below 10 hidden edges it *cannot be judged*. It is *worse than guessing* if the upper end of the AUC's interval is
    below 0.5; *no better than topology* if the interval of the difference to what the graph alone says holds 0, or
    lies below it; *no better than guessing* if its own interval holds 0.5. Otherwise it *finds*, unless a control does
    so too.

    Returns:
        The verdict, with n; ``good`` only where it finds.

    Example:
        >>> print(check_verdict(Found(n=47, auc=0.28, low=0.18, high=0.38, best=1)).short)
        worse than guessing
    """
    hidden = counted(found.n, "hidden edge")
    if found.n < FEWEST or not math.isfinite(found.low):
        return Verdict("cannot be judged", f"{hidden} are too few to tell; at least {FEWEST} are needed.", "unsure")
    auc = f"AUC {found.auc:.2f} ({found.low:.2f}-{found.high:.2f}) over {hidden}, where guessing gives 0.5"
    if found.high < 0.5:
        why = (
            " What is hidden ranks below pairs that are no edges, and so may what is missing: do not use this ranking."
        )
        return Verdict("worse than guessing", auc + "." + _bypasses(found) + why, "bad")
    if found.topology and not found.difference_low > 0:
        beside = (
            f"its AUC less that of {found.topology}, which knows the graph alone and no data, is "
            f"{found.difference:+.2f} ({found.difference_low:+.2f} to {found.difference_high:+.2f})"
        )
        return Verdict("no better than topology", f"{auc}; {beside}.{_bypasses(found)}", "bad")
    if not found.low > 0.5:
        return Verdict("no better than guessing", f"{auc}.{_bypasses(found)}", "bad")
    share = f"{found.best:.0f} of {hidden} are among the best tenth of the candidates, where chance puts "
    share += f"{BEST * found.n:.0f}"
    if found.failed:
        where = " and ".join(map(repr, found.failed))
        return Verdict("finds where nothing is", f"{share}; but the control {where} fails: {auc}.", "bad")
    beside = f", and no score of the graph alone explains it ({found.topology})" if found.topology else ""
    return Verdict(f"finds {found.best:.0f} of {found.n}", f"{share}; {auc}{beside}.", "good")


def _bypasses(found: Found) -> str:
    """Why hidden edges may rank low: others do their work."""
    if not found.bypassed:
        return ""
    return (
        f" {found.bypassed} of them have a bypass: their source reaches the target without them, so that a model that "
        "lacks them loses little, and nothing in it asks for them back."
    )


@dataclass(frozen=True)
class Arm:
    """What became of the edges that one side of a refinement proposed.

    Attributes:
        proposed: How many were proposed.
        kept: How many stayed.
        fall: Share by which the loss of test samples fell over all rounds; NaN where it was not measured.
    """

    proposed: int
    kept: int
    fall: float = math.nan


def refine_verdict(inferred: Arm, random: Arm | None, *, tested: bool = True) -> Verdict:
    """Whether the proposed edges helped more than as many random ones.

    Where each was tested, the shares that stayed are compared, by Fisher's exact test at 5 %; where all stay, the
    falls of the loss of test samples.

    Args:
        inferred: The proposed edges.
        random: The control; None if there was none.
        tested: Whether a test decided what stays.

    Example:
        >>> refine_verdict(Arm(18, 2), Arm(18, 3)).short
        'random edges did as well'
    """
    said = f"{inferred.kept} of {counted(inferred.proposed, 'proposed edge')} stayed"
    if not inferred.proposed:
        return Verdict("nothing was proposed", "there was no candidate to try.", "unsure")
    if not inferred.kept:
        return Verdict("no proposed edge helped", f"{said}: none lowered the held-out loss as an edge must.", "bad")
    if math.isfinite(inferred.fall):
        said += f" (test loss {_change(inferred.fall)})"
    if random is None or not random.proposed:
        return Verdict(
            "not compared", f"{said}; without random edges beside them (--control) this says little.", "unsure"
        )
    said += f", {random.kept} of {counted(random.proposed, 'random edge')}"
    if math.isfinite(random.fall):
        said += f" (test loss {_change(random.fall)})"
    if not tested:
        if not inferred.fall > random.fall:
            return Verdict("random edges did as well", f"{said}. What stayed is no discovery.", "bad")
        return Verdict("better than random edges", f"{said}; no test decided, so that this may be chance.", "unsure")
    if inferred.kept * random.proposed <= random.kept * inferred.proposed:
        return Verdict("random edges did as well", f"{said}. What stayed is no discovery.", "bad")
    table = np.array([[side.kept, side.proposed - side.kept] for side in (inferred, random)])
    p = float(stats.fisher_exact(table, alternative="greater").pvalue)
    if p > ALPHA:
        return Verdict(
            "not told from random edges", f"{said}: more, but as many more come by chance (p = {p:.2g}).", "unsure"
        )
    return Verdict("better than random edges", f"{said} (p = {p:.2g}).", "good")


def _change(fall: float) -> str:
    return f"{abs(fall):.1%} {'lower' if fall > 0 else 'higher'}"
