"""Perturbation data on a prior network, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.data.drawn import Drawn
from gsnn.data.matching import count_dropped, match
from gsnn.data.split import MIN_SAMPLES, Codes, SampleArray, Split, conditions, draw_split
from gsnn.data.standardiser import ColumnMoments, odd_columns
from gsnn.graph import Graph
from gsnn.io import NameMap, Network, Responses
from gsnn.io.name_map import Scale
from gsnn.io.table import MISSING
from gsnn.io.text import counted, listed


@dataclass(frozen=True, eq=False)
class PerturbationData:
    """A graph with the treatments of its inputs and the measurements of its outputs.

    Letters: M samples, I inputs, O outputs.

    Attributes:
        graph: The prior network with an input per treatment and an output per readout.
        inputs: (M, I) numbers without gaps; the columns are ``graph.inputs``, in order.
        outputs: (M, O) numbers, NaN where nothing was measured; the columns are ``graph.outputs``, in order.
        warnings: What a user should know: about the files, the match, and the graph.
        sources: The files by role (``graph``, ``data`` or ``inputs`` and ``outputs``, ``map``), each with ``path`` and
            ``sha256``. JSON-able.
        scales: Input -> the scale of its doses, as ``log:1.5`` (:class:`gsnn.io.name_map.Scale`); other doses are not
            scaled.
        drawn: How the samples were drawn, if these are a part of them.

    Raises:
        DataError: If the tables do not fit the graph or each other, or an input is missing.

    Example:
        >>> treatments = pd.DataFrame({"egfr": [0.0, 1, 1]})
        >>> readouts = pd.DataFrame({"erk": [0.25, 0.75, 0.5], "jun": [0.5, np.nan, 0.5]})
        >>> network = Network.from_edges([("egfr", "erk", 1), ("erk", "jun", 1)])
        >>> data = build_data(network, Responses(treatments, readouts))
        >>> data.x.shape, data.y.tolist()
        ((3, 1), [[0.25, 0.5], [0.75, nan], [0.5, 0.5]])
    """

    graph: Graph
    inputs: pd.DataFrame
    outputs: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    scales: dict[str, str] = field(default_factory=dict)
    drawn: Drawn | None = None

    def __post_init__(self) -> None:
        for name, table, nodes in (
            ("inputs", self.inputs, self.graph.inputs),
            ("outputs", self.outputs, self.graph.outputs),
        ):
            if list(table.columns) != list(nodes):
                raise DataError(
                    f"the columns of {name} must be graph.{name} in order, got {listed(table.columns)} "
                    f"for {listed(nodes)}; reorder or rename them"
                )
        if len(self.inputs) != len(self.outputs):
            raise DataError(f"inputs have {len(self.inputs)} rows and outputs {len(self.outputs)}; give one per sample")
        if not np.isfinite(self.inputs.to_numpy(dtype=float)).all():
            raise DataError("inputs hold missing or infinite values; a treatment must be known, 0 where not applied")
        if np.isinf(self.outputs.to_numpy(dtype=float)).any():
            raise DataError("outputs hold infinite values; write NaN where nothing was measured")

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """Inputs, float32 of shape (M, I)."""
        return self.inputs.to_numpy(dtype=np.float32)

    @property
    def y(self) -> npt.NDArray[np.float32]:
        """Outputs, float32 of shape (M, O), NaN where nothing was measured."""
        return self.outputs.to_numpy(dtype=np.float32)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        """The counts on one line."""
        missing = int(self.outputs.isna().to_numpy().sum())
        return (
            f"{counted(len(self), 'sample')}, {counted(self.graph.I, 'input')}, "
            f"{counted(self.graph.N, 'function')}, {counted(self.graph.O, 'output')}, "
            f"{counted(missing, 'missing value')} of {self.outputs.size}"
        )

    def split(self, seed: int | np.random.Generator = 0, test: float = 0.2, validation: float = 0.1) -> Split:
        """Set samples aside by distinct treatment row, so that a condition is never in two parts.

        The shares are shares of the distinct rows, rounded, at least one each. With fewer than 5 distinct rows samples
        are drawn instead, with a warning, since so few conditions cannot measure anything.

        Args:
            seed: Seed or generator of the draw, which does not depend on the order of the samples.
            test: Share for the test, in [0, 1); 0 leaves the part empty.
            validation: Share for the validation, likewise.

        Raises:
            ValueError: If a share is out of range or nothing is left to train on.

        Example:
            >>> x = pd.DataFrame({"a": [0.0, 0, 1, 1, 2, 3, 4]})
            >>> data = build_data(Network.from_edges([("a", "b")]), Responses(x, pd.DataFrame({"b": np.arange(7.0)})))
            >>> split = data.split(seed=1)
            >>> split.by, sorted([*split.train, *split.validation, *split.test]) == list(range(7))
            ('condition', True)
        """
        return draw_split(conditions(self.x), seed, test, validation)

    @property
    def buffer_rows(self) -> int:
        """Number of samples that may be in memory at a time: all of them."""
        return len(self)

    def stretches(self) -> list[tuple[int, int]]:
        """First row of each stretch, and the row after its last: there is one."""
        return [(0, len(self))]

    def chunks(
        self, codes: Codes | None = None, stretches: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Codes, SampleArray, SampleArray]]:
        """All samples in one chunk, as from :meth:`gsnn.data.StreamedData.chunks`."""
        if stretches is None or 0 in stretches:
            yield 0, np.zeros(len(self), np.int8) if codes is None else codes, self.x, self.y


def build_data(
    network: Network,
    responses: Responses,
    *,
    on_unmatched: str = "error",
    ignore_case: bool = False,
    names: NameMap | None = None,
) -> PerturbationData:
    """Put responses on a prior network.

    Every species is a function node. A treatment ``x`` becomes the input ``TR:x`` with one edge to species ``x``;
    ``xi``, where ``x`` is a species and ``xi`` is none, the input ``TR:xi`` with one inhibiting edge to ``x``. A
    readout ``x`` becomes the output ``DV:x``, fed by ``x``. Self-edges of the network are left out, since the model
    adds one to every function, and so are samples without any measured readout, both with a warning.

    Args:
        network: The prior network.
        responses: Treatments and readouts.
        on_unmatched: What to do with treatments and readouts that are no species: ``"error"``, or ``"drop"`` them
            with a warning. The samples to which a dropped treatment was applied are dropped as well.
        ignore_case: Whether to ignore case for a name that is not exactly a species.
        names: The species of labels, such as those of drugs and phosphosites, and the scales of doses
            (:func:`gsnn.io.read_name_map`). A label names its node (``TR:label``, ``DV:label``) and may have several
            species.

    Raises:
        DataError: If identifiers do not match (all are listed, with the closest names), a species is named like an
            input or output, or fewer than 3 samples are left.

    Example:
        >>> network = Network.from_edges([("egfr", "mek", 1), ("mek", "erk", 1)])
        >>> treatments = pd.DataFrame({"egfr": [0.0, 1, 1], "meki": [0.0, 0, 1]})
        >>> data = build_data(network, Responses(treatments, pd.DataFrame({"erk": [0.1, 0.9, 0.2]})))
        >>> data.graph.inputs, data.graph.outputs
        (('TR:egfr', 'TR:meki'), ('DV:erk',))
        >>> data.graph.edge_sign_dict["input", "to", "function"].tolist()
        [1, -1]
    """
    matched = match(network, responses, on_unmatched, ignore_case=ignore_case, names=names)
    x = responses.treatments.iloc[:, matched.treatments].set_axis(matched.inputs, axis="columns")
    y = responses.readouts.iloc[:, matched.readouts].set_axis(matched.outputs, axis="columns")
    x, y = _numeric(x, "treatment", responses.name), _numeric(y, "readout", responses.name)
    warnings = list(matched.warnings)
    n_dropped = 0
    if matched.dropped:
        applied = (responses.treatments.iloc[:, matched.dropped].to_numpy() != 0).any(axis=1)
        n_dropped = int(applied.sum())
        warnings.append(count_dropped(n_dropped, [str(responses.treatments.columns[i]) for i in matched.dropped]))
        x, y = x.loc[~applied], y.loc[~applied]
    measured = y.notna().any(axis="columns").to_numpy()
    if not measured.all():
        warnings.append(f"{counted(int((~measured).sum()), 'sample')} without any measured readout left out")
        x, y = x.loc[measured], y.loc[measured]
    if len(x) < MIN_SAMPLES:
        gone = [
            counted(responses.n_baseline, "baseline row") + " at time 0" if responses.n_baseline else "",
            counted(responses.n_other_times, "row") + " at other times" if responses.n_other_times else "",
            counted(n_dropped, "sample") + " with a treatment that was dropped" if n_dropped else "",
        ]
        before = f" after {' and '.join(each for each in gone if each)}" if any(gone) else ""
        hint = ""
        if responses.n_other_times:
            hint = (
                f"; one time of a time course is used ({asked('time=', '--time')} chooses it), and each row there is a "
                "sample: give more conditions"
            )
        raise DataError(
            f"{responses.name} holds {counted(len(x), 'usable sample')}{before}; at least {MIN_SAMPLES} are needed, "
            f"one each to train, validate and test{hint}"
        )
    x, scales = _scaled(x, names)
    graph = matched.graph(warnings)
    sources = {} if network.path is None else {"graph": _source(str(network.path), network.sha256)}
    for role, path in responses.paths.items():
        sources[role] = _source(str(path), responses.sha256.get(role))
    if names is not None and names.path is not None:
        sources["map"] = _source(str(names.path), names.sha256)
    data = PerturbationData(graph, x, y, warnings, sources, scales)  # refuses infinite values
    inputs, outputs = ColumnMoments(graph.I), ColumnMoments(graph.O)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values overflow in squares, which are not used here
        inputs.update(x.to_numpy(dtype=float))
        outputs.update(y.to_numpy(dtype=float))
    warnings += odd_columns(graph, inputs, outputs) + graph.summary().warnings
    return data


def _scaled(x: pd.DataFrame, names: NameMap | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Doses on the scales of the map, and the scales with their units by input."""
    chosen = {f"TR:{label}": scale for label, scale in (names.scales if names else {}).items()}
    scales = {}
    for name in x.columns:
        if chosen.get(name, Scale()).kind == "none":
            continue
        doses = x[name].to_numpy(dtype=float)
        scale = chosen[name].of(doses)
        x = x.assign(**{name: scale.apply(doses)})
        scales[str(name)] = str(scale)
    return x, scales


def _numeric(table: pd.DataFrame, kind: str, where: str) -> pd.DataFrame:
    """The table with text converted to numbers; DataError for a cell that is no number."""
    for j, name in enumerate(table.columns):
        column = table.iloc[:, j]
        if pd.api.types.is_numeric_dtype(column.dtype):
            continue
        numbers = pd.to_numeric(column, errors="coerce")
        blank = column.isna() | column.astype(str).str.strip().str.casefold().isin(MISSING)
        wrong = column[numbers.isna() & ~blank]
        if len(wrong):
            raise DataError(
                f"{where}: {kind} '{name}' holds {wrong.iloc[0]!r} in row {wrong.index[0]!r}, which is not a number; "
                "convert it, or leave the column out"
            )
        table = table.assign(**{str(name): numbers.astype(float)})
    return table


def _source(path: str, sha256: str | None) -> dict[str, str]:
    return {"path": path} if sha256 is None else {"path": path, "sha256": sha256}
