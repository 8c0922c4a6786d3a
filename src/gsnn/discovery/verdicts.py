"""What a self-check and a refinement mean and what to do next, in words; the rules stand here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gsnn.base.verdict import Verdict
from gsnn.graph.kinds import FUNCTION_EDGES, KINDS, short_kind
from gsnn.io.text import counted

FEWEST = 10  # with fewer hidden edges no ranking can be judged
BEST = 0.1  # share of the candidates among which hidden edges are counted
ALPHA = 0.05  # level of the tests that decide on edges

_KEEP = "keep the network as it is"
_MEASURE = "an experiment on what stayed (RUN/refine.csv): no fit proves an edge"
_OTHERS = "gsnn selfcheck RUN --kinds input,output says whether edges of other kinds can be found"
_UNJUDGED = "cannot be judged"


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


def check_verdict(found: Found, what: str = "hidden edge") -> Verdict:
    """Whether a method found hidden edges, or true ones.

    Below 10 hidden edges it *cannot be judged*. It is *worse than guessing* if the upper end of the AUC's interval is
    below 0.5; *no better than topology* if the interval of the difference to what the graph alone says holds 0, or
    lies below it; *no better than guessing* if its own interval holds 0.5. Otherwise it *finds*, unless a control does
    so too.

    Args:
        found: The figures.
        what: What was to be found, in the singular.

    Returns:
        The verdict, with n; ``good`` only where it finds.

    Example:
        >>> print(check_verdict(Found(n=47, auc=0.28, low=0.18, high=0.38, best=1)).short)
        worse than guessing
    """
    hidden = counted(found.n, what)
    if found.n < FEWEST or not math.isfinite(found.low):
        return Verdict(_UNJUDGED, f"{hidden} are too few to tell; at least {FEWEST} are needed.", "unsure")
    auc = f"AUC {found.auc:.2f} ({found.low:.2f}-{found.high:.2f}) over {hidden}, where guessing gives 0.5"
    if found.high < 0.5:
        why = f" On average a {what} ranks below pairs that are none: do not use this ranking."
        if what == "hidden edge":
            why = (
                " What is hidden ranks below pairs that are no edges, and so may what is missing: do not use this "
                "ranking."
            )
        return Verdict("worse than guessing", auc + "." + _bypasses(found) + why, "bad")
    if found.topology and not found.difference_low > 0:
        beside = (
            f"its AUC less that of {found.topology}, which knows the graph alone and no data, is "
            f"{found.difference:+z.2f} ({found.difference_low:+z.2f} to {found.difference_high:+z.2f})"
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
    have = "has" if found.bypassed == 1 else "have"
    return (
        f" {found.bypassed} of them {have} a bypass: the source reaches the target without the edge, so that a model "
        "that lacks it loses little, and nothing in it asks for it back."
    )


def check_next(found: Mapping[str, Mapping[str, Verdict]], default: str, *, inferred: str = "") -> str:
    """What to do after a self-check: build on a ranking that finds, and on no other.

    Args:
        found: By kind of edges the verdict on each method.
        default: The method that the commands take by themselves.
        inferred: The method that has ranked the candidates of the run between functions; empty if none has.

    Returns:
        A command or words; ``RUN`` stands for the run folder.

    Example:
        >>> check_next({"function->function": {"magnitude": Verdict("finds", "", "good")}}, "combined")
        'gsnn infer RUN --method magnitude, whose ranking finds what was hidden'
    """
    judged = [(kind, method, each) for kind, methods in found.items() for method, each in methods.items()]
    for kind, method, each in judged:
        if each.tone == "good":
            options = ("" if method == default else f" --method {method}") + (
                "" if kind == FUNCTION_EDGES else f" --kinds {short_kind(kind)}"
            )
            if inferred == method or kind != FUNCTION_EDGES:
                return f"gsnn refine RUN{options}, which adds the best candidates and tests each"
            return f"gsnn infer RUN{options}, whose ranking finds what was hidden"
    if judged and all(each.short == _UNJUDGED for _, _, each in judged):
        return (
            "gsnn selfcheck RUN --repeats 10 --overwrite, which hides more edges; where there are too few, no ranking "
            "can be judged"
        )
    failed = "no ranking did better than guessing and the network alone, so do not build on one"
    others = ",".join(short_kind(kind) for kind in KINDS if kind not in found)
    if others:
        return f"gsnn selfcheck RUN --kinds {others}, for edges of other kinds: of these {failed}"
    return f"other perturbations or another prior network: {failed}"


def infer_next(checked: Verdict | None) -> str:
    """What to do after an inference.

    Args:
        checked: What a self-check says of the method that ranked; None without one.

    Returns:
        A command or words; ``RUN`` stands for the run folder.
    """
    if checked is None:
        return "gsnn selfcheck RUN, because nothing says yet whether this ranking is better than guessing"
    if checked.tone != "good":
        return "gsnn report RUN, to see why; do not build on this ranking"
    return "gsnn refine RUN, which tries the best"


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
        return Verdict("nothing was proposed", "there was no candidate to try.", "unsure", _OTHERS)
    if not inferred.kept:
        text = f"{said}: none lowered the held-out loss as an edge must."
        return Verdict("no proposed edge helped", text, "bad", f"{_KEEP}; {_OTHERS}")
    if math.isfinite(inferred.fall):
        said += f" (test loss {_change(inferred.fall)})"
    if random is None or not random.proposed:
        return Verdict(
            "not compared",
            f"{said}; without random edges beside them this says little.",
            "unsure",
            "the same gsnn refine with --control --overwrite, which tries as many random edges",
        )
    said += f", {random.kept} of {counted(random.proposed, 'random edge')}"
    if math.isfinite(random.fall):
        said += f" (test loss {_change(random.fall)})"
    if not tested:
        if not inferred.fall > random.fall:
            return Verdict("random edges did as well", f"{said}. What stayed is no discovery.", "bad", _KEEP)
        text = f"{said}; no test decided, so that this may be chance."
        return Verdict("better than random edges", text, "unsure", _MEASURE)
    if inferred.kept * random.proposed <= random.kept * inferred.proposed:
        return Verdict("random edges did as well", f"{said}. What stayed is no discovery.", "bad", _KEEP)
    table = np.array([[side.kept, side.proposed - side.kept] for side in (inferred, random)])
    p = float(stats.fisher_exact(table, alternative="greater").pvalue)
    if p > ALPHA:
        return Verdict(
            "not told from random edges",
            f"{said}: more, but as many more come by chance (p = {p:.2g}).",
            "unsure",
            _MEASURE,
        )
    return Verdict("better than random edges", f"{said} (p = {p:.2g}).", "good", _MEASURE)


def _change(fall: float) -> str:
    return f"{abs(fall):.1%} {'lower' if fall > 0 else 'higher'}"
