"""Bounds the memory of messages that are still being received: gRPC has no limit for all of them together."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from cpuserve.errors import BodiesTooLarge, DeadlineExceeded, RequestError

__all__ = ["ReadingTurns"]

_RETRY_S = 1.0


class _Turn:
    """One message that is being received.

    Attributes:
        client: who sends it.
        since: when its turn began, on the clock of the loop.
        timeout: ends the waiting for it; None until its reader runs.
        evicted: whether it was ended for another one.
    """

    __slots__ = ("client", "evicted", "since", "timeout")

    def __init__(self, client: str, since: float) -> None:
        self.client = client
        self.since = since
        self.timeout: asyncio.Timeout | None = None
        self.evicted = False


class ReadingTurns:
    """Lets so many messages be received at one time; others wait, with at most 64 KiB in memory each.

    gRPC takes the bytes of a message up to its limit as soon as it is read, and does not tell how many are
    there. So each turn may cost the largest message. While others wait, messages that have taken too long are
    refused, those of the client with the most turns first, and the client with the fewest turns is next:
    whoever never finishes a message does not keep others out.

    Args:
        most: messages at one time.
        patience_s: seconds that a message has while others wait.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        self._most = most
        self._patience_s = patience_s
        self._turns: dict[str, dict[_Turn, None]] = {}  # by client, the oldest first
        self._count = 0
        self._evicted = 0  # of these, about to end
        self._waiting: dict[str, dict[asyncio.Future[_Turn], None]] = {}  # by client
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, context: Any, client: str, timeout_s: float) -> bytes:
        """The next message of a call.

        Args:
            context: of the call.
            client: who sends it.
            timeout_s: seconds it has.

        Raises:
            DeadlineExceeded: it was not here by then.
            BodiesTooLarge: it had to make room for another one, or there was no room.
            RequestError: there is none.
        """
        turn = self._begin(client) if self._count < self._most and not self._waiting else None
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                if turn is None:
                    turn = await self._granted(client)
                turn.timeout = timeout
                message = await context.read()
        except TimeoutError:
            if turn is None or turn.evicted:
                raise BodiesTooLarge(
                    f"{self._most} messages are received at one time, and this one took too long while "
                    "others waited (settings max_unfinished_body_bytes and max_body_bytes)",
                    _RETRY_S,
                ) from None
            raise DeadlineExceeded(
                f"the message was not here after {timeout_s:g} s (setting request_timeout_s)"
            ) from None
        finally:
            if turn is not None:
                self._end(turn)
        if message is aio.EOF:
            raise RequestError("there is no message")  # where gRPC has refused one, nobody hears this
        found: bytes = message
        return found

    def _begin(self, client: str) -> _Turn:
        turn = _Turn(client, asyncio.get_running_loop().time())
        self._turns.setdefault(client, {})[turn] = None
        self._count += 1
        return turn

    def _end(self, turn: _Turn) -> None:
        turns = self._turns[turn.client]
        del turns[turn]
        if not turns:
            del self._turns[turn.client]
        self._count -= 1
        self._evicted -= turn.evicted
        while self._waiting and self._count < self._most:
            client = min(self._waiting, key=lambda one: len(self._turns.get(one, ())))
            woken = next(iter(self._waiting[client]))
            self._forget(client, woken)
            if not woken.done():  # its call may just have been cancelled
                woken.set_result(self._begin(client))
        self._make_room()

    async def _granted(self, client: str) -> _Turn:
        woken: asyncio.Future[_Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, {})[woken] = None
        self._make_room()
        try:
            return await woken
        except asyncio.CancelledError:
            if woken.done() and not woken.cancelled():
                self._end(woken.result())
            else:
                self._forget(client, woken)
            raise

    def _forget(self, client: str, woken: asyncio.Future[_Turn]) -> None:
        mine = self._waiting.get(client, {})
        mine.pop(woken, None)
        if not mine:
            self._waiting.pop(client, None)

    def _make_room(self) -> None:
        """End one turn that has taken too long where others wait; else look again later."""
        if self._evicted or not self._waiting:
            return  # whoever ends looks again
        counts = {client: len(turns) for client, turns in self._turns.items()}
        next_client = min(self._waiting, key=lambda one: counts.get(one, 0))
        fewest = counts.get(next_client, 0)
        oldest = [
            (counts[client], next(iter(turns)))
            for client, turns in self._turns.items()
            if counts[client] > fewest or client == next_client
        ]
        _, turn = max(oldest, key=lambda one: (one[0], -one[1].since))
        now = asyncio.get_running_loop().time()
        left_s = turn.since + self._patience_s - now
        if left_s > 0 or turn.timeout is None:
            self._look_later(max(left_s, self._patience_s / 10))
            return
        turn.evicted = True
        self._evicted += 1
        turn.timeout.reschedule(now)

    def _look_later(self, seconds: float) -> None:
        if self._timer is None or self._timer.when() <= asyncio.get_running_loop().time():
            self._timer = asyncio.get_running_loop().call_later(seconds, self._make_room)
