"""Traces requests of a worker, from the arrival of their last byte to their answer; it shows none of it."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from cpuserve.http.connection import Connection
from cpuserve.protocols.otel import OpenTelemetry
from cpuserve.serving.request import Spans
from cpuserve.serving.stages import SERIALISE
from cpuserve.serving.trace_ring import Row, Timeline

__all__ = ["HEADER", "SPANS", "StampedSocket", "Tracer"]

_log = logging.getLogger("cpuserve.tracing")

HEADER = "X-Cpuserve-Trace"
"""Asks for one request to be traced; in its answer, what its trace is called."""

SPANS = "cpuserve.spans"
"""Where the spans are in the WSGI environment of a request that is traced."""

_ASKED = "HTTP_" + HEADER.upper().replace("-", "_")
_SO_TIMESTAMPNS = 35  # of <asm-generic/socket.h>; Python has no name for it
_OLDEST_NS = 60_000_000_000


class StampedSocket(socket.socket):
    """A socket that knows when the kernel had the last byte it gave (``SO_TIMESTAMPNS``, man 7 socket).

    Bytes may lie in the kernel while all threads compute: without the stamp that wait would be nobody's.

    Attributes:
        stamp_ns: nanoseconds since the epoch; 0 where the kernel does not say.
    """

    stamp_ns = 0

    @classmethod
    def of(cls, plain: socket.socket) -> StampedSocket:
        """The same connection; ``plain`` is of no use afterwards."""
        stamped = cls(plain.family, plain.type, plain.proto, plain.detach())
        stamped.setblocking(False)
        stamped.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        return stamped

    def recv(self, count: int, flags: int = 0, /) -> bytes:
        """As of any socket."""
        data, more, _, _ = self.recvmsg(count, 64, flags)
        self._note(more)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As of any socket; ``nbytes`` is the buffer's size."""
        count, more, _, _ = self.recvmsg_into([buffer], 64, flags)
        self._note(more)
        return count

    def _note(self, more: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in more:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", data[:16])
                self.stamp_ns = seconds * 1_000_000_000 + nanoseconds


class Tracer:
    """Traces the requests of one worker that are to be traced.

    Args:
        timeline: the server's.
        row: of this worker.
        telemetry: sends those whose callers record them, where that was set up.
    """

    def __init__(self, timeline: Timeline, row: Row, telemetry: OpenTelemetry | None = None) -> None:
        self._timeline = timeline
        self._row = row
        self._telemetry = telemetry

    def begin(self, environ: dict[str, Any], connection: Connection) -> Spans | None:
        """Spans for a request that is about to run, where it is traced; None for any other."""
        asked = self._timeline.tracing or _ASKED in environ
        if not asked and (self._telemetry is None or not self._telemetry.wants(environ)):
            return None
        arrived = connection.arrived_ns
        now = time.perf_counter_ns()
        if isinstance(connection.sock, StampedSocket):
            stamped = connection.sock.stamp_ns - (time.time_ns() - now)
            if arrived - _OLDEST_NS < stamped < arrived:
                arrived = stamped
        elif connection.open:
            connection.sock = StampedSocket.of(connection.sock)  # knows more from the next request on
        spans = environ[SPANS] = self._row.spans(arrived, now)
        return spans

    def close(self) -> None:
        """Send the spans that wait; the worker ends."""
        if self._telemetry is not None:
            self._telemetry.close()

    def headers(self, environ: Mapping[str, Any], spans: Spans) -> list[tuple[str, str]]:
        """What the answer says of the trace to whoever asked for one."""
        return [(HEADER, f"{os.getpid()}-{spans.number}")] if _ASKED in environ else []

    def end(self, environ: Mapping[str, Any], spans: Spans, status: str) -> None:
        """Keep a request whose answer, such as ``200 OK``, was handed to the kernel."""
        now = time.perf_counter_ns()
        spans.to(SERIALISE, now)
        self._row.put(spans, now, int(status[:3]))
        if self._telemetry is not None and self._telemetry.wants(environ):
            try:
                self._telemetry.send(environ, spans, now, int(status[:3]))
            except Exception:  # noqa: BLE001  # the library is another's; the thread serves others too
                _log.exception("spans of %r were not sent", environ["PATH_INFO"])
