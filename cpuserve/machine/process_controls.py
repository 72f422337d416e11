"""Controls of this process and its threads: malloc, priority, names, signals, children that die with it.

Run as ``python -m cpuserve.machine.process_controls PID COMMAND...`` it becomes COMMAND, which gets SIGTERM
when its parent, process PID, dies.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import signal
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

__all__ = [
    "block_signals",
    "die_with_parent",
    "lower_thread_priority",
    "main",
    "malloc_settings",
    "malloc_trim",
    "set_time_slice",
    "show_thread_name",
]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 8 << 20
_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_ATTR_BYTES = 48
_SCHED_OTHER = 0
_NICE = 5  # a quarter of the CPU beside a busy thread; less, and a load never ends on a full machine
_SLICE_S = 0.0001  # a request that comes meanwhile waits at most this long for the CPU
_LONGEST_NAME = 15
_PR_SET_PDEATHSIG = 1
_PROCESS_SIGNALS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGCHLD),
)


def malloc_settings() -> bool:
    """Make glibc return buffers of 8 MiB and more, such as large pictures, to the kernel when they are freed.

    By default glibc puts buffers of up to 32 MiB into its heaps once it has seen one freed. Each heap keeps
    everything below its last block in use, so that memory use depends on which request came last. Above that
    block it keeps as much as glibc would by itself, twice that size: else every request would have the kernel
    give its pages anew.

    Returns:
        Whether the C library took the setting; only glibc does.
    """
    try:
        library = ctypes.CDLL(None)
        settings = ((_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES))
        return all(library.mallopt(number, value) for number, value in settings)
    except AttributeError:  # not glibc
        return False


def malloc_trim() -> None:
    """Collect garbage, then return all freed memory to the kernel; glibc would keep it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def lower_thread_priority() -> None:
    """Let other threads run before the calling thread."""
    if not set_time_slice(_SLICE_S, _NICE):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def set_time_slice(seconds: float, nice: int) -> bool:
    """Set the calling thread's time slice and nice value.

    Since Linux 6.12 a thread of the normal scheduling class may ask for its slice (sched_setattr(2)). A
    thread that wakes up then waits at most one slice for it. Older kernels use the nice value alone.

    Args:
        seconds: the slice; the kernel keeps it between 0.1 and 100 ms.
        nice: the nice value, as in setpriority(2).

    Returns:
        Whether the kernel accepted both.
    """
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    attributes = struct.pack(
        "=IIQiIQQQ", _SCHED_ATTR_BYTES, _SCHED_OTHER, 0, nice, 0, round(seconds * 1e9), 0, 0
    )
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(number, 0, attributes, 0) == 0)


def show_thread_name() -> None:
    """Give the calling thread its Python name in the kernel, for ps, top, gdb and ``cpuserve profile``.

    Python itself does so from 3.14 on. Threads that it starts in C, such as OpenVINO's, inherit the name.
    """
    with suppress(OSError):  # a kernel that does not let it be written shows the program's name
        name = threading.current_thread().name[:_LONGEST_NAME]
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def block_signals() -> None:
    """Block the signals that servers are sent, in the calling thread and in the threads it starts.

    The main thread then gets them; otherwise the kernel may choose any thread, also one whose signal
    stack OpenVINO replaced (see `cpuserve.serving.openvino_core`).
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _PROCESS_SIGNALS)


def die_with_parent(*command: str) -> list[str]:
    """The command line that runs ``command`` so that it gets SIGTERM when this process dies.

    The kernel sends SIGTERM when the thread that started the child ends: start it from one that stays.
    """
    return [sys.executable, "-m", "cpuserve.machine.process_controls", str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for SIGTERM at the parent's death, then become the command: exec keeps the setting."""
    parent, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the starting thread may have blocked SIGTERM
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(f"the parent, process {parent}, has ended")
    os.execvp(command[0], command)  # noqa: S606  # that is what it is for


if __name__ == "__main__":
    main()
