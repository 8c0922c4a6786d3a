"""The JSON file and the table in which the outcome of a protocol is stored in a folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd

from gsnn.base.errors import RunError
from gsnn.base.files import atomic_path, plain, write_text
from gsnn.data.drawn import Drawn

FORMAT = 1

# Which samples are drawn and which weights come first does not change how well a method does on the data.
_SEEDS = frozenset({"seed", "split_seed"})


class StoredResult(ABC):
    """An outcome that is written as ``<command>.json`` and ``<command>.csv`` after each step.

    Attributes:
        COMMAND: The command of ``gsnn`` that makes it.
        NOUN: Its name in messages.
        COUNT: The setting with the number of steps, which may change when it is continued.
        settings: What was asked for, with ``config`` and ``fingerprint``, and with ``sample`` where only a part of the
            samples was used.

    A folder may hold several ``variant``s of one, each in files of its own.
    """

    COMMAND: ClassVar[str]
    NOUN: ClassVar[str]
    COUNT: ClassVar[str]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.COUNT}={self.settings.get(self.COUNT)})"

    @property
    def variant(self) -> str:
        """The part of its file names after the command."""
        return ""

    @property
    def drawn(self) -> Drawn | None:
        """How the samples were drawn; None where all were used."""
        sample = self.settings.get("sample")
        return None if sample is None else Drawn(**sample)

    @classmethod
    def json_path(cls, folder: str | Path, variant: str = "") -> Path:
        """The JSON file in a folder."""
        return Path(folder) / f"{cls.COMMAND}{variant}.json"

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The content of the CSV file."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """The content of the JSON file; NaN is allowed."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return dict(plain({"format": FORMAT, **self.content()}))

    def write(self, folder: str | Path) -> None:
        """Replace the CSV and then the JSON file, each in one step; the folder is created if needed."""
        path = self.json_path(folder, self.variant)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path.with_suffix(".csv")) as temporary:
            self.table().to_csv(temporary, index=False, lineterminator="\n")
        write_text(path, json.dumps(self.to_dict(), allow_nan=False) + "\n")

    @classmethod
    def read(cls, folder: str | Path, variant: str = "") -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            RunError: If there is none or it cannot be read.
        """
        path = cls.json_path(folder, variant)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] > FORMAT:
                raise RunError(f"{path} was written by a newer gsnn; update gsnn")
            return cls.from_dict(values)
        except FileNotFoundError as error:
            raise RunError(f"{folder} has no {path.name}; make it with gsnn {cls.COMMAND} {folder}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path} cannot be read ({error}); delete it and run gsnn {cls.COMMAND} again") from error

    @classmethod
    def to_continue(
        cls,
        folder: str | Path | None,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        variant: str = "",
    ) -> Self | None:
        """The earlier outcome in a folder, if it is to be continued, else None.

        Raises:
            RunError: If there is one and neither switch is set, it was made with other settings or of other data, or
                there is no folder to continue in.
        """
        if folder is None:
            if resume:
                raise RunError("resume needs the folder to continue in; pass folder=")
            return None
        folder = Path(folder)
        if overwrite or not cls.json_path(folder, variant).is_file():
            return None
        if not resume:
            raise RunError(
                f"{folder} holds a {cls.NOUN} already; pass --resume to continue it, or --overwrite to replace it"
            )
        earlier = cls.read(folder, variant)
        own = {name: value for name, value in settings.items() if name not in (cls.COUNT, "config", "fingerprint")}
        wrong = differing_settings(earlier.settings, own)
        if earlier.settings.get("fingerprint") != settings["fingerprint"]:
            wrong.append("the data differ")
        wrong += differing_settings(earlier.settings.get("config", {}), settings["config"])
        if wrong:
            raise RunError(
                f"cannot continue the {cls.NOUN} in {folder}: {'; '.join(wrong)}; repeat the old settings or pass "
                "--overwrite"
            )
        return earlier


def differing_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], *, seeds: bool = True, names: tuple[str, str] = ("was", "now")
) -> list[str]:
    """Which settings of a training differ, in words.

    Args:
        before: Settings as from `TrainConfig.to_dict`.
        now: The others.
        seeds: Whether the seeds count.
        names: Names of the two.

    Returns:
        A phrase for each setting.

    Example:
        >>> differing_settings({"epochs": 2, "seed": 0}, {"epochs": 150, "seed": 1}, seeds=False)
        ['epochs was 2, now 150']
    """
    skipped = frozenset() if seeds else _SEEDS
    return [
        f"{name} {names[0]} {before.get(name)!r}, {names[1]} {value!r}"
        for name, value in now.items()
        if name not in skipped and before.get(name) != value
    ]
