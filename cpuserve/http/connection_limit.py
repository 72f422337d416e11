"""Limits the open connections of a worker: those idle longest are closed for new ones."""

from __future__ import annotations

import heapq
import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from cpuserve.errors import QueueFull
from cpuserve.http.connection import Connection
from cpuserve.protocols.call import error_reply

__all__ = ["ConnectionLimit"]

_AT_A_TIME = 32  # part of the limit that gives way at once, so that not every newcomer has them compared
_LOG_EVERY_S = 60.0
_DISCARD = 1 << 16


class ConnectionLimit:
    """Makes room for new connections.

    Args:
        most: connections that may be open.
        connections: those that are, by file descriptor.
        log: gets a line at most once a minute when there are too many.
    """

    def __init__(self, most: int, connections: Mapping[int, Connection], log: logging.Logger) -> None:
        self._most = most
        self._connections = connections
        self._log = log
        self._told = -_LOG_EVERY_S

    def has_room(self) -> bool:
        """Whether one more connection may be opened, once those that were idle longest are ended.

        Each that is ended is closed by the thread that reads it.
        """
        return len(self._connections) < self._most or self.make_room("the limit of a worker is reached")

    def make_room(self, why: str) -> bool:
        """End the connections that have been idle longest; False when none is idle."""
        connections = list(self._connections.items())
        idle = [(one.deadline, number) for number, one in connections if one.idle]
        ending = heapq.nsmallest(max(1, self._most // _AT_A_TIME), idle)
        for _, number in ending:
            connection = self._connections.get(number)
            if connection is not None and connection.idle:
                connection.deadline = None  # it is not idle any more
                connection.abandon()
        now = time.monotonic()
        if now - self._told >= _LOG_EVERY_S:
            self._told = now
            self._log.warning(
                "%d connections are open, %d of them idle: %s (setting max_connections, %d); %s",
                *(len(connections), len(idle), why, self._most),
                "those idle longest are closed" if idle else "new ones are answered 503",
            )
        return bool(ending)

    def refuse(self, sock: socket.socket) -> None:
        """Answer 503 on a connection that cannot be served, as far as that goes without waiting."""
        text = f"{self._most} connections of this worker are open and none is idle (setting max_connections)"
        reply = error_reply(QueueFull(text, retry_after_s=1.0))
        head = "HTTP/1.1 503 Service Unavailable\r\n"
        for name, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
            head += f"{name}: {value}\r\n"
        with sock, suppress(OSError):  # the client may have left
            sock.setblocking(False)
            sock.send(head.encode("latin-1") + b"Connection: close\r\n\r\n" + reply.body)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(_DISCARD)  # closing with unread bytes would take the answer away
