"""Limits the bytes of request bodies that a worker holds at one time."""

from __future__ import annotations

import threading

from cpuserve.errors import BodiesTooLarge

__all__ = ["BodyBudget", "BodyShare", "SizedBody"]

_FIRST_BYTES = 128 << 10  # room that a body gets with its first bytes: most pictures fit
_SMALL_BYTES = 1 << 20  # of a small body at most
_SMALL_SHARE = 32  # of which the budget has room for so many
_RETRY_S = 1.0


class BodyBudget:
    """Counts the bytes of the bodies of unanswered requests.

    A quarter is reserved for small bodies, so that a few large ones do not shut out all others. Bodies that
    came in one read with their head are not counted: they are small, and no more than connections.

    Args:
        limit: bytes that may be held at one time.

    Attributes:
        small_bytes: the most that a small body has.
        held: bytes that are held now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.small_bytes = min(_SMALL_BYTES, limit // _SMALL_SHARE)
        self.held = 0
        self._lock = threading.Lock()

    def take(self, count: int, *, small: bool) -> None:
        """Count more bytes.

        Args:
            count: how many.
            small: whether they belong to a small body.

        Raises:
            BodiesTooLarge: that would be more than the limit; nothing was counted.
        """
        limit = self.limit if small else self.limit - self.limit // 4
        with self._lock:
            held = self.held + count
            if held <= limit:
                self.held = held
                return
        raise BodiesTooLarge(
            f"the bodies of unfinished requests would take {held} bytes of this worker, the limit is "
            f"{limit} bytes for a {'small' if small else 'large'} one (setting max_unfinished_body_bytes)",
            _RETRY_S,
        )

    def give_back(self, count: int) -> None:
        """Count fewer bytes."""
        with self._lock:
            self.held -= count


class BodyShare:
    """The bytes of a budget that one connection's request holds.

    Args:
        budget: the worker's.

    Attributes:
        held: bytes that are held now.
    """

    __slots__ = ("_budget", "held")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.held = 0

    def take(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            BodiesTooLarge: the worker holds too many already.
        """
        held = self.held + count
        self._budget.take(count, small=held <= self._budget.small_bytes)
        self.held = held

    def release(self) -> None:
        """Give everything back; a second call does nothing."""
        count, self.held = self.held, 0
        if count:
            self._budget.give_back(count)


class SizedBody:
    """A body of known length, in memory that grows as its bytes come.

    Args:
        length: bytes it will have.
        first: its bytes that came with the head.
        share: the budget that its memory counts against.
    """

    __slots__ = ("_filled", "_length", "_share", "data")

    def __init__(self, length: int, first: memoryview, share: BodyShare) -> None:
        self._length = length
        self._share = share
        self._filled = len(first)
        self.data = bytearray(first)

    @property
    def whole(self) -> bool:
        """Whether all bytes are here."""
        return self._filled == self._length

    def room(self, most: int) -> memoryview:
        """Memory for the next bytes, at most ``most``; release it before the next call.

        Raises:
            BodiesTooLarge: the worker holds too many bytes of bodies.
        """
        if self._filled == len(self.data):
            size = min(self._length, max(_FIRST_BYTES, 2 * self._filled))
            self._share.take(size - self._share.held)
            self.data += bytes(size - self._filled)
        return memoryview(self.data)[self._filled : self._filled + most]

    def filled(self, count: int) -> None:
        """Note how many bytes were written into the room."""
        self._filled += count
