"""Tables as CSV text; large ones a block of rows at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gsnn.base.files import atomic_path
from gsnn.base.progress import stage

if TYPE_CHECKING:
    import pandas as pd

ROWS = 100_000
"""Rows of a block: some tens of MB of text."""


def write_csv(frame: pd.DataFrame, file: IO[bytes], separator: str = ",", text: str = "rows") -> None:
    r"""Write a table in UTF-8 as ``DataFrame.to_csv`` does without index, and show the progress, a count of ``text``.

    The text of the table is never in memory as a whole.

    Example:
        >>> import io
        >>> import pandas as pd
        >>> file = io.BytesIO()
        >>> write_csv(pd.DataFrame({"source": ["a"], "score": [0.5]}), file)
        >>> file.getvalue()
        b'source,score\na,0.5\n'
    """
    with stage(text, len(frame)) as shown:
        # At least once, for the header.
        for start in range(0, max(len(frame), 1), ROWS):
            part = frame.iloc[start : start + ROWS]
            content: str = part.to_csv(index=False, header=start == 0, sep=separator, lineterminator="\n")
            file.write(content.encode())
            shown.advance(len(part))


def write_csv_file(frame: pd.DataFrame, path: Path) -> None:
    """:func:`write_csv` to a file, which is replaced in one step."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_csv(frame, file, text=f"rows of {path.name}")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
