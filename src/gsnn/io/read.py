"""Read responses: one table with prefixes, two matrices, MIDAS or AnnData."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError, check_option, did_you_mean
from gsnn.base.wording import asked
from gsnn.io.anndata import AnnDataResponses
from gsnn.io.choose import conditions
from gsnn.io.matrices import read_matrices, read_matrix
from gsnn.io.midas import find_columns, read_midas
from gsnn.io.parquet import read_parquet
from gsnn.io.responses import FORMATS, Responses, check_one_or_two
from gsnn.io.sif import looks_like_sif
from gsnn.io.table import Table, read_table
from gsnn.io.text import HDF5, Raw, Text, as_path, decode, listed, read_raw, read_start, suffix_of

_COMMA = re.compile(r"([+-]?\d*),(\d+)([eE][+-]?\d+)?")


def read_responses(
    path: str | os.PathLike[str] | None = None,
    *,
    inputs: str | os.PathLike[str] | None = None,
    outputs: str | os.PathLike[str] | None = None,
    format: str | None = None,
    time: float | str | None = None,
    cell_line: str | None = None,
    where: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None,
    decimal: str = ".",
    anndata: Mapping[str, Any] | None = None,
    species: Collection[str] = (),
) -> Responses:
    r"""Read perturbation responses from a MIDAS file, one prefixed table, two plain matrices, or AnnData.

    The tables may be CSV, TSV (packed as ``.gz`` or not) or Parquet, which is recognised by its content.

    MIDAS is a table with treatments ``TR:<species>`` (inhibitions ``TR:<species>i``), times ``DA:<readout>``
    or ``DA:ALL``, and readouts ``DV:<species>``. Rows at time 0 are the baseline and are left out; of later
    times each readout's last is used, or ``time``. A value at another time counts as not measured, so a row with
    several times keeps the values of the right one. In a table with ``TR:`` and ``DV:`` columns and no ``DA:`` all
    rows are samples. Missing values are empty, NA or NaN in any case. A ``TR:<name>:CellLine`` column that never
    changes is ignored; a column ``CellLine`` of words, in any place, names the cell line of each row. A blank
    treatment is 0, with a warning that counts them.

    In two matrices the columns of ``inputs`` are treatments and those of ``outputs`` readouts, named as above with or
    without prefix. A first column without a name, or of text, or with the same header or the same values in both
    tables (each once), holds sample identifiers, by which the rows are paired.

    An AnnData file (``.h5ad``) is read as a whole by :class:`gsnn.io.AnnDataResponses`, which can also read a file
    larger than memory in blocks.

    Args:
        path: The MIDAS file, prefixed table or AnnData file; leave out if ``inputs`` and ``outputs`` are given.
        inputs: The matrix of treatments.
        outputs: The matrix of readouts.
        format: ``"midas"`` requires times, ``"matrix"`` ignores them, ``"h5ad"`` is AnnData; by default the content
            and the header decide.
        time: The time to use, in the units of the file.
        cell_line: Keep only the rows of this cell line, if a file holds several.
        where: Keep only the rows with these values: ``{"batch": "2"}``, or ``["batch=2"]``; all must hold. A list of
            values, or the same column twice, keeps the rows with any of them. A column of ``obs`` for AnnData.
        decimal: ``","`` reads 0,5 as a half.
        anndata: Keyword arguments of :class:`gsnn.io.AnnDataResponses`, such as ``{"perturbation": "drug"}``.
        species: Names of the network; a first column of two matrices with such a name does not hold identifiers.

    Returns:
        The responses; rows are labelled with the sample identifier, or with the line in the file.

    Raises:
        DataError: If a file cannot be read as responses; the message says where and what to do.
        MissingExtraError: If Parquet or AnnData needs a package that is not installed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "midas.csv")
        ...     _ = file.write_text("TR:egf,TR:meki,DA:ALL,DV:erk\n1,0,0,0\n1,0,10,0.9\n1,1,10,NA\n")
        ...     responses = read_responses(file)
        >>> responses.treatments
              egf  meki
        line
        3     1.0   0.0
        4     1.0   1.0
        >>> responses.readouts["erk"].tolist(), responses.times, responses.n_baseline
        ([0.9, nan], [10.0], 1)
    """
    _check_options(format, decimal)
    check_one_or_two(path, inputs, outputs)
    chosen = conditions(where)
    if inputs is not None and outputs is not None:
        if time is not None or cell_line is not None or format == "midas":
            raise DataError(
                asked("time, cell_line and format='midas'", "--time, --cell-line and --data-format midas")
                + f" belong to a MIDAS file, not to {asked('inputs= and outputs=', '--inputs and --outputs')}"
            )
        if anndata is not None or format == "h5ad":
            raise DataError(
                asked("anndata and format='h5ad'", "the options of AnnData")
                + f" belong to one .h5ad file, not to {asked('inputs= and outputs=', '--inputs and --outputs')}"
            )
        if chosen:
            raise DataError(
                f"{asked('where', '--where')} chooses rows of one file, not of two matrices; write the rows you want"
            )
        texts = {"inputs": read_raw(inputs, "inputs"), "outputs": read_raw(outputs, "outputs")}
        tables = [_table(text, role, decimal)[0] for role, text in texts.items()]
        treatments, readouts, warnings = read_matrices(tables[0], tables[1], species)
        return Responses(
            treatments,
            readouts,
            warnings=warnings,
            paths={role: text.path for role, text in texts.items()},
            sha256={role: text.sha256 for role, text in texts.items()},
        )
    assert path is not None  # checked above
    if format == "h5ad" or _is_anndata(path):
        if format in ("midas", "matrix") or time is not None or cell_line is not None:
            where_ = asked('where={"column": "value"}', '--where "column=value"')
            options = asked("format, time and cell_line", "--data-format, --time and --cell-line")
            raise DataError(
                f"'{path}' is AnnData, which has no times or cell lines of MIDAS; leave {options} out, and choose "
                f"samples by a column of obs with {where_}"
            )
        with open_anndata(path, anndata, chosen) as opened:
            return opened.read()
    if anndata is not None:
        raise refuse_anndata(anndata, path)
    raw = read_raw(path, "responses")
    table, text = _table(raw, "responses", decimal)
    if text and not any(h.upper().startswith(("TR:", "DV:")) for h in table.header) and looks_like_sif(text):
        raise DataError(
            f"responses file '{raw.path}' is a network in SIF, without TR: and DV: columns; are the network and the "
            "responses swapped?"
        )
    columns = find_columns(table)
    if format == "midas" and not columns.times:
        raise DataError(
            f"{raw.path} has no DA: columns, which MIDAS needs; pass "
            + asked("format='matrix'", "--data-format matrix")
            + " if it has no times"
        )
    if format == "matrix":
        columns.times.clear()
    timepoint = None if time is None else _time(time)
    if timepoint is not None and not columns.times:
        raise DataError(
            f"{asked(f'time={time}', f'--time {time}')} was given, but {raw.path} has no times (DA: columns); "
            "leave it out"
        )
    return read_midas(table, columns, raw.sha256, timepoint, cell_line, chosen)


def read_treatments(
    path: str | os.PathLike[str] | None = None,
    *,
    inputs: str | os.PathLike[str] | None = None,
    format: str | None = None,
    decimal: str = ".",
    anndata: Mapping[str, Any] | None = None,
) -> Responses:
    r"""Read treatments alone, for instance of experiments that have not been done.

    Args:
        path: A table with columns ``TR:<species>``, a MIDAS file, or AnnData; a table without any such prefix is read
            as a matrix of treatments. Readouts and their times are ignored, and rows at time 0 are kept.
        inputs: In place of ``path``, a matrix of treatments, as for :func:`read_responses`.
        format: As for :func:`read_responses`.
        decimal: Likewise.
        anndata: Likewise, for AnnData.

    Returns:
        The treatments, each distinct row of a file with readouts once, and a table of readouts without columns.

    Raises:
        DataError: If the file cannot be read as treatments.
        MissingExtraError: If Parquet or AnnData needs a package that is not installed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "new.csv")
        ...     _ = file.write_text("condition,egf,meki\nA,1,0\nB,1,0.5\n")
        ...     read_treatments(file).treatments
                   egf  meki
        condition
        A          1.0   0.0
        B          1.0   0.5
    """
    _check_options(format, decimal)
    if (path is None) == (inputs is None):
        raise DataError(
            f"give the new treatments with {asked('path or inputs=', '--data or --inputs')}, one of the two"
        )
    role, file = ("inputs", inputs) if path is None else ("data", path)
    assert file is not None  # checked above
    measured = False
    if path is not None and (format == "h5ad" or _is_anndata(path)):
        with open_anndata(path, anndata) as opened:
            responses = opened.read()
        measured = True
    else:
        raw = read_raw(file, "treatments")
        table, _ = _table(raw, "treatments", decimal)
        if path is None or not any(name[:3].upper() in ("TR:", "DV:", "DA:") for name in table.header):
            frame = read_matrix(table, "TR:", "treatment", missing=False)
            responses = Responses(frame, frame, paths={role: raw.path}, sha256={role: raw.sha256})
        else:
            columns = find_columns(table, measured=False)
            measured = bool(columns.readouts)
            columns.readouts, columns.readout_names = [], []
            responses = read_midas(table, columns, raw.sha256)
    treatments = responses.treatments
    if measured:
        treatments = treatments[~treatments.duplicated().to_numpy()]
    return Responses(
        treatments,
        pd.DataFrame(index=treatments.index),
        kinds=responses.kinds,
        warnings=responses.warnings,
        paths=responses.paths,
        sha256=responses.sha256,
    )


def _check_options(format: str | None, decimal: str) -> None:
    if format is not None:
        check_option(asked("format", "--data-format"), format, FORMATS, DataError)
    if decimal not in (".", ","):
        raise DataError(f"{asked('decimal', '--decimal')} must be '.' or ',', got {decimal!r}")


def refuse_anndata(options: Mapping[str, Any], path: str | os.PathLike[str]) -> DataError:
    """The error for options of AnnData with a file of another format."""
    names = ("exclude-label" if name == "exclude" else name.replace("_", "-") for name in options)
    flags = ", ".join(f"--{name}" for name in names)
    return DataError(f"{asked('anndata=', flags)} is for AnnData, and '{path}' is not a .h5ad file; leave it out")


def _table(raw: Raw, what: str, decimal: str) -> tuple[Table, Text | None]:
    """The file as a table, and its text if it is text."""
    if raw.is_parquet:
        stored = read_parquet(raw, what)
        return (stored if decimal == "." else stored.with_cells(_with_point)), None
    text = decode(raw, what)
    table = read_table(text, what)
    if decimal == ",":
        if table.delimiter == "," and not any("," in cell for row in table.rows for cell in row):
            raise DataError(
                f"{raw.path}: commas separate the cells, so they cannot be decimal commas too; leave "
                f"{asked('decimal', '--decimal')} out, or quote the numbers"
            )
        table = replace(table, rows=[[_with_point(cell) for cell in row] for row in table.rows])
    return table, text


def _with_point(cell: str) -> str:
    """A number with a decimal point in place of its comma; any other text is not changed."""
    return _COMMA.sub(r"\1.\2\3", cell) if _COMMA.fullmatch(cell) else cell


def _is_anndata(path: str | os.PathLike[str]) -> bool:
    return suffix_of(as_path(path, "responses")) == ".h5ad" or read_start(path, "responses").startswith(HDF5)


def open_anndata(
    path: str | os.PathLike[str],
    options: Mapping[str, Any] | None,
    where: Mapping[str, str | Sequence[str]] | Sequence[str] | None = None,
) -> AnnDataResponses:
    """Open an AnnData file with the options of a user and ``where``; an unknown option is a DataError."""
    options = {**(options or {}), **({"where": conditions(where)} if where else {})}
    known = [name for name in inspect.signature(AnnDataResponses).parameters if name not in {"path", "chunk_size"}]
    for name in options:
        if name not in known:
            raise DataError(f"anndata has no option '{name}'{did_you_mean(name, known)}; use {listed(known, 20)}")
    return AnnDataResponses(path, **options)


def _time(time: float | str) -> float:
    try:
        value = float(time)
    except ValueError as error:
        raise DataError(f"time must be a number, got {time!r}") from error
    if not np.isfinite(value) or value == 0:
        raise DataError(f"time must be a time after 0, which is the baseline, got {time!r}")
    return value
