"""Which experiments would tell the leading hypotheses of the network apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from gsnn.ask.answer import Answer
from gsnn.ask.clamps import clamps_of, predict_clamped
from gsnn.ask.conditions import Conditions, condition_name, condition_names, inputs_of, name_of, numbers_of
from gsnn.ask.hypotheses import Hypothesis, leading_hypotheses, with_weights_of
from gsnn.ask.knockouts import DEFAULT_STATE
from gsnn.ask.new_readouts import StateAxes
from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import DataError
from gsnn.base.progress import track
from gsnn.base.workers import arrays_in_processes
from gsnn.data import PerturbationData, Standardiser
from gsnn.discovery.retrain import refit_workers
from gsnn.graph import EDGE_TYPES
from gsnn.graph.checks import Edge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gsnn.nn import GSNN
    from gsnn.training import TrainConfig

BATCH, REPLICATES, HYPOTHESES = 8, 3, 8
EPOCHS = 0.2  # of a refit, as a share of those of the run
REFITS = 2  # of each hypothesis, if there is one model
KNOCKED = 8  # most frequent conditions of the data, in which functions are knocked out or measured anew
APART = 2.0  # units of noise by which two hypotheses count as separated
_LEAST_NOISE = 0.05  # standard deviations of a readout
OUT, READ = " knocked out, ", " measured, "
JSON, CSV, PICTURE = "design.json", "design.csv", "design.png"
NOT_SHOWN = (
    "on simulated networks designed experiments were not seen to find more than as many random ones: take the list as "
    "where the hypotheses disagree, not as a promise"
)
ASSUMED = (
    "one of the hypotheses is true, and each is as likely as any other before the experiments",
    "a candidate edge stands for all of its alias group, whose members these data cannot tell apart",
    "errors of the readouts are independent and normal, as large as the model's errors on held-out samples",
    "a knock-out holds a function at the lowest state that it had in training (gsnn knockout)",
    "a new readout follows the state of its function, with the noise of the median readout",
)


@dataclass(frozen=True)
class Experiment:
    """Something that could be done and measured.

    Attributes:
        treatments: (I,) values of the inputs.
        knocked: Function that is knocked out besides, by number; -1: none.
        read: Function without a readout that alone is measured, by number; -1: the existing readouts are.
        name: What it is called.
        kind: treatment, knock-out, readout or listed.
        cost: In the user's units.
    """

    treatments: tuple[float, ...]
    knocked: int = -1
    read: int = -1
    name: str = ""
    kind: str = "treatment"
    cost: float = 1.0


@dataclass(frozen=True, eq=False)
class Design(Answer):
    """The outcome of :func:`design`. Letters: H hypotheses, X experiments, O readouts.

    Attributes:
        hypotheses: The H hypotheses.
        experiments: The X experiments that were weighed.
        batch: Numbers of those to do, in the order of the greedy search.
        gain: For each of the batch by how much it raises the share of pairs of hypotheses that will be told apart.
        predicted: (H, X, O) in the units of the data, mean over the refits; NaN where a new readout alone is measured.
        state: (H, X) prediction of a new readout, in standard deviations over the conditions of the data; NaN in
            experiments without one.
        separation: (X, H (H - 1) / 2) of each pair of hypotheses, in units of the predictive noise.
        noise: (O,) standard deviation of one measurement, in the units of the data.
        state_noise: That of a new readout, in its standard deviations.
        spread: (H, X, O) standard deviation over the refits, pooled over the hypotheses, in the units of the data.
        loss: (H,) mean squared standardised error of the refits on the samples they were trained on.
        readouts: Names.
        replicates: Measurements of each experiment.
        notes: Assumptions, and what a reader should know.
    """

    _files = (CSV, JSON)

    hypotheses: list[Hypothesis]
    experiments: list[Experiment]
    batch: list[int]
    gain: list[float]
    predicted: FloatArray
    state: FloatArray
    separation: FloatArray
    noise: FloatArray
    state_noise: float
    spread: FloatArray
    loss: FloatArray
    readouts: list[str]
    replicates: int
    notes: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of hypotheses, in the order of ``separation``."""
        return [*combinations(range(len(self.hypotheses)), 2)]

    def to_frame(self) -> pd.DataFrame:
        """A row for each experiment of the batch.

        Returns:
            Columns rank, experiment, kind, cost, gain, separation (root mean square over the pairs of hypotheses, in
            units of the noise), pairs (how many pairs it separates by 2 units or more), separates (hypotheses, each
            with how many others it is told from), readouts (those that differ most, with the least and the largest
            prediction).
        """
        rows = []
        for rank, (number, gain) in enumerate(zip(self.batch, self.gain, strict=True), start=1):
            one = self.experiments[number]
            apart = self.separation[number]
            rows.append(
                {
                    "rank": rank,
                    "experiment": one.name,
                    "kind": one.kind,
                    "cost": one.cost,
                    "gain": gain,
                    "separation": float(np.sqrt(np.mean(apart**2))),
                    "pairs": int((apart >= APART).sum()),
                    "separates": "; ".join(self.separated(number)),
                    "readouts": "; ".join(self._readouts(number)),
                }
            )
        return pd.DataFrame(rows)

    def separated(self, number: int) -> list[str]:
        """Hypotheses that an experiment separates, each with how many others it is told from (2 units of noise)."""
        count = np.zeros(len(self.hypotheses), int)
        for (a, b), value in zip(self.pairs, self.separation[number], strict=True):
            if value >= APART:
                count[[a, b]] += 1
        order = np.argsort(-count, kind="stable")
        return [f"{self.hypotheses[i].name} from {count[i]}" for i in order if count[i]]

    def table(self, number: int) -> pd.DataFrame:
        """The predictions of an experiment: a row for each hypothesis, a column for each readout that it measures."""
        names, predicted, _ = self._measured(number)
        table = pd.DataFrame(predicted, columns=names)
        table.insert(0, "hypothesis", [one.name for one in self.hypotheses])
        return table

    def plot(self, ax: Axes | None = None) -> Axes:
        """For each experiment of the batch how far each hypothesis is from the mean of all, in units of the noise.

        The readout that is farthest counts.
        """
        from gsnn.plot import heatmap

        farthest = []
        for number in self.batch:
            _, predicted, noise = self._measured(number)
            distance = (predicted - predicted.mean(0)) / (noise / np.sqrt(self.replicates))
            farthest.append(np.take_along_axis(distance, np.abs(distance).argmax(1)[:, None], axis=1)[:, 0])
        table = pd.DataFrame(
            farthest,
            index=[self.experiments[i].name for i in self.batch],
            columns=[one.name for one in self.hypotheses],
        )
        return heatmap(table, title="Predicted responses: distance from the mean of all hypotheses (noise)", ax=ax)

    def content(self) -> dict[str, Any]:
        """JSON-able: the batch with all its predictions, and the hypotheses."""
        measured = [self._measured(number) for number in self.batch]
        return {
            "replicates": self.replicates,
            "weighed": len(self.experiments),
            "notes": self.notes,
            "readouts": self.readouts,
            "noise": self.noise,
            "hypotheses": [
                {"name": one.name, "added": one.added, "removed": one.removed, "members": one.members, "loss": loss}
                for one, loss in zip(self.hypotheses, self.loss.tolist(), strict=True)
            ],
            "batch": [
                {**row, "measured": names, "predicted": predicted}
                for row, (names, predicted, _) in zip(self.to_frame().to_dict("records"), measured, strict=True)
            ],
        }

    def _measured(self, number: int) -> tuple[list[str], FloatArray, FloatArray]:
        """What an experiment measures: names, predictions (H, names) and noise (names,)."""
        one = self.experiments[number]
        if one.read < 0:
            return self.readouts, self.predicted[:, number], self.noise
        return [one.name.split(READ)[0]], self.state[:, number, None], np.array([self.state_noise])

    def _readouts(self, number: int) -> list[str]:
        names, values, noise = self._measured(number)
        width = (values.max(0) - values.min(0)) / noise
        order = [i for i in np.argsort(-width, kind="stable")[:3] if width[i] > 0]
        unit = " standard deviations" if self.experiments[number].read >= 0 else ""
        return [f"{names[i]} {values[:, i].min():.3g} to {values[:, i].max():.3g}{unit}" for i in order]


def possible_experiments(data: PerturbationData, *, knockouts: bool = True, readouts: bool = True) -> list[Experiment]:
    """The experiments that can be made of the treatments and functions of the data.

    Every treatment alone, at its most frequent dose (the median if none is repeated), and every two together.

    Args:
        data: The data.
        knockouts: Also every function knocked out, in each of the 8 most frequent conditions.
        readouts: Also every function without a readout measured, in each of these conditions.
    """
    x, graph = data.x, data.graph
    doses = {}
    for i in range(graph.I):
        values, count = np.unique(x[x[:, i] != 0, i], return_counts=True)
        if len(values):
            doses[i] = float(values[count.argmax()] if count.max() > 1 else np.median(values))
    experiments: list[Experiment] = []
    for some in [*((i,) for i in doses), *combinations(doses, 2)]:
        values = np.zeros(graph.I)
        values[list(some)] = [doses[i] for i in some]
        experiments.append(Experiment(tuple(values.tolist()), name=condition_name(values, graph.inputs)))
    rows, count = np.unique(x, axis=0, return_counts=True)
    rows = rows[np.argsort(-count, kind="stable")[:KNOCKED]]
    read = set(graph.edge_index_dict[EDGE_TYPES[2]][0].tolist())
    for row, name in zip(rows, condition_names(rows, data), strict=True):
        treatments = tuple(map(float, row))
        for node, function in enumerate(graph.functions):
            if knockouts:
                experiments.append(Experiment(treatments, node, -1, f"{function}{OUT}{name}", "knock-out"))
            if readouts and node not in read:
                experiments.append(Experiment(treatments, -1, node, f"{function}{READ}{name}", "readout"))
    return experiments


def separations(predicted: FloatArray, spread: FloatArray, noise: FloatArray, replicates: int) -> FloatArray:
    r"""How far apart each pair of hypotheses is in each experiment, in units of the predictive noise.

    .. math:: d_{hk}^2 = \sum_o \frac{(\mu_{ho} - \mu_{ko})^2}{\sigma_o^2 / r + (\tau_{ho}^2 + \tau_{ko}^2) / 2}

    r is the number of replicates, sigma the noise of a measurement, tau the spread of the refits.

    Args:
        predicted: (H, X, O) means mu.
        spread: (H, X, O) tau.
        noise: (O,) sigma; readouts where it is NaN are left out.
        replicates: r.

    Returns:
        (X, H (H - 1) / 2).
    """
    seen = np.isfinite(noise)
    mu, tau, sigma = predicted[..., seen], spread[..., seen], noise[seen]
    pairs = [*combinations(range(len(mu)), 2)]
    separation = np.empty((mu.shape[1], len(pairs)))
    for column, (h, k) in enumerate(pairs):
        variance = sigma**2 / replicates + (tau[h] ** 2 + tau[k] ** 2) / 2
        separation[:, column] = np.sqrt(((mu[h] - mu[k]) ** 2 / variance).sum(1))
    return separation


def greedy(separation: FloatArray, cost: FloatArray, n: int) -> tuple[list[int], list[float]]:
    """Choose experiments one by one, so that together they tell most pairs apart.

    The squared separations of a pair in independent experiments add up to D^2, and the better of the two hypotheses
    is recognised with probability Phi(D / 2) (normal errors, equal priors). Each step takes the experiment that raises
    the mean of 2 Phi(D / 2) - 1 over the pairs most, relative to its cost.

    Args:
        separation: (X, pairs).
        cost: (X,) above 0.
        n: How many to take, at most; none twice.

    Returns:
        Their numbers, and what each adds to the mean.

    Example:
        >>> greedy(np.array([[3.0, 0.0], [2.9, 0.0], [0.0, 1.0]]), np.ones(3), 2)[0]
        [0, 2]
    """
    squared, total = separation**2, np.zeros(separation.shape[1])
    chosen: list[int] = []
    gains: list[float] = []

    def told_apart(squares: FloatArray) -> FloatArray:
        return np.asarray((2 * ndtr(np.sqrt(squares) / 2) - 1).mean(-1))

    for _ in range(min(n, len(separation))):
        gain = told_apart(total + squared) - told_apart(total)
        worth = gain / cost
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        chosen.append(best)
        gains.append(float(gain[best]))
        total = total + squared[best]
    return chosen, gains


def design(
    models: Sequence[GSNN],
    data: PerturbationData,
    standardiser: Standardiser,
    config: TrainConfig,
    candidates: pd.DataFrame,
    *,
    doubts: Iterable[Edge] = (),
    hypotheses: int = HYPOTHESES,
    experiments: Sequence[Experiment] | None = None,
    batch: int = BATCH,
    replicates: int = REPLICATES,
    train: IntArray | None = None,
    held_out: IntArray | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Design:
    """Rank experiments by how well they would tell the leading hypotheses apart.

    The hypotheses are the network as it is, the best alias groups of candidate edges and known edges in doubt
    (:func:`gsnn.ask.hypotheses.leading_hypotheses`). Every model is refitted for each of them, from its own weights
    and for a fifth of the epochs. The refits predict every experiment; the criterion is :func:`separations`, and
    :func:`greedy` chooses the batch. :data:`ASSUMED` lists the assumptions.

    Args:
        models: Trained on ``data``. A single one is refitted twice, with other orders of the samples and other dropout.
        data: The data.
        standardiser: Of the responses that the models were trained on.
        config: Settings of that training.
        candidates: Columns source and target, the best first, with ``alias_group`` if they are to be grouped.
        doubts: Known edges that may not be there.
        hypotheses: How many alias groups.
        experiments: Those to weigh; None: :func:`possible_experiments`.
        batch: How many to choose.
        replicates: Measurements of each.
        train: Samples to refit with; None: all.
        held_out: Samples whose errors give the noise; None or fewer than 5: those of the training.
        epochs: Of a refit; None: a fifth of the run's.
        seed: Fixes the refits.
        progress: Show progress on stderr.

    Raises:
        DataError: If there is no model, no candidate or no experiment, or a number is not positive.
    """
    from gsnn.training import predict

    for name, value in {"hypotheses": hypotheses, "batch": batch, "replicates": replicates}.items():
        if value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    if not models:
        raise DataError("design needs at least one model")
    leading = leading_hypotheses(candidates, doubts, hypotheses)
    weighed = possible_experiments(data) if experiments is None else list(experiments)
    if not weighed:
        raise DataError("there is no experiment to choose from")
    rows = np.arange(len(data)) if train is None else train
    y = np.asarray(standardiser.transform(data.y), dtype=np.float64)
    judged = rows if held_out is None or len(held_out) < 5 else held_out
    error = y[judged] - np.mean([predict(model, data.x[judged]) for model in models], axis=0)
    seen = np.isfinite(error)
    square = np.where(seen, error, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        noise = np.maximum(np.sqrt(square.sum(0) / seen.sum(0)), _LEAST_NOISE)
    starts = [*models] if len(models) > 1 else [models[0]] * REFITS
    short = replace(config, epochs=epochs or max(1, round(EPOCHS * config.epochs)), patience=None, restore_best=False)
    read = sorted({one.read for one in weighed if one.read >= 0})
    seen_x = Conditions.of(data.x[rows], data).x
    axes: list[StateAxes] = []
    for start in starts:
        axes.append(StateAxes.of(start, seen_x, read, axes[0] if axes else None))
    jobs = [
        partial(_refit, start, one, data, rows, y, replace(short, seed=seed + number), weighed, (read, axes[number]))
        for one in leading
        for number, start in enumerate(starts)
    ]
    with closing(arrays_in_processes(jobs, refit_workers(data, data.graph, short))) as done:
        refits = [*track(done, "design: refits", total=len(jobs), show=progress)]
    shape = (len(leading), len(starts))
    each = np.stack([one["predicted"] for one in refits]).astype(float).reshape(*shape, len(weighed), -1)
    # Pooled over the hypotheses, because two refits alone say little about how much refits differ.
    predicted, spread = each.mean(1), np.sqrt(each.var(1, ddof=1).mean(0, keepdims=True)).repeat(len(leading), 0)
    state_noise, new = float(np.nanmedian(noise)), np.array([one.read >= 0 for one in weighed])
    separation = separations(predicted, spread, np.append(noise, state_noise), replicates)
    chosen, gains = greedy(separation, np.array([one.cost for one in weighed]), batch)
    scale, mean = (np.asarray(v, dtype=np.float64) for v in (standardiser.scale, standardiser.mean))
    notes = [NOT_SHOWN, *(f"assumed: {text}" for text in ASSUMED)]
    if len(models) == 1:
        notes.append(f"one model: the noise of a refit is that of {REFITS} refits (gsnn train --members 5 gives more)")
    return Design(
        hypotheses=leading,
        experiments=weighed,
        batch=chosen,
        gain=gains,
        predicted=np.where(new[:, None], np.nan, predicted[..., :-1] * scale + mean),
        state=np.where(new, predicted[..., -1], np.nan),
        separation=separation,
        noise=noise * scale,
        state_noise=state_noise,
        spread=spread[..., :-1] * scale,
        loss=np.array([float(one["loss"]) for one in refits]).reshape(shape).mean(1),
        readouts=[name_of(name) for name in data.graph.outputs],
        replicates=replicates,
        notes=notes,
    )


def _refit(
    start: GSNN,
    hypothesis: Hypothesis,
    data: PerturbationData,
    rows: IntArray,
    y: FloatArray,
    config: TrainConfig,
    experiments: Sequence[Experiment],
    new: tuple[Sequence[int], StateAxes],
) -> dict[str, npt.NDArray[Any]]:
    """Predictions (X, O + 1) of a hypothesis, standardised, and the loss of its refit.

    The last column is the new readout. What an experiment does not measure is 0, for all hypotheses alike.
    """
    from gsnn.training import predict, train_model
    from gsnn.training.prepare import new_model

    graph = hypothesis.graph(data.graph)
    model = with_weights_of(start, new_model(graph, config)).train()
    x, target = data.x[rows], np.asarray(y[rows], np.float32)
    train_model(model, (x, target), None, config, progress=None)
    model.eval()
    treated = np.array([one.treatments for one in experiments], np.float32)
    predicted = predict(model, treated)
    knocked = np.array([one.knocked for one in experiments])
    knockouts = np.flatnonzero(knocked >= 0)
    if len(knockouts):
        clamps = clamps_of(model, Conditions.of(x, data).x, DEFAULT_STATE)
        base, which = np.unique(treated[knockouts], axis=0, return_inverse=True)
        nodes, number = np.unique(knocked[knockouts], return_inverse=True)
        _, after = predict_clamped(model, base, nodes[:, None].tolist(), clamps)
        predicted[knockouts] = after[number, which.ravel()]
    state = np.zeros(len(treated))
    read = np.array([one.read for one in experiments])
    new_readouts = np.flatnonzero(read >= 0)
    if len(new_readouts):
        functions, axes = new
        different, which = np.unique(treated[new_readouts], axis=0, return_inverse=True)
        states = axes.states(model, different)
        state[new_readouts] = states[which.ravel(), np.searchsorted(functions, read[new_readouts])]
        predicted[new_readouts] = 0
    error = y[rows] - predict(model, x)
    seen = np.isfinite(error)
    return {"predicted": np.c_[predicted, state].astype(np.float32), "loss": np.array((error[seen] ** 2).mean())}


def listed_experiments(table: pd.DataFrame, data: PerturbationData) -> list[Experiment]:
    """Experiments that a user lists.

    Args:
        table: Column ``experiment`` with treatments joined by plus signs; optional are ``knockout`` (a function),
            ``readout`` (a function that has none yet, which alone is measured) and ``cost`` (a number above 0).
        data: The data.

    Raises:
        DataError: If a column is missing, or a name or a cost is wrong, with the row.
    """
    if "experiment" not in table:
        raise DataError(f"the list of experiments needs a column 'experiment'; it has {list(table.columns)}")
    experiments = []
    for number, row in enumerate(table.to_dict("records"), start=1):
        try:
            values = inputs_of(str(row["experiment"]), data)
            knocked, read = (_function(row.get(name), data) for name in ("knockout", "readout"))
            if read >= 0 and knocked >= 0:
                raise DataError("a new readout is weighed without a knock-out; give one of the two")
            text = row.get("cost", 1.0)
            cost = float(text)
        except DataError as error:
            raise DataError(f"row {number} of the list of experiments: {error}") from error
        except (TypeError, ValueError):
            raise DataError(f"row {number} of the list of experiments: cost must be a number, got {text!r}") from None
        if not 0 < cost < np.inf:
            raise DataError(f"row {number} of the list of experiments: cost must be above 0, got {cost:g}")
        name = condition_names(values[None], data)[0]
        for node, verb in ((knocked, OUT), (read, READ)):
            name = f"{data.graph.functions[node]}{verb}{name}" if node >= 0 else name
        experiments.append(Experiment(tuple(map(float, values)), knocked, read, name, "listed", cost))
    return experiments


def _function(cell: str | float | None, data: PerturbationData) -> int:
    """Number of the function that a cell names, -1 for an empty one."""
    text = "" if cell is None or pd.isna(cell) else str(cell).strip()
    return numbers_of([text], data.graph.functions, "function")[0] if text else -1
