"""Shared memory with a head and numbered rows of named fields, which the arbiter makes before it forks.

The memory is an anonymous file that all processes hold open. Another process of the same user finds it below
/proc/PID/fd, also when the server no longer answers. Only pages that were written take memory.

In the file: a header of 8 words, the head, the owner of each row (process and start time), the rows, a note.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Generic, TypeVar

from cpuserve.errors import CpuserveError
from cpuserve.sharedmem.process_lock import ProcessLock
from cpuserve.sharedmem.record import Record, Word, Words

__all__ = ["Block", "link", "start_time"]

H = TypeVar("H", bound=Record)
R = TypeVar("R", bound=Record)
_MAGIC = int.from_bytes(b"cpuserve", "little")
_LINE = 64  # rows begin at a cache line, so that workers do not write into each other's
_START = 18  # field 22 in proc(5); these begin after field 3


class _Header(Record):
    magic = Word()
    version = Word()
    fingerprint = Word()  # of the fields: two layouts of one version are not taken for each other
    rows = Word()
    note_bytes = Word()
    _unused = Words(3)


def link(name: str) -> str:
    """What a descriptor of a block links to in /proc/PID/fd.

    Args:
        name: the block's.
    """
    return f"/memfd:{name} (deleted)"


def start_time(pid: int) -> int:
    """When a process started, in the kernel's ticks, at least 1; 0 when there is none, or it has ended.

    It works for other users' processes too.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or hidden from this user
        return 0
    state, *fields = text.rpartition(")")[2].split()  # the name in front may hold anything
    return 0 if state in "ZX" else int(fields[_START]) + 1


class Block(Generic[H, R]):
    """Shared memory with a versioned layout.

    Args:
        name: of the anonymous file.
        version: of the layout.
        head: the fields that are there once.
        row: the fields of each row.
        rows: how many rows there are.
        note: bytes after the rows; they do not change.

    Attributes:
        head: the head.
        rows: the rows.
        note: what was given.
        lock: to be held while several fields change; do not wait for another lock meanwhile.
    """

    def __init__(
        self, name: str, version: int, head: type[H], row: type[R], rows: int = 0, note: bytes = b""
    ) -> None:
        self.name = name
        size = _note_start(head, row, rows) + len(note)
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)  # it keeps a descriptor of its own as long as it lives
        finally:
            os.close(descriptor)
        header = _Header(memoryview(memory)[: _Header.size])
        header.version, header.fingerprint = version, _fingerprint(name, head, row)
        header.rows, header.note_bytes = rows, len(note)
        memory[size - len(note) :] = note
        header.magic = _MAGIC
        self.lock = ProcessLock(f"{name}-lock")
        self._take(memoryview(memory), head, row)

    @classmethod
    def open(cls, file: Path, name: str, version: int, head: type[H], row: type[R]) -> Block[H, R]:
        """Open the block of another process, from a descriptor below /proc/PID/fd; both then see all changes.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: it is no such block, or has another layout.
        """
        with file.open("r+b") as opened:
            if not file.stat().st_size:
                raise ValueError(f"{file} is no shared memory of cpuserve")
            return cls._opened(memoryview(mmap.mmap(opened.fileno(), 0)), name, version, head, row)

    @classmethod
    def snapshot(cls, file: Path, name: str, version: int, head: type[H], row: type[R]) -> Block[H, R]:
        """Copy the block of another process as it is now, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: it is no such block, or has another layout.
        """
        return cls._opened(memoryview(file.read_bytes()), name, version, head, row)

    @classmethod
    def _opened(cls, memory: memoryview, name: str, version: int, head: type[H], row: type[R]) -> Block[H, R]:
        known = len(memory) >= _Header.size
        header = _Header(memory[: _Header.size] if known else memoryview(bytes(_Header.size)))
        if header.magic != _MAGIC:
            raise ValueError(f"it is no {name} of this version of cpuserve: use the version that serves")
        if (header.version, header.fingerprint) != (version, _fingerprint(name, head, row)):
            raise ValueError(
                f"{name} has version {header.version}, not {version} as here: use the version that serves"
            )
        block = cls.__new__(cls)
        block.name = name
        block._take(memory, head, row)
        return block

    def _take(self, memory: memoryview, head: type[H], row: type[R]) -> None:
        header = _Header(memory[: _Header.size])
        count = header.rows
        owners = _Header.size + head.size
        self.head = head(memory[_Header.size : owners])
        self._owners: memoryview[int] = memory[owners : owners + 16 * count].cast("Q")
        starts = [_rows_start(head, count) + number * _stride(row) for number in range(count)]
        self.rows = tuple(row(memory[start : start + row.size]) for start in starts)
        start = _note_start(head, row, count)
        self.note = bytes(memory[start : start + header.note_bytes])

    def claim(self, preferred: int = 0) -> int:
        """Make this process the owner of a free row: ``preferred``, else the first.

        A row is free when its owner has died.

        Raises:
            CpuserveError: every row has a living owner.
        """
        with self.lock:
            order = (preferred, *range(len(self.rows)))
            free: int | None = next((number for number in order if not self.owner(number)), None)
            if free is not None:
                self.own(free)
                return free
        raise CpuserveError(f"all {len(self.rows)} rows of {self.name} have a living worker")

    def own(self, number: int) -> None:
        """Make this process the owner of a row, whoever owned it before."""
        pid = os.getpid()
        self._owners[2 * number] = 0  # so that no reader joins the new process with the old one's start
        self._owners[2 * number + 1] = start_time(pid)
        self._owners[2 * number] = pid

    def owner(self, number: int) -> int:
        """The living process that owns a row, or 0; a later process with the same id is not the owner."""
        pid, started = self._owners[2 * number], self._owners[2 * number + 1]
        return pid if pid and start_time(pid) == started else 0

    def owners(self) -> dict[int, int]:
        """The living owner of each row that has one."""
        return {number: pid for number in range(len(self.rows)) if (pid := self.owner(number))}


def _fingerprint(name: str, head: type[Record], row: type[Record]) -> int:
    text = "|".join([name, *head.described(), "rows", *row.described()])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _stride(row: type[Record]) -> int:
    return -(-row.size // _LINE) * _LINE


def _rows_start(head: type[Record], rows: int) -> int:
    return -(-(_Header.size + head.size + 16 * rows) // _LINE) * _LINE


def _note_start(head: type[Record], row: type[Record], rows: int) -> int:
    return _rows_start(head, rows) + rows * _stride(row)
