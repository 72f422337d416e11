"""Keeps the latest traced requests of each worker in shared memory.

It is made before the fork. Another process of the same user can find the memory below /proc, switch tracing
on and read it without a request to the server. Only pages that were written take memory.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import threading
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpuserve.serving.request import Spans
from cpuserve.sharedmem.block import Block, link
from cpuserve.sharedmem.record import Bytes, Record, Word, Words

__all__ = ["LINK", "TraceRecord", "TraceRing", "TraceRow"]

_NAME = "cpuserve-trace-ring"
LINK = link(_NAME)
"""What a descriptor of the memory links to in /proc/PID/fd."""

_VERSION = 2
_SLOTS = 4096  # requests a worker; a reader looks several times a second
_SLOT_WORDS = 128
_FIXED = 8  # number + 1, pid, tid, end, status, entries, entries that had no room, 0
_MOST_ENTRIES = (_SLOT_WORDS - _FIXED) // 3
_STACK_BYTES = 1 << 18
_RING_WORDS = _SLOTS * _SLOT_WORDS


class _TraceSwitches(Record):
    tracing = Word()
    stack_rate = Word()  # Python stacks a second


class _Ring(Record):
    requests = Word()  # so far
    stack_bytes = Word()
    slots = Words(_RING_WORDS)
    stacks = Bytes(_STACK_BYTES)


@dataclass(frozen=True)
class TraceRecord:
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
        """Its name in the answer to the request."""
        return f"{self.pid}-{self.number}"


class TraceRow:
    """The row that one worker writes.

    Args:
        ring: its memory.
    """

    def __init__(self, ring: _Ring) -> None:
        self._row = ring
        self._ring = ring.slots.cast("B")
        self._numbers = itertools.count(ring.requests)
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
        struct.pack_into("Q", self._ring, at, 0)  # so that it is not read half written
        struct.pack_into(
            f"{_FIXED - 1 + 3 * len(entries)}Q",
            *(self._ring, at + 8, pid, tid, end_ns, status, len(entries), lost, 0),
            *itertools.chain.from_iterable(entries),
        )
        struct.pack_into("Q", self._ring, at, spans.number + 1)
        with self._lock:
            self._row.requests = max(self._row.requests, spans.number + 1)

    def put_stacks(self, folded: Mapping[str, int]) -> None:
        """Show Python stacks, the most frequent of them where there is no room for all."""
        rows = sorted(folded.items(), key=lambda row: -row[1])
        data = json.dumps([os.getpid(), dict(rows)]).encode()
        while len(data) > _STACK_BYTES:
            rows = rows[: len(rows) * 3 // 4]
            data = json.dumps([os.getpid(), dict(rows)]).encode()
        self._row.stack_bytes = 0
        self._row.stacks[: len(data)] = data
        self._row.stack_bytes = len(data)


class TraceRing:
    """The rows of all workers, and the switches of tracing.

    Args:
        rows: workers that may live at the same time, those of a reload included.
    """

    def __init__(self, rows: int) -> None:
        self._take(Block(_NAME, _VERSION, _TraceSwitches, _Ring, rows))

    @classmethod
    def open(cls, file: Path) -> TraceRing:
        """The trace ring of a server that runs, from a descriptor below /proc/PID/fd.

        Raises:
            OSError: the process is gone, or another user's.
            ValueError: the trace ring is another version's.
        """
        found = cls.__new__(cls)
        found._take(Block.open(file, _NAME, _VERSION, _TraceSwitches, _Ring))
        return found

    def _take(self, block: Block[_TraceSwitches, _Ring]) -> None:
        self._switches = block.head
        self._tracing = block.head.views["tracing"]  # looked at by every request
        self._rows = block.rows

    @property
    def tracing(self) -> bool:
        """Whether every request is traced."""
        return bool(self._tracing[0])

    @tracing.setter
    def tracing(self, value: bool) -> None:
        self._switches.tracing = value

    @property
    def stack_rate(self) -> int:
        """How often a second each worker looks at its Python stacks; 0: never."""
        return self._switches.stack_rate

    @stack_rate.setter
    def stack_rate(self, value: int) -> None:
        self._switches.stack_rate = value

    def row(self, number: int) -> TraceRow:
        """The row of the worker that has claimed that number."""
        return TraceRow(self._rows[number])

    def heads(self) -> list[int]:
        """Of each row, how many requests were traced so far."""
        return [row.requests for row in self._rows]

    def records(self, row: int, first: int, known: Container[int] = ()) -> Iterator[TraceRecord]:
        """Requests of a row from number ``first`` on that have ended and are still there.

        Args:
            row: its number.
            first: number of a request.
            known: numbers that are left out.
        """
        requests, words = self._rows[row].requests, self._rows[row].slots
        for number in range(max(first, requests - _SLOTS), requests):
            if number in known:
                continue
            at = number % _SLOTS * _SLOT_WORDS
            if words[at] != number + 1:
                continue  # not ended yet
            count = min(words[at + 5], _MOST_ENTRIES)
            _, pid, tid, end, status, _, lost, _, *rest = words[at : at + _FIXED + 3 * count].tolist()
            if words[at] != number + 1:
                continue  # overwritten meanwhile
            flat = iter(rest)
            yield TraceRecord(number, pid, tid, end, status, tuple(zip(flat, flat, flat, strict=True)), lost)

    def stacks(self) -> dict[int, dict[str, int]]:
        """Folded Python stacks by process id of the worker, as each has shown them last."""
        found = {}
        for row in self._rows:
            if row.stack_bytes:
                pid, folded = json.loads(bytes(row.stacks[: row.stack_bytes]))
                found[pid] = folded
        return found
