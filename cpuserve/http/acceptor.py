"""Accepts the connections of one worker, and leaves them to workers that have fewer."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

from cpuserve.http.connection import Connection
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.request_loop import RequestLoop
from cpuserve.serving.worker_table import LOADING, READY, STOPPING, WorkerRow, WorkerTable

__all__ = ["Acceptor"]

_YIELD_S = 0.002  # how long another worker is given to take a connection that is rather its own
_YIELD_AT_MOST_S = 0.05
_ACCEPTS_A_LOOK = 64
_LINGER_S = 1.0  # how long a stopping worker waits for a request a client may just be sending
_NO_FILES = (errno.EMFILE, errno.ENFILE)


class Acceptor:
    """Takes connections from the listening sockets that all workers share.

    Args:
        listeners: the sockets; they become non-blocking.
        connect: makes a connection of an accepted socket and the client's address.
        loop: serves the connections.
        limit: makes room for new ones.
        worker_table: tells which worker may accept.
        row: this worker's.
        log: for connections that could not be accepted.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        connect: Callable[[socket.socket, tuple[str, int] | None], Connection],
        loop: RequestLoop,
        limit: ConnectionLimit,
        worker_table: WorkerTable,
        row: WorkerRow,
        log: logging.Logger,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        for listener in listeners:
            listener.setblocking(False)
        self._connect = connect
        self._loop = loop
        self._limit = limit
        self._worker_table = worker_table
        self._row = row
        self._log = log
        self._waiting_since = 0.0

    def descriptors(self) -> list[int]:
        """The descriptors of the listening sockets; one is readable when a connection waits."""
        return list(self._listeners)

    def accept(self, readable: Sequence[int]) -> None:
        """Take connections that wait, if this worker's turn has come.

        Args:
            readable: descriptors of listening sockets on which a connection waits.
        """
        if not readable:
            self._waiting_since = 0.0
            return
        if not self._worker_table.may_accept(self._row):
            now = time.monotonic()
            self._waiting_since = self._waiting_since or now
            # a ready worker that is slow to come is helped out; one that still loads can only refuse
            if now - self._waiting_since < _YIELD_AT_MOST_S or self._row.state != READY:
                time.sleep(_YIELD_S)
                return
        self._waiting_since = 0.0
        table, row = self._worker_table, self._row
        for number in readable:
            for _ in range(_ACCEPTS_A_LOOK):  # behind a crowd there may be another worker's turn
                if not self._accept_one(self._listeners[number]) or not table.may_accept(row):
                    break

    def _accept_one(self, listener: socket.socket) -> bool:
        """Take one connection; False when none was waiting."""
        try:
            sock, peer = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was faster, or the client left
        except OSError as error:
            if error.errno not in _NO_FILES:
                self._log.warning("a connection could not be accepted: %s", error)
            else:  # those that are open are served on
                self._limit.make_room(f"a new one could not be accepted: {error.strerror}")
            time.sleep(_YIELD_AT_MOST_S)
            return False
        if self._limit.has_room():
            self._loop.add(self._connect(sock, peer[:2] if isinstance(peer, tuple) else None))
        else:
            self._limit.refuse(sock)
        return True

    def stop(
        self, timeout_s: float, notify: Callable[[], None], others_run: Callable[[], bool] = lambda: False
    ) -> None:
        """Finish the requests that are here and take nothing new.

        Clients see no reset: connections that wait in the kernel's queue are still taken, every answer from
        now on ends its connection, and a connection without a request is closed only after a while.

        Args:
            timeout_s: seconds until requests are cut off.
            notify: called all the time, to show that the worker runs.
            others_run: whether other transports still have requests that the threads are to answer.
        """
        loop, row = self._loop, self._row
        loop.runner.last = True
        loading = row.state == LOADING  # such a worker could only refuse: others take what waits
        began = time.monotonic()
        deadline = began + timeout_s
        while not loading:
            stay = self._worker_table.must_stay(row) and time.monotonic() - began < _LINGER_S
            for listener in self._listeners.values():
                while self._accept_one(listener):
                    pass
            if not stay:
                break
            time.sleep(_YIELD_S)
        for listener in self._listeners.values():
            listener.close()
        if row.pid == os.getpid():
            row.state = STOPPING
        closed = time.monotonic()  # a connection taken at the last moment has its time too
        while (loop.connections or others_run()) and time.monotonic() < deadline:
            notify()
            if time.monotonic() - closed > _LINGER_S:
                for connection in list(loop.connections.values()):
                    if connection.idle:
                        connection.abandon()
            time.sleep(_YIELD_S)
        if loop.connections:
            self._log.warning(
                "%d requests were cut off after %d s (setting shutdown_timeout_s)",
                *(len(loop.connections), timeout_s),
            )
        loop.end(max(0.0, deadline - time.monotonic()))
        if loop.handover is not None:
            loop.handover.pass_on()
