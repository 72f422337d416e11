"""What the C library keeps of freed memory; what nobody holds goes back to the kernel."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["give_back_freed", "give_back_large_buffers"]

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 8 << 20


def give_back_large_buffers() -> bool:
    """Have buffers of 8 MiB and more, such as large pictures, go back to the kernel once they are freed.

    By itself glibc puts buffers of up to 32 MiB into its heaps once it has seen one freed, and each heap
    keeps what lies below its last block in use: memory then depends on which request came last.

    Returns:
        Whether the C library can be told so.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))
    except AttributeError:  # not glibc
        return False


def give_back_freed() -> None:
    """Let the kernel have what a large object held; glibc would keep it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
