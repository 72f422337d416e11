"""How long a thread may hold a CPU that another wants."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading

__all__ = ["give_way", "shorten_slice"]

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SIZE = 48
_SCHED_OTHER = 0
_NICE = 5  # a quarter of the CPU beside a busy thread; less, and a load never ends on a full machine
_SLICE_S = 0.0001  # a request that comes meanwhile waits no longer than that for the CPU


def give_way() -> None:
    """Let the calling thread's work wait for that of other threads."""
    if not shorten_slice(_SLICE_S, _NICE):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def shorten_slice(seconds: float, nice: int) -> bool:
    """Give the calling thread a short slice and a nice value.

    Since Linux 6.12 a thread of the normal scheduling class may ask for its slice (sched_setattr(2)); one
    that wakes then waits no longer than that for it. Older kernels take the nice value alone.

    Args:
        seconds: of the slice; the kernel keeps it between 0.1 and 100 ms.
        nice: the nice value, as setpriority(2) has it.

    Returns:
        Whether the kernel took it.
    """
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    attributes = struct.pack("=IIQiIQQQ", _SIZE, _SCHED_OTHER, 0, nice, 0, round(seconds * 1e9), 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(number, 0, attributes, 0) == 0)
