"""Open files of any format as a stream of responses."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gsnn.base.errors import DataError
from gsnn.base.wording import asked
from gsnn.io.read import open_anndata, refuse_anndata
from gsnn.io.responses import check_one_or_two
from gsnn.io.stream import StreamedResponses
from gsnn.io.stream_arrays import ArrayResponses
from gsnn.io.stream_h5ad import AnnDataStream
from gsnn.io.stream_parquet import ParquetResponses
from gsnn.io.text import HDF5, NPY, PARQUET, listed, read_start


def stream_kind(path: str | os.PathLike[str]) -> str | None:
    """The format of a file that can be streamed, by its content: ``parquet``, ``h5ad`` or ``npy``; None for others.

    Raises:
        DataError: If there is no such file.
    """
    start = read_start(path, "responses")
    known = ((PARQUET, "parquet"), (HDF5, "h5ad"), (NPY, "npy"))
    return next((kind for magic, kind in known if start.startswith(magic)), None)


def stream_responses(
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
    names: Mapping[str, list[str]] | None = None,
    species: Collection[str] = (),
) -> StreamedResponses:
    """Open responses without reading them: Parquet, AnnData, or two ``.npy`` files.

    It has the parameters of :func:`gsnn.io.read_responses`, and refuses those that a stream cannot have.

    Args:
        path: A Parquet table with ``TR:`` and ``DV:`` columns, or an AnnData file.
        inputs: The matrix of treatments, as Parquet or ``.npy``.
        outputs: The matrix of readouts, of the same format.
        format: As for :func:`gsnn.io.read_responses`; ``"midas"`` is refused.
        time: Refused: the last time is known only at the end.
        cell_line: Refused.
        where: As for :func:`gsnn.io.read_responses`, of AnnData; refused for the others.
        decimal: No effect, since it is for text only.
        anndata: Keyword arguments of :class:`gsnn.io.AnnDataResponses`.
        names: For ``.npy`` files, the names of their columns, under ``treatments`` and ``readouts``.
        species: As for :func:`gsnn.io.read_responses`.

    Raises:
        DataError: If the files cannot be streamed.
        MissingExtraError: If Parquet or AnnData needs a package that is not installed.

    Example:
        >>> import numpy as np, tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = {"inputs": Path(folder, "x.npy"), "outputs": Path(folder, "y.npy")}
        ...     for file in files.values():
        ...         np.save(file, np.ones((4, 1)))
        ...     responses = stream_responses(**files, names={"treatments": ["egf"], "readouts": ["erk"]})
        ...     len(responses)
        4
    """
    check_one_or_two(path, inputs, outputs)
    paths = [p for p in (path, inputs, outputs) if p is not None]
    kinds = [stream_kind(p) for p in paths]
    for p, kind in zip(paths, kinds, strict=True):
        if kind is None or (kind == "h5ad" and path is None) or (kind == "npy" and path is not None):
            allowed = "Parquet or AnnData (.h5ad)" if path is not None else "two Parquet or two .npy files"
            raise DataError(
                f"'{p}' cannot be streamed: a stream is {allowed}; read it into memory "
                f"({asked('read_responses', '--no-stream')})"
            )
    if len(set(kinds)) > 1:
        raise DataError(f"'{paths[0]}' is {kinds[0]} and '{paths[1]}' {kinds[1]}; a stream needs both in one format")
    if format == "midas" or time is not None or cell_line is not None:
        raise DataError(
            "times and cell lines cannot be chosen from a stream; write the rows of one, and leave these out"
        )
    if where and kinds[0] != "h5ad":
        raise DataError(
            f"{asked('where', '--where')} chooses samples of tables in memory and of AnnData; write the rows you "
            f"want, or read the table into memory ({asked('read_responses', '--no-stream')})"
        )
    if names is not None and kinds[0] != "npy":
        option = asked("names=", "--treatment-names and --readout-names")
        raise DataError(f"{option} belongs to .npy files; the columns of the others have names")
    if anndata and kinds[0] != "h5ad":
        raise refuse_anndata(anndata, paths[0])
    if kinds[0] == "parquet":
        return ParquetResponses(path, inputs=inputs, outputs=outputs, species=species)
    if kinds[0] == "h5ad":
        return AnnDataStream(open_anndata(paths[0], anndata, where))
    if names is None or set(names) != {"treatments", "readouts"}:
        raise DataError(
            f"'{paths[0]}' has no names of columns, got {listed(names or ()) or 'none'}; give the treatments "
            "and the readouts: "
            + asked("names={'treatments': [...], 'readouts': [...]}", "--treatment-names, --readout-names")
        )
    return ArrayResponses(paths[0], paths[1], treatments=names["treatments"], readouts=names["readouts"])
