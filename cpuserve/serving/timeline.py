"""Traced requests of all workers in shared memory, the latest of each worker; made before the fork.

The memory is an anonymous file that the arbiter and its workers hold open, so that another process of the
same user can find it below /proc, switch tracing on and read along without a request to the server. Only its
pages that were written take memory.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import struct
import threading
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpuserve.serving.spans import Spans

__all__ = ["LINK", "Record", "Row", "Timeline"]

_NAME = "cpuserve-timeline"
LINK = f"/memfd:{_NAME} (deleted)"
"""What a descriptor of the memory links to in /proc/PID/fd."""

_VERSION = 1
_HEAD_WORDS = 512  # a page; words 0-3: version, number of rows, tracing, Python stacks a second
_TRACING, _STACK_RATE = 2, 3
_SLOTS = 4096  # requests a worker; whoever reads along does so several times a second
_SLOT_WORDS = 128
_FIXED = 8  # number + 1, pid, tid, end, status, entries, entries that had no room, 0
_MOST_ENTRIES = (_SLOT_WORDS - _FIXED) // 3
_STACK_BYTES = 1 << 18
_RING_WORDS = _SLOTS * _SLOT_WORDS
_ROW_WORDS = _HEAD_WORDS + _RING_WORDS + _STACK_BYTES // 8  # word 0: requests so far, 1: bytes of stacks


@dataclass(frozen=True)
class Record:
    """One traced request as it was read.

    Attributes:
        number: of the request in its worker.
        pid: of the worker.
        tid: of the thread that ran it.
        end_ns: when its answer was handed to the kernel.
        status: of HTTP.
        entries: (stage, begin, end) as in `Spans`.
        lost: entries that had no room.
    """

    number: int
    pid: int
    tid: int
    end_ns: int
    status: int
    entries: tuple[tuple[int, int, int], ...]
    lost: int

    @property
    def name(self) -> str:
        """What the request's answer calls it."""
        return f"{self.pid}-{self.number}"


class Row:
    """What one worker writes; nobody else does.

    Args:
        words: the row.
    """

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._ring = words[_HEAD_WORDS : _HEAD_WORDS + _RING_WORDS].cast("B")
        self._stacks = words[_HEAD_WORDS + _RING_WORDS :].cast("B")
        self._numbers = itertools.count(words[0])
        self._lock = threading.Lock()

    def spans(self, arrived_ns: int, began_ns: int) -> Spans:
        """Spans for a request that is about to run."""
        return Spans(next(self._numbers), arrived_ns, began_ns)

    def put(self, spans: Spans, end_ns: int, status: int) -> None:
        """Keep a request that has ended; the last stage must be closed."""
        entries = spans.entries[:_MOST_ENTRIES]
        lost = len(spans.entries) - len(entries)
        pid, tid = os.getpid(), threading.get_native_id()
        at = spans.number % _SLOTS * _SLOT_WORDS * 8
        struct.pack_into("Q", self._ring, at, 0)  # nobody reads it half written
        struct.pack_into(
            f"{_FIXED - 1 + 3 * len(entries)}Q",
            *(self._ring, at + 8, pid, tid, end_ns, status, len(entries), lost, 0),
            *itertools.chain.from_iterable(entries),
        )
        struct.pack_into("Q", self._ring, at, spans.number + 1)
        with self._lock:
            self._words[0] = max(self._words[0], spans.number + 1)

    def put_stacks(self, folded: Mapping[str, int]) -> None:
        """Show Python stacks, the most frequent of them where there is no room for all."""
        rows = sorted(folded.items(), key=lambda row: -row[1])
        data = json.dumps([os.getpid(), dict(rows)]).encode()
        while len(data) > _STACK_BYTES:
            rows = rows[: len(rows) * 3 // 4]
            data = json.dumps([os.getpid(), dict(rows)]).encode()
        self._words[1] = 0
        self._stacks[: len(data)] = data
        self._words[1] = len(data)


class Timeline:
    """The rows of all workers and what is switched on.

    Args:
        rows: workers that may live at the same time, those of a reload included.
    """

    def __init__(self, rows: int) -> None:
        descriptor = os.memfd_create(_NAME)
        try:
            os.ftruncate(descriptor, 8 * (_HEAD_WORDS + rows * _ROW_WORDS))
            self._take(mmap.mmap(descriptor, 0))
        finally:
            os.close(descriptor)
        self._words[0], self._words[1] = _VERSION, rows

    @classmethod
    def open(cls, file: Path) -> Timeline:
        """The timeline of a server that runs, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: the timeline is another version's.
        """
        found = cls.__new__(cls)
        with file.open("r+b") as opened:
            found._take(mmap.mmap(opened.fileno(), 0))
        if found._words[0] != _VERSION:
            raise ValueError(
                f"timeline version {found._words[0]}, not {_VERSION}: ask with the cpuserve that serves"
            )
        return found

    def _take(self, memory: mmap.mmap) -> None:
        self._words = memoryview(memory).cast("Q")

    @property
    def tracing(self) -> bool:
        """Whether every request is traced."""
        return bool(self._words[_TRACING])

    @tracing.setter
    def tracing(self, value: bool) -> None:
        self._words[_TRACING] = value

    @property
    def stack_rate(self) -> int:
        """How often a second each worker looks at its Python stacks; 0: never."""
        return self._words[_STACK_RATE]

    @stack_rate.setter
    def stack_rate(self, value: int) -> None:
        self._words[_STACK_RATE] = value

    def row(self, number: int) -> Row:
        """The row of the worker that has claimed that number."""
        return Row(self._row(number))

    def _row(self, number: int) -> memoryview:
        start = _HEAD_WORDS + number * _ROW_WORDS
        return self._words[start : start + _ROW_WORDS]

    def heads(self) -> list[int]:
        """Of each row, how many requests were traced so far."""
        return [self._row(number)[0] for number in range(self._words[1])]

    def records(self, row: int, first: int, known: Container[int] = ()) -> Iterator[Record]:
        """Requests of a row from number ``first`` on that have ended and are still there.

        Args:
            row: its number.
            first: number of a request.
            known: numbers that are left out.
        """
        words = self._row(row)
        for number in range(max(first, words[0] - _SLOTS), words[0]):
            if number in known:
                continue
            at = _HEAD_WORDS + number % _SLOTS * _SLOT_WORDS
            if words[at] != number + 1:
                continue  # not ended yet
            count = min(words[at + 5], _MOST_ENTRIES)
            _, pid, tid, end, status, _, lost, _, *rest = words[at : at + _FIXED + 3 * count].tolist()
            if words[at] != number + 1:
                continue  # overwritten meanwhile
            flat = iter(rest)
            yield Record(number, pid, tid, end, status, tuple(zip(flat, flat, flat, strict=True)), lost)

    def stacks(self) -> dict[int, dict[str, int]]:
        """Folded Python stacks by process id of the worker, as each has shown them last."""
        found = {}
        for number in range(self._words[1]):
            words = self._row(number)
            if words[1]:
                data = bytes(words[_HEAD_WORDS + _RING_WORDS :].cast("B")[: words[1]])
                pid, folded = json.loads(data)
                found[pid] = folded
        return found
