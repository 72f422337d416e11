"""Bounds the memory of messages that are still being received: gRPC has no limit for all of them together."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Protocol

from cpuserve.errors import BodiesTooLarge, CpuserveError, DeadlineExceeded

__all__ = ["Reader", "ReadingTurns"]

_RETRY_S = 1.0


class Reader(Protocol):
    """A call with one message to be received.

    Attributes:
        client: who sends it.
        since: when it began to be received, on the clock of `time.monotonic`.
        due: when it has to be here.
        reading: whether it is being received.
    """

    client: str
    since: float
    due: float
    reading: bool

    def read(self) -> None:
        """Begin to receive it."""

    def give_up(self, error: CpuserveError) -> None:
        """Receive it no more; why is said by the error."""


class ReadingTurns:
    """Lets so many messages be received at one time; others wait, with at most 64 KiB in memory each.

    gRPC takes the bytes of a message up to its limit as soon as it is read, and does not tell how many are
    there. So each turn may cost the largest message. While others wait, messages that have taken too long are
    refused, those of the client with the most turns first, and the client with the fewest turns is next:
    whoever never finishes a message does not keep others out. One thread calls all functions.

    Args:
        most: messages at one time.
        patience_s: seconds that a message has while others wait.
        timeout_s: seconds that it has while none does.

    Attributes:
        due: when `look` is to be called at the latest, on the clock of `time.monotonic`; too early at times.
    """

    def __init__(self, most: int, patience_s: float, timeout_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._all: dict[Reader, None] = {}  # the first to be due first
        self._turns: dict[Reader, None] = {}  # the oldest first
        self._waiting: dict[str, dict[Reader, None]] = {}  # by client
        self._room_due = math.inf  # when one of these may be given the place of another
        self.due = math.inf

    def begin(self, reader: Reader) -> None:
        """Receive a message, now or when it is its turn."""
        now = time.monotonic()
        reader.due = due = now + self._timeout_s
        self.due = min(self.due, due)
        self._all[reader] = None
        if len(self._turns) < self._most and not self._waiting:
            self._start(reader, now)
        else:
            self._waiting.setdefault(reader.client, {})[reader] = None
            self._room_due = min(self._room_due, now)
            self.due = min(self.due, now)

    def end(self, reader: Reader) -> None:
        """Note that a message is here, or will not come; a turn that has ended may be ended again."""
        if reader not in self._all:
            return
        del self._all[reader]
        if reader.reading:
            del self._turns[reader]
        else:
            self._wait_no_more(reader)
        if self._waiting:
            self._fill()
        if not self._waiting:
            self._room_due = math.inf

    def look(self) -> None:
        """Give up what has taken too long."""
        now = time.monotonic()
        while (first := next(iter(self._all), None)) is not None and first.due <= now:
            self._give_up(
                first,
                DeadlineExceeded(
                    f"the message was not here after {self._timeout_s:g} s (setting request_timeout_s)"
                )
                if first.reading
                else self._crowded(),
            )
        if self._room_due <= now:
            self._make_room(now)
        first = next(iter(self._all), None)
        self.due = math.inf if first is None else min(first.due, self._room_due)

    def _start(self, reader: Reader, now: float) -> None:
        reader.since, reader.reading = now, True
        self._turns[reader] = None
        reader.read()

    def _wait_no_more(self, reader: Reader) -> None:
        waiting = self._waiting[reader.client]
        del waiting[reader]
        if not waiting:
            del self._waiting[reader.client]

    def _fill(self) -> None:
        while self._waiting and len(self._turns) < self._most:
            counts = Counter(one.client for one in self._turns)
            client = min(self._waiting, key=counts.__getitem__)
            reader = next(iter(self._waiting[client]))
            self._wait_no_more(reader)
            self._start(reader, time.monotonic())

    def _give_up(self, reader: Reader, error: CpuserveError) -> None:
        self.end(reader)
        reader.give_up(error)

    def _make_room(self, now: float) -> None:
        """End one turn that has taken too long where others wait; else look again later."""
        counts = Counter(one.client for one in self._turns)
        next_client = min(self._waiting, key=counts.__getitem__)
        able = [
            one
            for one in self._turns
            if counts[one.client] > counts[next_client] or one.client == next_client
        ]
        reader = max(able, key=lambda one: counts[one.client])  # the oldest of these: it is the first
        left_s = reader.since + self._patience_s - now
        if left_s > 0:
            self._room_due = now + max(left_s, self._patience_s / 10)
        else:
            self._give_up(reader, self._crowded())

    def _crowded(self) -> BodiesTooLarge:
        return BodiesTooLarge(
            f"{self._most} messages are received at one time, and this one took too long while "
            "others waited (settings max_unfinished_body_bytes and max_body_bytes)",
            _RETRY_S,
        )
