"""Perturbation responses in AnnData files, in blocks of rows."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsnn.base.errors import DataError, did_you_mean
from gsnn.base.files import sha256
from gsnn.base.wording import asked
from gsnn.io.choose import check_left, conditions, holds, unknown_column
from gsnn.io.h5ad import ANNDATA, Matrix, columns, index_of, length, open_file, read_column, runs, text
from gsnn.io.limits import as_data_error, check_growth
from gsnn.io.responses import Responses
from gsnn.io.table import check_unique
from gsnn.io.text import as_path, clean_name, counted, listed
from gsnn.io.treatments import Treatments, obs_treatments, obsm_treatments

CHUNK = 1024
EFFECTS = ("stimulus", "inhibitor")


class AnnDataResponses:
    """Responses in an AnnData file, read in blocks of samples on demand.

    Letters: B samples in a block, M samples in the file, I treatments, O readouts. A block takes the memory of B rows
    of the stored matrix plus B x (I + O) float32; codes and doses of the M samples, and the row pointer of a sparse
    matrix, take some 20 bytes a sample. The matrix is never loaded as a whole, unless it is stored by columns (CSC),
    which :meth:`chunks` therefore refuses.

    It is a map-style data set of PyTorch, with a length, ``[i]`` and the blockwise ``__getitems__``. It may be sent to
    worker processes, each of which opens the file again. Close it, or use it in a ``with`` block.

    Args:
        path: The file.
        perturbation: Columns of ``obs`` that say what was done. A column of categories or text becomes an indicator
            (0 or 1) per category; a column of numbers or booleans becomes a treatment with its name and values.
        dose: A numeric column of ``obs`` by which the indicators are multiplied.
        control: Categories that are no treatment; by default the usual words for it (control, DMSO, vehicle, ...).
        separator: Separator of several treatments in one category: ``"+"`` for ``A+B``. By default none.
        obsm: Instead of ``perturbation``, the key in ``obsm`` of a matrix of samples by treatments.
        treatment_names: The names of its columns, if it is a matrix and not a table.
        effect: ``"inhibitor"`` if all treatments inhibit the species they name (knock-downs), ``"stimulus"`` if none
            does; by default the names decide, as for MIDAS.
        layer: The layer with the responses, by default X.
        var_names: The column of ``var`` with the names of the readouts, by default its index.
        readouts: Keep only variables of these names, for instance ``network.species``.
        where: Keep only the samples with these values in columns of ``obs``: ``{"cell_type": "T cell"}``, or several
            values of a column in a list.
        exclude: Labels of ``perturbation`` whose samples are left out, such as ``"unassigned"``.
        chunk_size: Samples in a block.

    Raises:
        DataError: If the file is not AnnData, is truncated, or lacks something that an argument names.
        MissingExtraError: If h5py is not installed.

    Attributes:
        path: The file.
        treatments: Names of the treatments, in order.
        readouts: Names of the readouts, in order.
        kinds: As in :class:`gsnn.io.Responses`.
        warnings: What a user should know about the file.
        chunk_size: Samples in a block of :meth:`chunks`.

    Example:
        >>> import h5py, tempfile
        >>> from pathlib import Path
        >>> def table(file, name, index, **columns):
        ...     group = file.create_group(name)
        ...     group.attrs.update({"_index": "_index", "column-order": list(columns)})
        ...     for key, values in {"_index": index, **columns}.items():
        ...         group[key] = values
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "cells.h5ad")
        ...     with h5py.File(path, "w") as file:  # AnnData writes this, and more
        ...         table(file, "obs", ["c1", "c2", "c3"], drug=["EGF", "control", "TNF"])
        ...         table(file, "var", ["ERK", "JUN"])
        ...         file["X"] = [[1.0, 0.0], [0.0, 0.0], [0.5, 2.0]]
        ...     with AnnDataResponses(path, perturbation="drug", chunk_size=2) as responses:
        ...         sizes = [len(chunk.readouts) for chunk in responses.chunks()]
        ...         x, y = responses[2]
        >>> responses.treatments, responses.readouts, sizes
        (['EGF', 'TNF'], ['ERK', 'JUN'], [2, 1])
        >>> x.tolist(), y.tolist()
        ([0.0, 1.0], [0.5, 2.0])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        perturbation: str | Sequence[str] | None = None,
        dose: str | None = None,
        control: str | Collection[str] | None = None,
        separator: str | None = None,
        obsm: str | None = None,
        treatment_names: Sequence[str] | None = None,
        effect: str | None = None,
        layer: str | None = None,
        var_names: str | None = None,
        readouts: Collection[str] | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        exclude: str | Collection[str] = (),
        chunk_size: int = CHUNK,
    ) -> None:
        # Other processes open the file again with the same options.
        self._options = {name: value for name, value in locals().items() if name not in ("self", "path")}
        self.path = as_path(path, "responses")
        self._pid = os.getpid()
        self._file: Any = None
        if effect is not None and effect not in EFFECTS:
            raise DataError(f"effect must be 'stimulus', 'inhibitor' or None, got {effect!r}")
        if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
            raise DataError(f"chunk_size must be an integer of at least 1, got {chunk_size!r}")
        if obsm is None and treatment_names is not None:
            raise DataError(
                f"{asked('treatment_names', '--treatment-names')} names the columns of {asked('obsm=', '--obsm')}; "
                "give that, or leave the names out"
            )
        if obsm is not None and not (dose is control is separator is None):
            raise DataError(
                asked("dose, control and separator", "--dose, --control and --separator")
                + " belong to "
                + asked("perturbation=, not to obsm=", "--perturbation, not to --obsm")
                + "; leave them out"
            )
        if obsm is not None and exclude:
            raise DataError(
                f"{asked('exclude', '--exclude-label')} is for labels of {asked('perturbation=', '--perturbation')}; "
                f"choose samples by a column of obs with {asked('where=', '--where')}"
            )
        self.chunk_size = chunk_size
        self._layer = layer
        self._file = open_file(self.path, "responses")
        self._stored = self.path.stat().st_size
        try:
            with as_data_error(self.path, ANNDATA):
                self.warnings: list[str] = []
                self._matrix = self._find_matrix()
                self._n = length(index_of(self._file["obs"], self.path, "obs"))
                self.readouts, self._keep = self._find_readouts(var_names, readouts)
                if self._matrix.shape[0] != self._n:
                    raise DataError(
                        f"{self.path}: {self._matrix_name} has {self._matrix.shape[0]} rows for the {self._n} of 'obs'"
                    )
                self.categories = obsm is None
                self.labels = self.categories and separator is None
                chosen = None if not where else self._find_rows(where)
                self._treatments = self._find_treatments(chosen)
                gone = self._treatments.excluded
                if gone is None and chosen is not None:
                    gone = ~chosen
                self._rows: NDArray[np.intp] | None = None
                if gone is not None:
                    self._rows = np.flatnonzero(~gone)
                    self.warnings.append(f"{counted(int(gone.sum()), 'sample')} of {self._n} left out as asked for")
                    self._n = len(self._rows)
                self.warnings += self._treatments.warnings
                self.treatments = list(self._treatments.names)
                self.kinds: dict[str, str] = {}
                if effect is not None:
                    # As in MIDAS: an explicit inhibitor of x is column "xi".
                    self.treatments = [n + "i" if effect == "inhibitor" else n for n in self.treatments]
                    self.kinds = dict.fromkeys(self.treatments, effect)
        except BaseException:
            self.close()
            raise

    @property
    def _matrix_name(self) -> str:
        return "X" if self._layer is None else f"layers['{self._layer}']"

    def _find_matrix(self) -> Matrix:
        layers = list(self._file["layers"]) if "layers" in self._file else []
        if self._layer is not None and self._layer not in layers:
            hint = did_you_mean(self._layer, layers)
            raise DataError(f"{self.path} has no layer '{self._layer}'{hint}; it has {listed(layers) or 'none'}")
        if self._layer is None and "X" not in self._file:
            if layers:
                way = f"choose one of its layers with {asked('layer=', '--layer')}: {listed(layers)}"
            elif "raw" in self._file:
                way = "its numbers stand in raw: write adata.raw.to_adata().write_h5ad('data.h5ad')"
            else:
                way = "it has no layers either: write the measurements into X"
            raise DataError(f"{self.path} has no X; {way}")
        element = self._file["X"] if self._layer is None else self._file["layers"][self._layer]
        return Matrix(element, self.path, self._matrix_name)

    def _find_readouts(
        self, var_names: str | None, readouts: Collection[str] | None
    ) -> tuple[list[str], NDArray[np.intp] | None]:
        index = index_of(self._file["var"], self.path, "var")
        if var_names is None:
            names = text(index)
        else:
            column = read_column(self._file, "var", var_names, self.path)
            if column.values is not None:
                raise DataError(f"{self.path}: column '{var_names}' of 'var' holds numbers; names must be text")
            names = [column.categories[code] if code >= 0 else "" for code in column.codes]
        if len(names) != self._matrix.shape[1]:
            raise DataError(
                f"{self.path}: {self._matrix_name} has {self._matrix.shape[1]} columns for the {len(names)} of 'var'"
            )
        keep: NDArray[np.intp] | None = None
        if readouts is not None:
            if isinstance(readouts, str):
                raise DataError(f"readouts must be a list of names, got the string {readouts!r}; put it in []")
            chosen = set(readouts)
            keep = np.flatnonzero([name in chosen for name in names])
            names = [names[i] for i in keep]
            if not names:
                raise DataError(
                    f"{self.path}: none of the {counted(len(chosen), 'name')} in readouts ({listed(sorted(chosen))}) "
                    f"is a variable; the variables are {listed(text(index, slice(0, 6)))}, ..."
                )
            lost = len(chosen - set(names))
            if lost:
                self.warnings.append(f"{counted(lost, 'name')} in readouts that no variable has")
        if not names:
            raise DataError(f"{self.path} has no variables, so nothing was measured")
        for i, name in enumerate(names, 1):
            clean_name(name, self.path, i, "variable")
        if keep is not None:  # variables that the network does not have may repeat
            check_unique(names, self.path, "readout")
        return names, keep

    def _find_treatments(self, chosen: NDArray[np.bool_] | None) -> Treatments:
        perturbation, obsm, separator = (self._options[name] for name in ("perturbation", "obsm", "separator"))
        if (perturbation is None) == (obsm is None):
            keys = list(self._file["obsm"]) if "obsm" in self._file else []
            raise DataError(
                f"{self.path}: say what was done to the samples, by {asked('perturbation=', '--perturbation')} "
                f"(columns of 'obs': {listed(columns(self._file['obs']), 12) or 'none'}) or by "
                f"{asked('obsm=', '--obsm')} ({listed(keys, 12) or 'none'})"
                + (", not both" if perturbation is not None else "")
            )
        if obsm is not None:
            treatments = obsm_treatments(self._file, self.path, obsm, self._options["treatment_names"])
        else:
            names, control, exclude = (
                [value] if isinstance(value, str) else value
                for value in (perturbation, self._options["control"], self._options["exclude"])
            )
            if separator == "":
                raise DataError("separator must be at least one character, got ''; leave it out for none")
            dose = self._options["dose"]
            treatments = obs_treatments(self._file, self.path, names, dose, control, separator, exclude, chosen)
        if self._n and len(treatments.rows(0, 1)) != 1:
            raise DataError(f"{self.path}: the treatments have no row for each of the {self._n} of 'obs'")
        return treatments

    def _find_rows(self, where: Mapping[str, str | Sequence[str]]) -> NDArray[np.bool_]:
        """(M,) whether each sample has the values in ``where``."""
        keep = np.ones(self._n, bool)
        frame = f"{self.path}: obs"
        known = columns(self._file["obs"])
        chosen = conditions(where)
        for name, values in chosen.items():
            if name not in known:
                raise unknown_column(frame, name, known)
            column = read_column(self._file, "obs", name, self.path)
            if column.values is None:
                used = np.unique(column.codes[column.codes >= 0])
                hit = holds(frame, name, [column.categories[code] for code in used], values)
                keep &= np.isin(column.codes, used[hit])
            else:
                words = {1.0: "True", 0.0: "False"} if column.truth else {}
                cells = [words.get(v) or (str(int(v)) if v.is_integer() else str(v)) for v in column.values.tolist()]
                keep &= holds(frame, name, cells, values)
        check_left(frame, keep, chosen)
        return keep

    def _physical(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Runs of rows in the file for a range of samples."""
        return [(start, stop)] if self._rows is None else list(runs(self._rows[start:stop])) or [(0, 0)]

    def _treated(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.concatenate([self._treatments.rows(a, b) for a, b in self._physical(start, stop)])

    def _measured(self, start: int, stop: int) -> NDArray[np.float32]:
        places = self._physical(start, stop)
        if len(places) > 1 and not self._matrix.streams:  # each piece would read the whole matrix
            first = places[0][0]
            block = self._matrix.rows(first, places[-1][1], self._keep)
            return np.concatenate([block[a - first : b - first] for a, b in places])
        return np.concatenate([self._matrix.rows(a, b, self._keep) for a, b in places])

    @property
    def other_names(self) -> dict[str, list[str]]:
        """Other names of the readouts, by column of ``var`` that holds text."""
        names = {}
        with as_data_error(self.path, ANNDATA):
            for name in columns(self._file["var"]):
                column = read_column(self._file, "var", name, self.path)
                if column.values is None:
                    names[name] = list(column.categories)
            if self._options["var_names"] is not None:
                names["_index"] = text(index_of(self._file["var"], self.path, "var"))
        return names

    def __len__(self) -> int:
        return self._n

    def __getitem__(
        self, rows: int | slice | Sequence[int] | NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Treatments (B, I) and readouts (B, O) of some samples, in that order; (I,) and (O,) of a single sample."""
        if isinstance(rows, int | np.integer):
            i = int(rows)
            if not -self._n <= i < self._n:
                raise IndexError(f"row {i} of {self._n} samples")
            x, y = self._block(i % self._n, i % self._n + 1)
            return x[0], y[0]
        if isinstance(rows, slice):
            rows = np.arange(self._n)[rows]
        index = np.asarray(rows)
        if index.dtype == bool:
            raise TypeError("rows must be numbers of samples, got booleans; pass numpy.flatnonzero(rows)")
        index = index.astype(np.intp)
        if index.size and not (-self._n <= index.min() and index.max() < self._n):
            raise IndexError(f"rows {index.min()} to {index.max()} of {self._n} samples")
        # The file is read forwards, each row once, in whatever order the samples are wanted.
        ordered, inverse = np.unique(index % max(self._n, 1), return_inverse=True)
        blocks = [self._block(a, b) for a, b in runs(ordered)] or [self._block(0, 0)]
        x, y = (np.concatenate([block[side] for block in blocks]) for side in (0, 1))
        return x[inverse], y[inverse]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Samples of a batch, read together; PyTorch's ``DataLoader`` calls this."""
        x, y = self[list(rows)]
        return list(zip(x, y, strict=True))

    @property
    def streams(self) -> bool:
        """Whether rows can be read without reading the whole matrix: not if it is stored by columns (CSC)."""
        return self._matrix.streams

    @property
    def stored_rows(self) -> int:
        """Rows of a block in which the matrix is stored; 1 if there are no blocks."""
        return self._matrix.stored_rows

    def treated(self, start: int, stop: int) -> NDArray[np.float32]:
        """Treatments (B, I) of some samples, without reading their readouts."""
        self._reopen()
        with as_data_error(self.path, ANNDATA):
            return self._treated(start, stop)

    def _reopen(self) -> None:
        if self._file is None:
            raise DataError(f"{self.path} was closed; open it again")
        if self._pid != os.getpid():
            # A forked process shares the file position with its parent and needs a handle of its own.
            self.__dict__.update(type(self)(self.path, **self._options).__dict__)

    def _block(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._reopen()
        # The size of a sparse matrix in the file says nothing about the dense one.
        needed = 4 * (stop - start) * (len(self._treatments.names) + self._matrix.shape[1])
        check_growth(needed, self._stored, self.path, f"a block of {stop - start} rows as a dense matrix")
        with as_data_error(self.path, ANNDATA):
            return self._treated(start, stop), self._measured(start, stop)

    def chunks(self, size: int | None = None) -> Iterator[Responses]:
        """All samples in order, a block at a time.

        Args:
            size: Samples in a block; by default ``chunk_size``.

        Yields:
            The blocks, the last one possibly shorter.

        Raises:
            DataError: If the matrix is stored by columns and does not fit in one block.
        """
        size = self.chunk_size if size is None else size
        if size < 1:
            raise DataError(f"size must be at least 1, got {size}")
        if not self._matrix.streams and size < self._n:
            raise DataError(
                f"{self.path}: {self._matrix_name} is stored by columns (CSC), so its rows cannot be read in blocks; "
                "store it by rows (adata.X = adata.X.tocsr()), or read() it whole"
            )
        for start in range(0, self._n, size):
            yield self._responses(start, min(start + size, self._n))

    def read(self) -> Responses:
        """All samples at once.

        Returns:
            The responses. Rows are labelled with the names in ``obs``, or from 1 where those are not unique.

        Raises:
            DataError: If a value is infinite or a treatment is missing.
        """
        whole = self._responses(0, self._n)
        warnings = list(self.warnings)
        if whole.readouts.index.has_duplicates:
            warnings.append("names in 'obs' are not unique; samples are numbered instead")
            numbers = pd.RangeIndex(1, self._n + 1, name="row")
            whole.treatments.index, whole.readouts.index = numbers, numbers
        return Responses(
            whole.treatments,
            whole.readouts,
            kinds=dict(self.kinds),
            warnings=warnings,
            paths={"data": self.path},
            sha256={"data": sha256(self.path)},
            other_names=self.other_names,
            labels=self.labels,
            categories=self.categories,
        )

    def _responses(self, start: int, stop: int) -> Responses:
        x, y = self._block(start, stop)
        with as_data_error(self.path, ANNDATA):
            element = index_of(self._file["obs"], self.path, "obs")
            names = [name for a, b in self._physical(start, stop) for name in text(element, slice(a, b))]
        index = pd.Index(names, dtype=object, name="sample")
        return Responses(
            pd.DataFrame(x, index, pd.Index(self.treatments, dtype=object)),
            pd.DataFrame(y, index, pd.Index(self.readouts, dtype=object)),
            kinds=dict(self.kinds),
            paths={"data": self.path},
        )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(type(self)(state["path"], **state["options"]).__dict__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        """The counts on one line."""
        return (
            f"{self.path}: {counted(self._n, 'sample')}, {counted(len(self.treatments), 'treatment')}, "
            f"{counted(len(self.readouts), 'readout')}"
        )
