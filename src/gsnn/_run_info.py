"""The file that describes a run: reading it, and making values fit for it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gsnn._version import __version__
from gsnn.errors import RunError

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
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); restore it or train a new run") from error
    if not isinstance(info, dict) or not isinstance(info.get("format"), int) or "status" not in info:
        raise RunError(f"{file} does not describe a run of gsnn")
    if info["format"] > FORMAT:
        raise RunError(f"{file} was written by a newer gsnn ({info.get('versions', {}).get('gsnn')}); update gsnn")
    return info


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what a killed program left while writing another."""
    return name.startswith(".") and name.endswith(".tmp")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: metadata.version(name) for name in ("torch", "lightning", "numpy", "pandas", "safetensors")}
    return {"gsnn": __version__, "python": platform.python_version(), **packages}


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """``value`` with arrays as lists and what JSON has no number for as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
