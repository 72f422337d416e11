"""The one OpenVINO core of a process, kept until the process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import openvino as ov
from openvino import _ov_api

__all__ = ["lent_core", "openvino_core"]

_one_at_a_time = threading.Lock()


def openvino_core() -> ov.Core:
    """The process's OpenVINO core: made by the first call, the same for every later one.

    Where the CPU has AMX, OpenVINO's CPU plug-in gives the thread that starts it a stack for signal handlers,
    and unmaps that stack when the core and all that it compiled are gone. Cores that end in another order or
    thread leave their first thread with a stack that is no longer there, and its next signal (Ctrl-C,
    SIGTERM) is a segmentation fault. A core that never ends cannot do that.

    Unless its properties ask for that, OpenVINO pins no thread for a model, not even for one that is compiled
    to be looked at: the streams of a model that is gone go to the next of as many, which does not pin as it
    was told, but as they do. All threads of a seat inferred on its first CPU.
    """
    with _one_at_a_time:
        return _core()


@contextmanager
def lent_core() -> Iterator[None]:
    """Libraries that would make cores of their own are given the process's meanwhile.

    NNCF makes several in a run and drops them in any order (see `openvino_core` for what that does). It has
    no way to be told of a core.
    """
    openvino_core()  # there before its maker is replaced
    makers = {module: module.Core for module in (ov, _ov_api)}  # the second makes those of `ov.compile_model`
    for module in makers:
        setattr(module, "Core", openvino_core)  # noqa: B010
    try:
        yield
    finally:
        for module, maker in makers.items():
            setattr(module, "Core", maker)  # noqa: B010


@cache
def _core() -> ov.Core:
    core = ov.Core()
    core.set_property("CPU", {"ENABLE_CPU_PINNING": False})
    return core
