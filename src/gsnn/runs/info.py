"""The file that describes a run, ``run.json``: reading it, and values for it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gsnn._version import __version__
from gsnn.base.errors import GsnnError, RunError

RUN = "run.json"
FORMAT = 1


def read_info(path: Path) -> dict[str, Any]:
    """The content of the ``run.json`` in this folder.

    Raises:
        RunError: If it is missing, unreadable, not of a run, or from a newer version.
    """
    file = path / RUN
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is not a run folder: it has no {RUN}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} cannot be read ({error}); restore it or train a new run") from error
    if not isinstance(info, dict) or not isinstance(info.get("format"), int) or "status" not in info:
        raise RunError(f"{file} does not describe a run of gsnn")
    if info["format"] > FORMAT:
        versions = info.get("versions")
        newer = versions.get("gsnn") if isinstance(versions, dict) else None
        raise RunError(f"{file} was written by a newer gsnn ({newer}); update gsnn")
    return info


@contextmanager
def reading(file: Path, part: str = "") -> Iterator[None]:
    """Turn the errors that damaged content causes into one that names the file.

    Args:
        file: A file of a run folder.
        part: The part of it that is read, if not all.

    Raises:
        RunError: In place of any error that is not a `GsnnError`.
    """
    try:
        yield
    except GsnnError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        place = f"'{part}' in {file}" if part else str(file)
        raise RunError(f"{place} is damaged ({reason}); restore it or train a new run") from error


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a temporary one, as a killed program leaves it."""
    return name.startswith(".") and name.endswith(".tmp")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: metadata.version(name) for name in ("torch", "lightning", "numpy", "pandas", "safetensors")}
    return {"gsnn": __version__, "python": platform.python_version(), **packages}
