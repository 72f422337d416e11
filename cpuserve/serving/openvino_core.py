"""The one OpenVINO core of a process, kept until the process ends."""

from __future__ import annotations

import threading
from functools import cache

import openvino as ov

__all__ = ["openvino_core"]

_one_at_a_time = threading.Lock()


def openvino_core() -> ov.Core:
    """The process's OpenVINO core: made by the first call, the same for every later one.

    Where the CPU has AMX, OpenVINO's CPU plug-in gives the thread that starts it a stack for signal handlers,
    and unmaps that stack when the core and all that it compiled are gone. Cores that end in another order or
    thread leave their first thread with a stack that is no longer there, and its next signal (Ctrl-C,
    SIGTERM) is a segmentation fault. A core that never ends cannot do that.
    """
    with _one_at_a_time:
        return _core()


@cache
def _core() -> ov.Core:
    return ov.Core()
