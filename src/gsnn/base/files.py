"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(path: str | Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` and rename it there if the block succeeds.

    A reader never sees half a file, and an error leaves the old file as it was. The file is flushed to the
    disk before the rename, so that a crash just after it cannot leave an empty file under the final name.

    Args:
        path: Where the finished file goes; its folder must exist.
        alone: Use a folder of its own, for a writer that makes temporary files beside the one it is told to write.

    Yields:
        The temporary path to write to.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    if alone:
        beside.mkdir()
    temporary = beside / path.name if alone else beside
    # Created here and not by the writer, so that a missing or read-only folder is reported at once.
    temporary.open("xb").close()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)  # some writers replace the file by one that only its owner may read
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a write does not know its file, and "No space left" alone does not help
            error.filename = str(path)
        raise
    finally:
        if alone:
            shutil.rmtree(beside, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, atomically.

    Raises:
        OSError: If the disk is full, for instance, with the number and the text of the system.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path, alone=True) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextmanager
def folder_lock(folder: Path, *, optional: bool = False) -> Iterator[bool]:
    """Hold the one lock of a folder. The system frees it when the program ends, and it leaves no file.

    Args:
        folder: An existing folder.
        optional: Go on without the lock if another program holds it.

    Yields:
        Whether the lock is held; where the system or the file system has no such locks, True.

    Raises:
        RunError: If another program holds it and it is not ``optional``, or there is no such folder.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield True
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot open the run folder {folder}: {error.strerror or error}") from error
    try:
        held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not optional:
                raise RunError(f"another program is working in {folder}; wait for it or stop it") from error
            held = False
        except OSError:  # a file system without locks
            pass
        yield held
    finally:
        os.close(handle)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    It is read from its bytes, because the library's handle on a file leaks two numbers for every tensor it gives to
    torch (safetensors 0.8.0), which adds up in a program that loads models again and again.

    Returns:
        The tensors by name, on the CPU, and the metadata.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a whole safetensors file, or holds a dtype that torch lacks.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = Path(path).read_bytes()
    try:
        tensors = load(data)
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    # The library has checked the length of the header, and that it is JSON.
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, head.get("__metadata__") or {}


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write ``value`` as indented JSON, atomically; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """Hex digest of a file's content, read in blocks."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """``value`` with arrays as lists and numbers that are not finite, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
