"""Channels to a gRPC server, each a connection of its own that is opened anew when it is lost."""

from __future__ import annotations

import math
import select
import time
from collections import deque
from typing import Self

from benchmarks.header_blocks import request_fields
from benchmarks.http2_client import Call, Connection

__all__ = ["Channels"]

_LEAST_S = 0.001  # of a deadline
_PAUSE_S = 0.01  # before a lost call is told of: a loop that asks again must not spin
_RETRY_S = 0.05  # between attempts to connect at the beginning
_PREFIX_MOST = 1 << 32


class Channels:
    """Asks one message over several channels, in one thread.

    Args:
        address: HOST:PORT of the server.
        method: the path of the method.
        message: sent with each call.
        count: of channels.
        wait_s: how long to wait for the server's settings.

    Raises:
        ConnectionError: if something else than HTTP/2 answers.
        TimeoutError: if nothing answers in time.
    """

    def __init__(self, address: str, method: str, message: bytes, count: int, wait_s: float) -> None:
        if len(message) >= _PREFIX_MOST:
            raise ValueError("gRPC has no message of 4 GiB")
        host, _, port = address.rpartition(":")
        self._address, self._at = address, (host.strip("[]"), int(port))
        self._fields = request_fields(method, address)
        self._body = memoryview(bytes(1) + len(message).to_bytes(4, "big") + message)
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._blocked: set[Connection] = set()  # those that are polled for writing too
        self._current: list[Connection | None] = [None] * count
        self._deadlines: deque[Call] = deque()  # ascending
        self._lost: deque[tuple[float, Call]] = deque()  # and when to tell of them
        try:
            self._connect(wait_s)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._current)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._poll.close()

    def ask(self, channel: int, since: float, timeout_s: float) -> None:
        """Ask a channel; latency counts from ``since``. No deadline may come before an earlier call's."""
        timeout_s = max(_LEAST_S, timeout_s)
        deadline = time.perf_counter() + timeout_s
        call = Call(channel, since, deadline, math.ceil(1000 * timeout_s), self._body)
        self._deadlines.append(call)
        self._send(call)

    def wait(self, wait_s: float) -> list[Call]:
        """The calls that end within a time; it returns at the first of them, or earlier with none."""
        now = time.perf_counter()
        if self._deadlines:
            wait_s = min(wait_s, self._deadlines[0].deadline - now)
        if self._lost:
            wait_s = min(wait_s, self._lost[0][0] - now)
        ended: list[Call] = []
        for number, event in self._poll.poll(max(0.0, wait_s)):
            self._serve(self._connections[number], event, ended)
        self._expire(ended)
        return ended

    def _connect(self, wait_s: float) -> None:
        """Open all channels, and wait for the settings of each."""
        until = time.perf_counter() + wait_s
        while time.perf_counter() < until:
            for channel in range(len(self._current)):
                self._usable(channel)
            self.wait(_RETRY_S)
            found = [connection for connection in self._current if connection is not None]
            for connection in found:
                if connection.malformed:
                    raise ConnectionError(f"{self._address}: {connection.lost}")
            if sum(connection.ready and connection.usable for connection in found) == len(self):
                return
            if sum(connection.usable for connection in found) < len(self):
                time.sleep(_RETRY_S)
        raise TimeoutError(f"{self._address}: no HTTP/2 server answered within {wait_s:g} s")

    def _usable(self, channel: int) -> Connection | None:
        """The connection of a channel, a new one if need be; None when there is no server."""
        connection = self._current[channel]
        if connection is not None and connection.usable:
            return connection
        self._current[channel] = None
        try:
            connection = Connection(self._at, self._fields)
        except OSError:
            return None
        self._connections[connection.sock.fileno()] = self._current[channel] = connection
        self._poll.register(connection.sock, select.EPOLLIN)
        self._watch(connection)
        return connection

    def _send(self, call: Call) -> None:
        connection = self._usable(call.channel)
        if connection is None:
            call.code = "UNAVAILABLE"
            self._lost.append((time.perf_counter() + _PAUSE_S, call))
            return
        connection.ask(call)
        self._watch(connection)

    def _serve(self, connection: Connection, event: int, ended: list[Call]) -> None:
        if event & select.EPOLLOUT:
            connection.flush()
        if event & ~select.EPOLLOUT:
            now = 0.0
            for call in connection.receive():
                now = now or time.perf_counter()
                call.ended = now
                if not call.code:
                    call.again = True
                    self._send(call)
                elif connection.lost:
                    self._lost.append((now + _PAUSE_S, call))
                else:
                    if call.code == "OK" and now > call.deadline:
                        call.code = "DEADLINE_EXCEEDED"
                    ended.append(call)
        if connection.lost or connection.finished:
            del self._connections[connection.sock.fileno()]
            self._blocked.discard(connection)
            connection.close()  # epoll forgets it
        else:
            self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        if connection.blocked != (connection in self._blocked):
            events = select.EPOLLIN | (select.EPOLLOUT if connection.blocked else 0)
            self._poll.modify(connection.sock, events)
            self._blocked ^= {connection}

    def _expire(self, ended: list[Call]) -> None:
        """Add the calls that were lost, and those whose deadline has passed."""
        now = time.perf_counter()
        while self._lost and self._lost[0][0] <= now:
            ended.append(self._lost.popleft()[1])
        while self._deadlines and (self._deadlines[0].code or self._deadlines[0].deadline <= now):
            call = self._deadlines.popleft()
            if call.code:
                continue
            call.code = "DEADLINE_EXCEEDED"
            ended.append(call)
            for connection in self._connections.values():
                connection.cancel(call)
                self._watch(connection)
