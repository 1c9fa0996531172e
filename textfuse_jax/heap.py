"""Keeps the memory of one training step for the next: on Linux up to a quarter less time a step on the CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Lets glibc's malloc keep what is freed instead of handing it back to the system; call it before the first computation.

    XLA allocates the intermediates of a step at its start (MiniLM, 2,048 tokens: 700 MB) and frees them at its end. By
    default such blocks come fresh from the system each time, and touching their pages costs more than many of the
    operations that fill them. With one arena, no separate maps and no trimming the step's memory stays in the process.
    The process then holds its highest need until it ends.

    Returns:
      Whether it was done; False, and nothing changed, where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(_ARENA_MAX, 1), libc.mallopt(_MMAP_MAX, 0), libc.mallopt(_TRIM_THRESHOLD, -1)])
