"""Traces requests of a worker, from the arrival of their last byte to their answer."""

from __future__ import annotations

import logging
import os
import time

from cpuserve.protocols.call import Call
from cpuserve.protocols.otel import OpenTelemetry
from cpuserve.serving.request import Spans
from cpuserve.serving.stages import SERIALISE
from cpuserve.serving.trace_ring import TraceRing, TraceRow

__all__ = ["HEADER", "Tracer"]

_log = logging.getLogger("cpuserve.tracing")

HEADER = "X-Cpuserve-Trace"
"""Asks for one request to be traced; in its answer, the name of its trace."""

_ASKED = HEADER.lower()


class Tracer:
    """Traces the requests of one worker that are to be traced.

    Args:
        trace_ring: the server's.
        row: of this worker.
        telemetry: sends the requests whose callers record them; None where no collector is set.
    """

    def __init__(self, trace_ring: TraceRing, row: TraceRow, telemetry: OpenTelemetry | None = None) -> None:
        self._trace_ring = trace_ring
        self._row = row
        self._telemetry = telemetry

    def wants(self, call: Call) -> bool:
        """Whether a request is to be traced."""
        if self._trace_ring.tracing or _ASKED in call.headers:
            return True
        return self._telemetry is not None and self._telemetry.wants(call)

    def begin(self, call: Call, arrived_ns: int) -> Spans:
        """Trace a request that is about to run.

        Args:
            call: the request.
            arrived_ns: when its last byte came, on the clock of `time.perf_counter_ns`.
        """
        spans = call.spans = self._row.spans(arrived_ns, time.perf_counter_ns())
        return spans

    def close(self) -> None:
        """Send the spans that wait; the worker ends."""
        if self._telemetry is not None:
            self._telemetry.close()

    def headers(self, call: Call, spans: Spans) -> list[tuple[str, str]]:
        """What the answer says of the trace to whoever asked for one."""
        return [(HEADER, f"{os.getpid()}-{spans.number}")] if _ASKED in call.headers else []

    def end(self, call: Call, spans: Spans, status: int) -> None:
        """Keep the trace of a request whose answer was handed to the kernel."""
        now = time.perf_counter_ns()
        spans.end(SERIALISE, now)
        self._row.put(spans, now, status)
        if self._telemetry is not None and self._telemetry.wants(call):
            try:
                self._telemetry.send(call, spans, now, status)
            except Exception:  # noqa: BLE001  # the library is another's; the thread serves others too
                _log.exception("spans of %r were not sent", call.path)
