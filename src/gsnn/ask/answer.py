"""An answer that is kept as a table and a JSON file in the folder of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from gsnn.base.csv_file import write_csv_file
from gsnn.base.files import plain, write_json


class Answer(ABC):
    """An answer that is kept in two files."""

    _files: ClassVar[tuple[str, str]]

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The content of the CSV file."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """The content of the JSON file."""

    def write(self, folder: str | Path, **more: Any) -> list[Path]:  # noqa: ANN401 - JSON values
        """Write :meth:`to_frame` as CSV and :meth:`content` as JSON, each in one step.

        Args:
            folder: The folder.
            **more: Further entries of the JSON file.
        """
        table, summary = (Path(folder) / name for name in self._files)
        write_csv_file(self.to_frame(), table)
        write_json(summary, plain({**self.content(), **more}))
        return [table, summary]
