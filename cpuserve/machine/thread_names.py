"""Gives a thread the name that the kernel shows, as Python does from 3.14 on; it starts none."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["show_thread_name"]

_LONGEST = 15


def show_thread_name() -> None:
    """Let ps, top, gdb and ``cpuserve profile`` see what this thread is called in Python.

    Threads that it starts in C, such as OpenVINO's, inherit the name.
    """
    with suppress(OSError):  # a kernel that does not let it be written shows the program's name
        name = threading.current_thread().name[:_LONGEST]
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
