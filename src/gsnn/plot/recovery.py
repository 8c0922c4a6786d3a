"""Precision and recall of the hidden edges of a self-check, and the precision to expect of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import check_option
from gsnn.plot.axes import GUIDE, PROPOSED, axes
from gsnn.plot.check_tables import check_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gsnn.discovery import SelfCheck

_NEGATIVES = ("all", "degree-matched")
_STYLES = {"real": "-", "rewired": "--", "permuted": ":"}
_PLACES = 100


def self_check(
    check: SelfCheck,
    methods: list[str] | None = None,
    *,
    negatives: str = "all",
    ax: Axes | None = None,
) -> Axes:
    """Precision against recall of edges that were hidden on purpose, and of the same on the controls.

    Solid lines are the real network and data; dashed and dotted ones the controls, which should lie at the line of
    chance. Averaged over the repeats.

    Args:
        check: The self-check.
        methods: Inferers or baselines to draw; None for the inferers that were checked.
        negatives: ``"all"`` candidates, or ``"degree-matched"`` ones.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with a line per method and condition.

    Raises:
        ValueError: If a method was not checked, or ``negatives`` is unknown.
    """
    check_option("negatives", negatives, _NEGATIVES)
    curves = check_tables(check, check.methods[0]).curves
    checked = list(dict.fromkeys(curves["method"])) if len(curves) else []
    shown = check.methods if methods is None else list(methods)
    for name in shown:
        check_option("method", name, checked)
    curves = curves[curves["negatives"] == negatives]
    ax = axes(ax)
    for i, name in enumerate(shown):
        for condition, style in _STYLES.items():
            curve = curves[(curves["method"] == name) & (curves["condition"] == condition)]
            if len(curve) and curve["precision"].notna().any():
                label = name if condition == "real" else f"{name}, {condition}"
                width = 1.8 if condition == "real" else 1.1
                ax.plot(curve["recall"], curve["precision"], style, color=f"C{i}", linewidth=width, label=label)
    chance = curves.loc[curves["method"].isin(shown) & (curves["condition"] == "real"), "chance"]
    if chance.notna().any():
        ax.axhline(float(chance.mean()), color=GUIDE, linestyle="-.", zorder=0, label="chance")
    ax.set(xlabel="recall of hidden edges", ylabel="precision", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    ax.legend(fontsize="small")
    return ax


def expected_precision(
    check: SelfCheck,
    method: str | None = None,
    *,
    k: npt.ArrayLike | None = None,
    missing: float | None = None,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """The share of the k best candidates that are expected to be edges, with its interval, beside that of guessing.

    The line has gaps where the interval is too wide for an expectation (see
    :meth:`gsnn.discovery.SelfCheck.precision`).

    Args:
        check: The self-check.
        method: Who ranks the candidates; None if only one method was checked.
        k: Numbers of places; None for 1 to 100, or as many as there are candidates.
        missing: Share of the complete network that is missing; None: the share that was hidden.
        level: Coverage of the interval.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with a line, a band, and the line of chance.

    Raises:
        ValueError: If the method was not checked, or more than one was and none is named.
    """
    if method is None:
        if len(check.methods) != 1:
            raise ValueError(f"method must be one of {check.methods}: the self-check has more than one")
        method = check.methods[0]
    places = np.arange(1, min(_PLACES, int(check.settings["n_candidates"])) + 1) if k is None else np.asarray(k)
    table = check.precision(method, places, missing=missing, level=level)
    ax = axes(ax)
    ax.fill_between(
        table["k"],
        table["precision_low"],
        table["precision_high"],
        color=PROPOSED,
        alpha=0.2,
        linewidth=0,
        label=f"{level:.0%} interval",
    )
    ax.plot(table["k"], table["expected_precision"], color=PROPOSED, label=method)
    ax.plot(table["k"], table["precision_chance"], color=GUIDE, linestyle="-.", zorder=0, label="chance")
    ax.set(xlabel="candidates taken, best first", ylabel="expected precision", ylim=(-0.02, 1.02))
    ax.legend(fontsize="small")
    return ax
