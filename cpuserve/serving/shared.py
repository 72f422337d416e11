"""What processes that share memory need besides it: a lock they all respect, and who of them lives."""

from __future__ import annotations

import fcntl
import os
import threading
from types import TracebackType

__all__ = ["SharedLock", "alive"]


class SharedLock:
    """A lock between threads and between the processes forked after it was made.

    A process that dies inside it gives it back.

    Args:
        name: shown by the kernel among the open files.
    """

    def __init__(self, name: str) -> None:
        self._file = os.memfd_create(name, os.MFD_CLOEXEC)
        self._threads = threading.Lock()

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()


def alive(pid: int) -> bool:
    """Whether a process lives; 0 stands for none."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
