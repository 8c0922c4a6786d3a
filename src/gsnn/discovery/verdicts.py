"""What a self-check and a refinement mean and what to do next, in words: the only place of these rules."""

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
class Recovery:
    """How well a method recovered hidden edges, or true ones.

    Attributes:
        n: Distinct edges that were to be found.
        auc: AUC, in a self-check against pairs of similar degree.
        low: Lower end of its interval.
        high: Upper end.
        best: How many of the n are among the best tenth of the candidates.
        topology: The score of the graph alone that the AUC is compared with, such as ``structure``; empty without one.
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


def check_verdict(recovery: Recovery, what: str = "hidden edge") -> Verdict:
    """Whether a method found hidden edges, or true ones.

    With fewer than 10 edges it *cannot be judged*. It is *worse than guessing* if the upper end of the AUC's interval
    is below 0.5; *no better than topology* if the interval of the difference to a score of the graph alone holds 0, or
    lies below it; *no better than guessing* if its own interval holds 0.5. Otherwise it *finds*, unless it also finds
    edges in a control.

    Args:
        recovery: The figures.
        what: What was to be found, in the singular.

    Returns:
        The verdict, with n; ``good`` only where it finds.

    Example:
        >>> print(check_verdict(Recovery(n=47, auc=0.28, low=0.18, high=0.38, best=1)).short)
        worse than guessing
    """
    edges = counted(recovery.n, what)
    if recovery.n < FEWEST or not math.isfinite(recovery.low):
        return Verdict(_UNJUDGED, f"{edges} are too few to tell; at least {FEWEST} are needed.", "unsure")
    auc = f"AUC {recovery.auc:.2f} ({recovery.low:.2f}-{recovery.high:.2f}) over {edges}, where guessing gives 0.5"
    if recovery.high < 0.5:
        why = f" On average a {what} ranks below pairs that are no edges: do not use this ranking."
        return Verdict("worse than guessing", f"{auc}.{_bypasses(recovery)}{why}", "bad")
    if recovery.topology and not recovery.difference_low > 0:
        beside = (
            f"its AUC less that of {recovery.topology}, which knows the graph alone and no data, is "
            f"{recovery.difference:+z.2f} ({recovery.difference_low:+z.2f} to {recovery.difference_high:+z.2f})"
        )
        return Verdict("no better than topology", f"{auc}; {beside}.{_bypasses(recovery)}", "bad")
    if not recovery.low > 0.5:
        return Verdict("no better than guessing", f"{auc}.{_bypasses(recovery)}", "bad")
    share = f"{recovery.best:.0f} of {edges} are among the best tenth of the candidates, where chance puts "
    share += f"{BEST * recovery.n:.0f}"
    if recovery.failed:
        where = " and ".join(map(repr, recovery.failed))
        return Verdict("finds where nothing is", f"{share}; but the control {where} fails: {auc}.", "bad")
    beside = f", and no score of the graph alone explains it ({recovery.topology})" if recovery.topology else ""
    return Verdict(f"finds {recovery.best:.0f} of {recovery.n}", f"{share}; {auc}{beside}.", "good")


def _bypasses(recovery: Recovery) -> str:
    """Why hidden edges may rank low: other paths do their work."""
    if not recovery.bypassed:
        return ""
    have = "has" if recovery.bypassed == 1 else "have"
    return (
        f" {recovery.bypassed} of them {have} a bypass: the source reaches the target without the edge, so that a "
        "model that lacks it loses little, and nothing in it asks for it back."
    )


def check_next(verdicts: Mapping[str, Mapping[str, Verdict]], default: str, *, inferred: str = "") -> str:
    """What to do after a self-check: build on a ranking that finds, and on no other.

    Args:
        verdicts: By kind of edges the verdict on each method.
        default: The method that the commands take by default.
        inferred: The method that has ranked the candidates of the run between functions; empty if none has.

    Returns:
        A command or words; ``RUN`` stands for the run folder.

    Example:
        >>> check_next({"function->function": {"magnitude": Verdict("finds", "", "good")}}, "combined")
        'gsnn infer RUN --method magnitude, whose ranking finds what was hidden'
    """
    judged = [(kind, method, each) for kind, methods in verdicts.items() for method, each in methods.items()]
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
    others = ",".join(short_kind(kind) for kind in KINDS if kind not in verdicts)
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
    """How many edges one arm of a refinement proposed and kept.

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

    Where edges were tested, the shares that stayed are compared by Fisher's exact test at 5 %. Where all stay, the
    falls of the loss of test samples are compared.

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
