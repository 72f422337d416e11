"""Processes forked for a test, as workers are from the arbiter."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

__all__ = ["child", "in_child"]


def child(work: Callable[[], object]) -> int:
    """Fork a process that runs ``work``; its exit code says whether it raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  # shown, and the exit code says it
        traceback.print_exc()
    finally:
        os._exit(code)


def in_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process and wait until it has ended well; its process id."""
    pid = child(work)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return pid
