"""What the model predicts if functions are knocked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gsnn.ask.answer import Answer
from gsnn.ask.clamps import STATES, clamps_of, predict_clamped
from gsnn.ask.conditions import Conditions, name_of, numbers_of
from gsnn.ask.ensemble import LEVEL, MAKE_MEMBERS
from gsnn.base.arrays import FloatArray
from gsnn.base.errors import DataError, check_option
from gsnn.base.progress import track
from gsnn.data import PerturbationData, Standardiser
from gsnn.graph import EDGE_TYPES, Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gsnn.ask.ensemble import Calibration
    from gsnn.nn import GSNN

DEFAULT_STATE = "lowest"
PAIRED = 30  # strongest functions that pairs are made of
JSON, CSV, PICTURE = "knockout.json", "knockout.csv", "knockout.png"


@dataclass
class Spread:
    """Mean and standard deviation over members that are added one by one (Welford 1962)."""

    n: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, values: FloatArray) -> None:
        """Add the values of a member."""
        self.n += 1
        step = values - self.mean
        self.mean = self.mean + step / self.n
        self.squares = self.squares + step * (values - self.mean)

    @property
    def variance(self) -> FloatArray:
        """Over the members; 0 for a single one."""
        return np.asarray(self.squares / max(self.n - 1, 1))

    @property
    def half(self) -> FloatArray | None:
        """Half of the 90 % interval of a further member, t sd sqrt(1 + 1/n); None for a single one."""
        if self.n < 2:
            return None
        factor = stats.t.ppf(0.5 + LEVEL / 2, self.n - 1) * np.sqrt((1 + 1 / self.n) / (self.n - 1))
        return np.asarray(factor * np.sqrt(self.squares))


@dataclass(frozen=True, eq=False)
class Knockouts(Answer):
    """The outcome of :func:`knockout`. Letters: K sets of functions, M conditions, O readouts.

    Attributes:
        sets: Names of the functions that are knocked out together, for each of the K sets.
        conditions: Names of the M conditions.
        readouts: Names of the O readouts.
        effect: (K, M, O) prediction with the knock-out minus prediction without, in the units of the data.
        sd: (K, M, O) standard deviation of a measured effect around it, or None without a calibration.
        half: (K, M, O) half of the interval that is to hold 90 % of measured effects, or None.
        interaction: (K, M, O) effect of a pair minus the sum of its single effects, NaN for singles; None without
            pairs.
        plain: (M, O) predictions without a knock-out, in the units of the data.
        scale: (O,) standard deviations of the readouts.
        to: The values at which functions were held.
        held_at: For each function that is knocked out alone the training condition at whose values the first model
            held it; empty where they are 0.
        members: How many models there were.
        notes: What a reader should know.
    """

    _files = (CSV, JSON)

    sets: list[tuple[str, ...]]
    conditions: list[str]
    readouts: list[str]
    effect: FloatArray
    sd: FloatArray | None
    half: FloatArray | None
    interaction: FloatArray | None
    plain: FloatArray
    scale: FloatArray
    to: str
    held_at: dict[str, str]
    members: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The sets as text, joined by plus signs."""
        return ["+".join(one) for one in self.sets]

    @property
    def strength(self) -> FloatArray:
        """(K,) root mean square effect over conditions and readouts, in standard deviations of a readout."""
        return _strength(self.effect, self.scale)

    def to_frame(self) -> pd.DataFrame:
        """A row for each set of functions, condition and readout.

        Returns:
            Columns nodes, condition, readout, effect; sd, low and high with a calibration; interaction with pairs.
        """
        columns = {"effect": self.effect}
        if self.sd is not None and self.half is not None:
            columns |= {"sd": self.sd, "low": self.effect - self.half, "high": self.effect + self.half}
        if self.interaction is not None:
            columns["interaction"] = self.interaction
        rows = pd.MultiIndex.from_product(
            [self.names, self.conditions, self.readouts], names=["nodes", "condition", "readout"]
        )
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, rows).reset_index()

    def summary(self) -> pd.DataFrame:
        """A row for each set, the strongest first, with the mean effect over the conditions on every readout.

        Returns:
            Columns nodes, strength (see :attr:`strength`), interaction (its root mean square likewise, with pairs), and
            one for each readout.
        """
        columns: dict[str, Any] = {"nodes": self.names, "strength": self.strength}
        if self.interaction is not None:
            columns["interaction"] = _strength(self.interaction, self.scale)
        means = pd.DataFrame(self.effect.mean(1), columns=self.readouts)
        table = pd.concat([pd.DataFrame(columns), means], axis=1)
        return table.sort_values("strength", ascending=False, kind="stable", ignore_index=True)

    def plot(self, ax: Axes | None = None, *, limit: int = 40) -> Axes:
        """Mean effects over the conditions of the strongest sets on the readouts, in standard deviations.

        Args:
            ax: Where to draw; None makes a figure.
            limit: Sets that are drawn.
        """
        from gsnn.plot import heatmap

        strongest = self.summary().set_index("nodes")[self.readouts].head(limit)
        table = strongest.div(self.scale, axis="columns")
        title = "Knock-outs: mean effect over the conditions (standard deviations)"
        return heatmap(table, title=title, ax=ax)

    def content(self) -> dict[str, Any]:
        """JSON-able: the question, and the summary."""
        return {
            "to": self.to,
            "members": self.members,
            "conditions": len(self.conditions),
            "held_at": self.held_at,
            "notes": self.notes,
            "readouts": self.readouts,
            "scale": self.scale,
            "summary": self.summary().to_dict("records"),
        }


def knockout(
    models: Sequence[GSNN],
    data: PerturbationData,
    standardiser: Standardiser,
    nodes: Sequence[str] | None = None,
    *,
    pairs: bool = False,
    to: str = DEFAULT_STATE,
    train: npt.NDArray[np.int64] | None = None,
    conditions: npt.NDArray[np.float32] | None = None,
    calibration: Calibration | None = None,
    progress: bool = False,
) -> Knockouts:
    """Predict what knocking out functions does to every readout in every condition.

    A function is held in every block at the channel values that it has in one training condition (``lowest``: where its
    effect on its own readouts is lowest; ``highest``; see :func:`gsnn.ask.clamps.clamps_of`), or its channels are 0
    (``zero``). No signal then passes through it. The effect is the prediction with the knock-out minus that without.
    The model has learnt from treatments; that a knock-out is the lowest state that was seen is an assumption.

    Intervals are those of a measured effect, a response with the knock-out minus one without. They are calibrated as
    those of predictions are (:class:`gsnn.ask.ensemble.Calibration`), with the spread of the effects over the members
    and the noise of two responses: the model is assumed to err with a knock-out as it does in unseen treatments.

    Args:
        models: Trained on ``data``; with several, effects are means over them.
        data: The graph, and the conditions unless ``conditions`` are given.
        standardiser: Of the responses that the models were trained on.
        nodes: Names of functions, each knocked out alone; None: all.
        pairs: Also all pairs of ``nodes``, or of the 30 strongest functions.
        to: ``lowest``, ``highest`` or ``zero``.
        train: Samples whose conditions give the values to hold; None: all.
        conditions: (M, I) treatments; None: the distinct ones of the data.
        calibration: Of the models, which gives intervals; None: no intervals.
        progress: Show progress on stderr.

    Raises:
        DataError: If a node or ``to`` is unknown, or there is no model.
    """
    check_option("to", to, STATES, DataError)
    if not models:
        raise DataError("knockout needs at least one model")
    if nodes is not None and not len(nodes):
        raise DataError("name at least one node to knock out")
    graph = data.graph
    numbers = [*range(graph.N)] if nodes is None else numbers_of(nodes, graph.functions, "function")
    if pairs and len(numbers) < 2:
        raise DataError("pairs need at least two nodes; name another one")
    seen = Conditions.of(data.x if train is None else data.x[train], data)
    asked = Conditions.of(data.x if conditions is None else conditions, data)
    scale = np.asarray(standardiser.scale, dtype=np.float64)
    singles: list[tuple[int, ...]] = [(number,) for number in numbers]
    single, paired, unclamped, interactions = Spread(), Spread(), Spread(), Spread()
    clamps = [clamps_of(model, seen.x, to) for model in models]
    for model, clamp in zip(track(models, "knock-outs: models", show=progress), clamps, strict=True):
        before, after = predict_clamped(model, asked.x, singles, clamp)
        single.add((after - before) * scale)
        unclamped.add(np.asarray(standardiser.inverse_transform(before), dtype=np.float64))
    sets, effect, variance, interaction = singles, single.mean, single.variance, None
    if pairs:
        chosen = numbers
        if nodes is None and len(numbers) > PAIRED:
            strongest = np.argsort(-_strength(single.mean, scale), kind="stable")[:PAIRED]
            chosen = [numbers[i] for i in sorted(strongest.tolist())]
        two = [*combinations(chosen, 2)]
        for model, clamp in zip(track(models, "pairs: models", show=progress), clamps, strict=True):
            before, after = predict_clamped(model, asked.x, [*((number,) for number in chosen), *two], clamp)
            alone, pair = np.split((after - before) * scale, [len(chosen)])
            paired.add(pair)
            first, second = np.array([*combinations(range(len(chosen)), 2)]).T
            interactions.add(pair - alone[first] - alone[second])
        effect = np.concatenate([single.mean, paired.mean])
        variance = np.concatenate([variance, paired.variance])
        interaction = np.concatenate([np.full_like(single.mean, np.nan), interactions.mean])
        sets = [*singles, *two]
    sd = half = None
    if calibration is not None:
        raw = calibration.raw(variance / scale**2, len(models), measured=2) * scale
        sd, half = calibration.scale * raw, calibration.quantile(LEVEL) * raw
    return Knockouts(
        sets=[tuple(graph.functions[i] for i in one) for one in sets],
        conditions=asked.names,
        readouts=[name_of(name) for name in graph.outputs],
        effect=effect,
        sd=sd,
        half=half,
        interaction=interaction,
        plain=unclamped.mean,
        scale=scale,
        to=to,
        held_at={
            graph.functions[i]: seen.names[clamps[0].condition[i]] if clamps[0].condition[i] >= 0 else ""
            for i in numbers
        },
        members=len(models),
        notes=_notes(graph, numbers, to, calibrated=calibration is not None),
    )


def _strength(effect: FloatArray, scale: FloatArray) -> FloatArray:
    """Root mean square over the defined values, NaN if there are none."""
    squares = np.square(effect / scale)
    seen = np.isfinite(squares)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.where(seen, squares, 0.0).sum((1, 2)) / seen.sum((1, 2))))


def _notes(graph: Graph, numbers: Sequence[int], to: str, *, calibrated: bool) -> list[str]:
    notes = []
    dead, read = set(graph.dead_end_functions), set(graph.edge_index_dict[EDGE_TYPES[2]][0].tolist())
    cut_off = [graph.functions[i] for i in numbers if graph.functions[i] in dead]
    if cut_off:
        notes.append(f"no readout can be reached from {_some(cut_off)}: knocking them out changes nothing")
    unread = [graph.functions[i] for i in numbers if i not in read and graph.functions[i] not in dead]
    if unread and to != "zero":
        notes.append(
            f"{_some(unread)} have no readout of their own: which state is the {to} is a guess, and effects may have "
            "the wrong sign"
        )
    if not calibrated:
        notes.append(f"there are no intervals; {MAKE_MEMBERS}")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
