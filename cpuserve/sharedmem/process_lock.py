"""A lock between threads of several processes; the kernel frees it when its holder dies.

It is an open-file-description lock. Each process opens the file anew, since a description that came with the
fork would hold the lock in both. The kernel looks for no deadlocks among such locks. Among locks of processes
(``lockf``) it does, takes two threads of a process for one, and refuses waits that would have ended.
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
    """A lock that threads of this process and of those forked from it respect; it is not reentrant.

    Args:
        name: shown by the kernel among the open files.
    """

    def __init__(self, name: str) -> None:
        self._file = os.memfd_create(name, os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._own: list[int] = []  # the descriptor this process opened, once it needs one
        weakref.finalize(self, _close_all, self._own)
        self._threads = threading.Lock()
        self._holder: int | None = None  # the thread inside
        _locks.add(self)

    def __enter__(self) -> None:
        """Wait until nobody else is inside.

        Raises:
            RuntimeError: this thread is inside already.
            OSError: the kernel cannot give the lock; then nothing is held.
        """
        self._enter(wait=True)

    @contextmanager
    def at_once(self) -> Iterator[bool]:
        """Enter if nobody else is inside, without a wait; tells whether this thread is.

        For threads that others rely on: whoever is inside may be stopped by a signal.

        Raises:
            RuntimeError: this thread is inside already.
            OSError: the kernel cannot give the lock; then nothing is held.
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
        """Let others in; a process that was forked inside holds nothing and frees nothing."""
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
        """Begin anew in a child: threads and the open file that it inherits are its parent's."""
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
