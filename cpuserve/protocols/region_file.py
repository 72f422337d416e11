"""Reads and writes the file that holds the shared memory of a client: `RegionFile`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from cpuserve.errors import RequestError

__all__ = ["RegionFile"]

_DIRECTORY = "/dev/shm/"  # noqa: S108  # where the C library's shm_open keeps it
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class RegionFile:
    """The memory of one region: a file of the client, who may shrink, remove or replace it at any time.

    So it is read and written by system calls: a mapping of it would end the worker with SIGBUS. It stays open
    between the requests that read it, until it is removed or moved. Any thread may call the functions.

    Args:
        region: the name by which the client registered it.
        key: the name of the file.
    """

    __slots__ = ("_key", "_opened", "_region")

    def __init__(self, region: str, key: str) -> None:
        self._region = region
        self._key = key
        self._opened: _Opened | None = None

    def check(self, end: int) -> None:
        """Check what is there.

        Args:
            end: bytes that there have to be.

        Raises:
            RequestError: it cannot be opened, is no memory, or is shorter.
        """
        self._check_end(_Opened(self._open(os.O_RDONLY)), end)

    def read(self, target: Any, start: int) -> None:
        """Copy what is there.

        Args:
            target: the array or memoryview to be filled, without gaps.
            start: where that begins.

        Raises:
            RequestError: it is gone or has shrunk.
        """
        opened = self._opened  # it is not closed before this has ended, whatever other threads do
        if opened is None or not os.fstat(opened.number).st_nlink:
            opened = self._opened = _Opened(self._open(os.O_RDONLY))
        at = os.preadv(opened.number, (target,), start)
        while at < target.nbytes:
            count = os.preadv(opened.number, (memoryview(target).cast("B")[at:],), start + at)
            if not count:
                raise RequestError(f"the memory of region {self._region!r} has shrunk since")
            at += count

    def write(self, data: bytes, start: int) -> None:
        """Write over what is there.

        Args:
            data: the new bytes.
            start: where they begin.

        Raises:
            RequestError: it is gone or has shrunk, or the system has no room for it.
        """
        opened = _Opened(self._open(os.O_WRONLY))
        self._check_end(opened, start + len(data))  # writing behind its end would lengthen it
        at = 0
        try:
            while at < len(data):
                at += os.pwrite(opened.number, memoryview(data)[at:], start + at)
        except OSError as error:  # what nobody has written before takes memory only now
            raise RequestError(
                f"the memory of region {self._region!r} cannot be written from byte {start + at} of "
                f"{self._key!r} on: {error.strerror}"
            ) from None

    def close_removed(self) -> None:
        """Let its memory go, if it was removed: that is taken for as long as it is open.

        Moved or linked elsewhere it has a name still, but no longer that of the key.
        """
        opened = self._opened
        if opened is not None and not self._is_at_key(opened):
            self._opened = None

    def _is_at_key(self, opened: _Opened) -> bool:
        try:
            there = Path(_DIRECTORY, self._key).lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(opened.number))

    def _open(self, flags: int) -> int:
        try:
            number = os.open(_DIRECTORY + self._key, flags | _FLAGS)
        except OSError as error:
            raise RequestError(
                f"the shared memory {self._key!r} of region {self._region!r} cannot be opened: "
                f"{error.strerror}"
            ) from None
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise RequestError(f"{self._key!r} of region {self._region!r} is no shared memory")
        return number

    def _check_end(self, opened: _Opened, end: int) -> None:
        size = os.fstat(opened.number).st_size
        if end > size:
            raise RequestError(
                f"region {self._region!r} needs {end} bytes of the shared memory {self._key!r}, "
                f"which has {size}"
            )


class _Opened:
    """A descriptor, closed once nobody has this object any more."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)
