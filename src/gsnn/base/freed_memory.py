"""Let the process keep memory that it will want again at once."""

from __future__ import annotations

from gsnn.base.memory import c_library

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of the C library's ``mallopt``."""


def keep_freed_memory(bytes_kept: int = 2**31 - 1) -> bool:
    """Ask the C library not to hand freed memory back to the system between training steps.

    A step allocates and frees the same large tensors each time. By default glibc returns them to the system and gets
    them back page by page, which can cost a third of a step on a CPU. This is a setting of the whole process, so the
    library never makes it by itself; a training program may, once, before it starts.

    Args:
        bytes_kept: Free memory above which some is still handed back, up to 2^31 - 1.

    Returns:
        Whether the C library took the setting; elsewhere than on glibc nothing is done.

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
    set_option = library.mallopt
    # Blocks above the second threshold are always handed back; 1 GiB exceeds any tensor of a step worth speeding up.
    return bool(set_option(TRIM_THRESHOLD, bytes_kept)) and bool(set_option(MMAP_THRESHOLD, min(bytes_kept, 2**30)))
