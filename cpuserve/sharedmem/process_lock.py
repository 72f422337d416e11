"""A lock between threads of several processes; the kernel frees it when its holder dies.

It is an open-file-description lock. Each process opens the file anew, since a description that is inherited
at the fork would hold the lock in both. Locks of processes (``lockf``) would not do: the kernel takes two
threads of a process for one, sees deadlocks where there are none, and refuses to wait.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

__all__ = ["ProcessLock"]

_FLOCK = struct.Struct("hhqqi0q")  # type, whence, start, length (0: to the end), process (0 for these locks)
_TAKE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_FREE = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


class ProcessLock:
    """A lock between the threads of this process and of those forked from it. It is not reentrant.

    Args:
        name: of its open file, as the kernel shows it.
    """

    def __init__(self, name: str) -> None:
        self._file = os.memfd_create(name, os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._own: list[int] = []  # the descriptor that this process opened, if any
        weakref.finalize(self, _close_all, self._own)
        self._threads = threading.Lock()
        self._holder: int | None = None  # the thread that has the lock
        _locks.add(self)

    def __enter__(self) -> None:
        """Wait for the lock and take it.

        Raises:
            RuntimeError: this thread has the lock already.
            OSError: the kernel cannot give the lock; it is then not held.
        """
        self._enter(wait=True)

    @contextmanager
    def at_once(self) -> Iterator[bool]:
        """Take the lock if it is free, without waiting; yields whether this thread has it.

        For threads that must not wait: the holder may be stopped by a signal.

        Raises:
            RuntimeError: this thread has the lock already.
            OSError: the kernel cannot give the lock; it is then not held.
        """
        entered = self._enter(wait=False)
        try:
            yield entered
        finally:
            if entered:
                self.__exit__(None, None, None)

    def _enter(self, *, wait: bool) -> bool:
        me = threading.get_ident()
        if self._holder == me:
            raise RuntimeError("this thread holds the lock already")
        if not self._threads.acquire(blocking=wait):
            return False
        try:
            fcntl.fcntl(self._descriptor(), fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _TAKE)
            self._holder = me
        except BlockingIOError:
            self._free()
            return False
        except BaseException:  # a signal's handler may raise anything
            self._free()
            raise
        return True

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Free the lock, unless this process was forked while its parent had it."""
        if self._holder == threading.get_ident():
            self._free()

    def _free(self) -> None:
        self._holder = None
        try:
            for descriptor in self._own:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FREE)
        finally:
            self._threads.release()

    def _descriptor(self) -> int:
        if not self._own:
            self._own.append(os.open(f"/proc/self/fd/{self._file}", os.O_RDWR | os.O_CLOEXEC))
        return self._own[0]

    def _forked(self) -> None:
        """Start afresh in a child: the threads and open files that it inherited are its parent's."""
        self._threads = threading.Lock()
        self._holder = None
        _close_all(self._own)


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _forked() -> None:
    for lock in tuple(_locks):
        lock._forked()


os.register_at_fork(after_in_child=_forked)
