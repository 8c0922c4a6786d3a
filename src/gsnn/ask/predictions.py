"""What new conditions will do, with intervals, and which of them lie outside what was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.ask.conditions import applied, name_of
from gsnn.ask.ensemble import LEVEL, MAKE_MEMBERS, Ensemble, TrainedRun
from gsnn.base.arrays import FloatArray
from gsnn.base.errors import DataError, closest
from gsnn.data import PerturbationData
from gsnn.data.matching import find_input
from gsnn.graph import Graph
from gsnn.io import Responses
from gsnn.io.text import counted, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class Predictions:
    """Responses that a model predicts, in the units of the data. B conditions, O readouts.

    Attributes:
        treatments: (B, I) doses, a column per input; the index names the conditions.
        readouts: Names of the readouts.
        mean: (B, O); NaN for a readout that was never measured.
        sd: (B, O) standard deviation of a measured response around it; None without members.
        low: (B, O) lower end of the interval; None without members.
        high: (B, O) upper end.
        level: Share of measured responses that the interval is to hold.
        outside: For each condition how it lies outside the training conditions; empty if it does not.
        notes: What a user should know.
    """

    treatments: pd.DataFrame
    readouts: list[str]
    mean: FloatArray
    sd: FloatArray | None
    low: FloatArray | None
    high: FloatArray | None
    level: float
    outside: list[str]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.treatments)

    @property
    def conditions(self) -> list[str]:
        """The treatments of each condition, in words."""
        rows = self.treatments.to_numpy(dtype=float)
        return [" + ".join(applied(row, list(self.treatments.columns))) or "nothing" for row in rows]

    def to_frame(self) -> pd.DataFrame:
        """A row for each condition and readout: condition, treatments, readout, mean, sd, low, high, outside."""
        n, o = self.mean.shape
        columns = {
            "condition": np.repeat(np.asarray(self.treatments.index, dtype=object), o),
            "treatments": np.repeat(np.asarray(self.conditions, dtype=object), o),
            "readout": np.tile(np.asarray(self.readouts, dtype=object), n),
            "mean": self.mean.ravel(),
        }
        parts = {name: getattr(self, name) for name in ("sd", "low", "high")}
        columns |= {name: part.ravel() for name, part in parts.items() if part is not None}
        return pd.DataFrame(columns | {"outside": np.repeat(np.asarray(self.outside, dtype=object), o)})

    def to_table(self) -> pd.DataFrame:
        """A row for each condition: condition, treatments, then readout, readout_low and readout_high; outside."""
        columns: dict[str, Any] = {"condition": self.treatments.index, "treatments": self.conditions}
        for j, name in enumerate(self.readouts):
            columns[name] = self.mean[:, j]
            if self.low is not None and self.high is not None:
                columns |= {f"{name}_low": self.low[:, j], f"{name}_high": self.high[:, j]}
        return pd.DataFrame({**columns, "outside": self.outside})

    def plot(self, condition: int = 0, ax: Axes | None = None) -> Axes:
        """Draw the readouts of one condition with their intervals.

        Args:
            condition: Its row, from 0.
            ax: Where to draw; a new figure by default.

        Raises:
            MissingExtraError: If matplotlib is not installed.
        """
        from gsnn.plot.axes import CANDIDATE, GUIDE, axes

        ax = axes(ax)
        mean, places = self.mean[condition], np.arange(len(self.readouts))
        if self.low is not None and self.high is not None:
            ends = np.stack([mean - self.low[condition], self.high[condition] - mean])
            ax.errorbar(mean, places, xerr=ends, fmt="o", color=CANDIDATE, ecolor=GUIDE)
            ax.set_xlabel(f"predicted response, {self.level:.0%} interval")
        else:
            ax.plot(mean, places, "o", color=CANDIDATE)
            ax.set_xlabel("predicted response")
        ax.set_yticks(places, self.readouts)
        ax.invert_yaxis()
        ax.set_title(self.conditions[condition])
        return ax


def predict(
    run: TrainedRun | Ensemble,
    data: Responses | PerturbationData | pd.DataFrame | npt.ArrayLike,
    *,
    interval: float | None = None,
    ignore_case: bool = False,
) -> Predictions:
    """Predict the responses to conditions, which need not have been measured.

    With members (``gsnn train --members 5``) the model and its members predict together, with the intervals of
    :class:`gsnn.ask.ensemble.Calibration`; without, the model alone.

    Args:
        run: A run, or models with what they were trained on.
        data: The conditions: from :func:`gsnn.io.read_treatments`, data on the same graph, a table with a column per
            treatment (one without a column is not applied), or a matrix (B, I) in the order of ``graph.inputs``.
        interval: Share of measured responses that the intervals are to hold, between 0 and 1; None: 0.9 with
            members, no intervals without.
        ignore_case: Whether to ignore the case of a treatment that matches no species as it is written.

    Raises:
        DataError: If a treatment is none of the run (the closest are named), a value is missing, or an interval is
            asked of a run without members.
        RunError: If the run is not complete or its data cannot be read.
    """
    ensemble = run if isinstance(run, Ensemble) else Ensemble.of(run)
    check_interval(interval, members=len(ensemble.members) > 0)
    treatments, notes = treatment_inputs(ensemble.graph, data, ignore_case)
    x = treatments.to_numpy(dtype=np.float32)
    predicted, raw = ensemble.predict(x)
    level = LEVEL if interval is None else interval
    mean = np.asarray(ensemble.standardiser.inverse_transform(predicted), dtype=np.float64)
    sd = low = high = None
    calibration = ensemble.calibration
    if calibration is not None and raw is not None:
        raw = raw * np.asarray(ensemble.standardiser.scale, dtype=np.float64)
        sd, half = calibration.scale * raw, calibration.quantile(level) * raw
        low, high = mean - half, mean + half
    else:
        notes.append(f"the run has no members, so these are predictions without intervals: {MAKE_MEMBERS}")
    return Predictions(
        treatments,
        [name_of(name) for name in ensemble.graph.outputs],
        *(mean, sd, low, high, level),
        outside(x, ensemble.x, [name_of(name) for name in ensemble.graph.inputs]),
        notes,
    )


def check_interval(interval: float | None, *, members: bool) -> None:
    """DataError for an interval that is no share, or that a run has no members for."""
    if interval is not None and not 0 < interval < 1:
        raise DataError(f"interval must be a share between 0 and 1, such as 0.9, got {interval:g}")
    if interval is not None and not members:
        raise DataError(f"an interval was asked for, and the run has no members; {MAKE_MEMBERS}")


def treatment_inputs(
    graph: Graph,
    data: Responses | PerturbationData | pd.DataFrame | npt.ArrayLike,
    ignore_case: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Treatments as inputs of a graph.

    Args:
        graph: The graph.
        data: As for :func:`predict`.
        ignore_case: Likewise.

    Returns:
        The (B, I) inputs in order, and notes for the user.

    Raises:
        DataError: If a treatment is no input of the graph, two are the same, or a value is missing.
    """
    names, notes = list(graph.inputs), list[str]()
    if isinstance(data, PerturbationData):
        data = data.inputs
    if isinstance(data, Responses):
        table, kinds, notes = data.treatments, data.kinds, list(data.warnings)
    elif isinstance(data, pd.DataFrame):
        table, kinds = data.set_axis([str(name).removeprefix("TR:") for name in data], axis="columns"), {}
    else:
        values = np.asarray(data, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise DataError(f"treatments must have shape (B, {len(names)}), a column per input, got {values.shape}")
        table, kinds = pd.DataFrame(values, columns=names), {}
    if not len(table):
        raise DataError("there is no condition to predict: the table of treatments has no rows")
    matches = {str(name): find_input(str(name), kinds.get(str(name)), graph, ignore_case) for name in table}
    unknown = [name for name, match in matches.items() if match is None]
    if unknown:
        shown = [name_of(name) for name in names]
        near = {name: closest(name, shown) for name in unknown[:5]}
        hints = [f"{name!r}" + (f" - closest: {listed(near[name])}" if near[name] else "") for name in unknown[:5]]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{counted(len(unknown), 'treatment')} of the new data are none of the run ({'; '.join(hints)}{more}); it "
            f"was trained on {listed(shown, 20)}: correct the names, or leave these columns out"
        )
    places = [str(match) for match in matches.values()]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice or table.columns.has_duplicates:
        raise DataError(f"two treatment columns are the same input: {listed(twice or table.columns)}; keep one of each")
    inputs = table.set_axis(places, axis="columns").reindex(columns=names)
    absent = [name for name in names if name not in places]
    if absent:
        some = listed(map(name_of, absent))
        notes.append(f"{counted(len(absent), 'treatment')} without a column, taken as not applied: {some}")
        inputs = inputs.fillna(dict.fromkeys(absent, 0.0))
    inputs = inputs.apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = np.argwhere(~np.isfinite(inputs.to_numpy()))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"treatment {names[column]!r} is missing or no number in row {inputs.index[row]!r}; write 0 where it is "
            "not applied"
        )
    return inputs, notes


def outside(x: npt.NDArray[np.float32], seen: npt.NDArray[np.float32], names: Sequence[str]) -> list[str]:
    """How conditions lie outside the training conditions.

    The first of these that holds: a treatment that was never applied, a dose beyond the range of those applied, a
    combination of treatments that were never applied together. Doses between those that were seen are inside.

    Args:
        x: (B, I) the conditions.
        seen: (M, I) the training conditions.
        names: Of the I treatments.

    Returns:
        A text for each condition; empty if it lies inside.

    Example:
        >>> seen = np.array([[1, 0, 0], [0, 2, 0]], np.float32)
        >>> outside(np.array([[1, 0, 0], [0, 3, 0], [1, 1, 0], [1, 0, 1]], np.float32), seen, ["a", "b", "c"])
        ['', 'dose beyond the range: b=3 (0 to 2)', 'combination never seen: a + b', 'treatment never seen: c']
    """
    ever, low, high = (seen != 0).any(axis=0), seen.min(axis=0), seen.max(axis=0)
    together = {tuple(row) for row in (seen != 0).tolist()}
    texts = []
    for row in x:
        new = [name for name, value, known in zip(names, row, ever, strict=True) if value and not known]
        beyond = [
            f"{name}={value:g} ({a:g} to {b:g})"
            for name, value, a, b in zip(names, row, low, high, strict=True)
            if not a <= value <= b
        ]
        if new:
            texts.append(f"treatment never seen: {', '.join(new)}")
        elif beyond:
            texts.append(f"dose beyond the range: {', '.join(beyond)}")
        elif tuple((row != 0).tolist()) not in together:
            applied = [name for name, value in zip(names, row, strict=True) if value]
            alone = " alone" if len(applied) == 1 else ""
            texts.append(f"combination never seen: {' + '.join(applied) or 'nothing'}{alone}")
        else:
            texts.append("")
    return texts
