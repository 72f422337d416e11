"""How long a thread may hold a CPU that another wants; it changes no priority."""

from __future__ import annotations

import ctypes
import platform
import struct

__all__ = ["shorten_slice"]

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SIZE = 48
_SCHED_OTHER = 0


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
