"""How much memory a computation may take, and what the C library does with freed memory."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# Matrices over all pairs of more nodes than this are kept in single precision. A constant and not the budget decides,
# because scores must not depend on the machine.
SINGLE_ABOVE = 4096

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
# Parameters of the C library's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SHARE = 0.5
_LEAST = 2**28


def memory_bytes(budget: int | float | str | None, parameter: str = "memory_budget") -> int:
    """A budget in bytes.

    Args:
        budget: Bytes, a text with a unit (``'4GB'``, ``'512 MiB'``), or None for half of the memory that is available
            now, at least 256 MiB.
        parameter: What to call it in the error.

    Returns:
        Bytes.

    Raises:
        ValueError: If it is not a positive amount.

    Example:
        >>> memory_bytes("1.5GB"), memory_bytes("2 GiB"), memory_bytes(1000)
        (1500000000, 2147483648, 1000)
    """
    if budget is None:
        return max(_LEAST, int(_SHARE * available_memory()))
    amount: float | None = None
    if isinstance(budget, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][0-9]+)?)\s*([KMGT]?I?)B?\s*", budget.upper())
        if match and match[2] in _UNITS:
            amount = float(match[1]) * _UNITS[match[2]]
    elif isinstance(budget, int | float | np.integer) and not isinstance(budget, bool):
        amount = float(budget)
    if amount is None or not 1 <= amount < float("inf"):
        raise ValueError(
            f"{parameter} must be a positive number of bytes such as 2**31, or a text such as '4GB', got {budget!r}"
        )
    return int(amount)


def available_memory() -> int:
    """Bytes that a process may still take without swapping: of the machine, or of its container where that is less."""
    limits = []
    # Other systems than Linux do not say what is available; there it is the whole memory.
    with suppress(OSError), open("/proc/meminfo") as file:
        limits += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    if not limits and hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit, used in _CGROUPS:
        try:
            limits.append(int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such group, or 'max': no limit
            continue
    return max(0, min(limits, default=2 * _LEAST))


def free_on(device: torch.device) -> int:
    """Free memory of a device. On the CPU the budget is the limit, so this gives a very large number."""
    if device.type == "cuda":  # pragma: no cover - needs a GPU
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return 2**62


def check_fits(needed: float, budget: int, what: str, instead: str) -> None:
    """Refuse what does not fit, and say how many bytes it takes; ``instead`` is what to do without a larger budget.

    Raises:
        ValueError: If ``needed`` is more than ``budget``.

    Example:
        >>> check_fits(3e9, 2**30, "the scores of 10 nodes", "use fewer")
        Traceback (most recent call last):
        ValueError: memory_budget is 1.1 GB, but the scores of 10 nodes take at least 3.0 GB; raise it, or use fewer
    """
    if needed > budget:
        raise ValueError(
            f"memory_budget is {in_words(budget)}, but {what} take at least {in_words(needed)}; raise it, or {instead}"
        )


def in_words(n_bytes: float) -> str:
    """An amount of memory for people.

    Example:
        >>> in_words(123), in_words(4.56e9)
        ('123 bytes', '4.6 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


def matrix_dtype(n_nodes: int) -> type[np.float32] | type[np.float64]:
    """The dtype of matrices over all pairs of nodes: single precision above 4,096 nodes."""
    return np.float32 if n_nodes > SINGLE_ABOVE else np.float64


def trim_freed_memory() -> None:
    """Return freed memory to the system, if the C library can (glibc)."""
    library = c_library()
    if library is not None:
        library.malloc_trim(0)


def keep_freed_memory(bytes_kept: int = 2**31 - 1) -> bool:
    """Ask the C library to keep freed memory between training steps instead of returning it to the system.

    A step allocates and frees the same large tensors each time. By default glibc returns them to the system and gets
    them back page by page, which can cost a third of a step on a CPU. This is a setting of the whole process, so the
    library never makes it by itself; a training program may, once, before it starts.

    Args:
        bytes_kept: Free memory above which some is still returned, up to 2^31 - 1.

    Returns:
        Whether the C library took the setting; without glibc nothing is done.

    Raises:
        ValueError: If ``bytes_kept`` is out of range.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if not 0 <= bytes_kept < 2**31:
        raise ValueError(f"bytes_kept must be between 0 and 2**31 - 1, got {bytes_kept}")
    library = c_library()
    if library is None:
        return False
    # Blocks above the second threshold are always returned; 1 GiB exceeds any tensor of a step worth speeding up.
    options = (_TRIM_THRESHOLD, bytes_kept), (_MMAP_THRESHOLD, min(bytes_kept, 2**30))
    return all(library.mallopt(*option) for option in options)


def c_library() -> ctypes.CDLL | None:
    """The GNU C library; None on systems with another one."""
    try:
        library = ctypes.CDLL("libc.so.6")
        _ = library.gnu_get_libc_version
    except (OSError, AttributeError):
        return None
    return library
