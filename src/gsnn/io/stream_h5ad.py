"""AnnData files as a stream of stretches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from gsnn.base.errors import DataError
from gsnn.io.anndata import AnnDataResponses
from gsnn.io.stream import StreamedResponses, even_stretches

MIN_ROWS = 256


class AnnDataStream(StreamedResponses):
    """The samples of :class:`gsnn.io.AnnDataResponses`, in stretches of some hundred rows.

    Args:
        responses: The open file; it stays open.

    Raises:
        DataError: If the matrix is stored by columns.
    """

    def __init__(self, responses: AnnDataResponses) -> None:
        super().__init__()
        if not responses.streams:
            raise DataError(
                f"{responses.path} is stored by columns (CSC), so its rows cannot be read in blocks; store it by rows "
                "(adata.X = adata.X.tocsr())"
            )
        self._source = responses
        self.treatments, self.readouts = list(responses.treatments), list(responses.readouts)
        self.kinds, self.warnings = dict(responses.kinds), list(responses.warnings)
        self.paths = {"data": responses.path}
        self.labels, self.other_names = responses.labels, responses.other_names
        self.categories = responses.categories

    def __len__(self) -> int:
        return len(self._source)

    def stretches(self) -> list[tuple[int, int]]:
        """Stretches of whole blocks of the file, unless a block is larger than ``chunk_size``."""
        block = min(self._source.stored_rows, self._source.chunk_size)
        return even_stretches(len(self), max(block, MIN_ROWS // block * block))

    def _read(
        self, start: int, stop: int, size: int, sides: tuple[bool, bool]
    ) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
        # A chunk takes memory for all columns in the file, which may be many more than are kept.
        size = min(size, self._source.chunk_size)
        for a in range(start, stop, size):
            b = min(a + size, stop)
            both = self._source[a:b] if sides[1] else (self._source.treated(a, b), None)
            x, y = (
                values if values is None or columns is None else values[:, columns]
                for values, columns in zip(both, self._columns, strict=True)
            )
            yield x, y

    def close(self) -> None:
        """Close the file."""
        self._source.close()
