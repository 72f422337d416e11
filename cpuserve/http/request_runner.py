"""Runs whole requests: checks their deadline, calls the application, sends the answer and counts it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cpuserve.errors import (
    BodiesTooLarge,
    CpuserveError,
    DeadlineExceeded,
    QueueFull,
    RateLimited,
    Unauthorized,
)
from cpuserve.http.connection import Connection
from cpuserve.http.stamped_socket import kernel_arrival_ns
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.tracing import Tracer
from cpuserve.serving.admission import Admission
from cpuserve.serving.statistics import Recorder

__all__ = ["QueuedRequest", "RequestRunner"]

_log = logging.getLogger("cpuserve.http")
_REFUSED: dict[type[CpuserveError], str] = {
    QueueFull: "refused_queue_full",
    DeadlineExceeded: "refused_deadline",
    RateLimited: "refused_rate",
    Unauthorized: "refused_key",
    BodiesTooLarge: "refused_body_memory",
}
_LATE_S = 1.0  # beyond its deadline: less is the uncertainty of what was expected
_LATE_EVERY_S = 10.0  # of such lines
_REDIRECTION = 300


@dataclass(slots=True)
class QueuedRequest:
    """A whole request that waits for its turn.

    Attributes:
        connection: has the request.
        kind: its path, by which its service time is known.
        since: when it arrived at the latest, on the clock of `time.monotonic`.
        timeout_s: seconds from then to its deadline.
        queued: when it was read, on the same clock.
        expected_s: seconds from then to its expected answer.
    """

    connection: Connection
    kind: str
    since: float
    timeout_s: float
    queued: float
    expected_s: float


class RequestRunner:
    """Runs the requests of one worker; all methods may be called by several threads.

    Args:
        admission: learns how long requests take.
        log: where requests are named that held a thread too long.

    Attributes:
        app: answers a call; set before a request is run.
        last: whether every answer ends its connection, since the worker is stopping.
        recorder: counts refusals.
        tracer: traces requests; None for none.
    """

    def __init__(self, admission: Admission, log: logging.Logger) -> None:
        self.app: Callable[[Call], Reply]
        self.last = False
        self.recorder: Recorder | None = None
        self.tracer: Tracer | None = None
        self._admission = admission
        self._log = log
        self._tell_late_from = 0.0

    def run(self, waiting: QueuedRequest, began: float) -> None:
        """Run a request whose turn has come, or refuse it when its time is over.

        Args:
            waiting: the request.
            began: since when it takes its thread; 0 where that says nothing of other requests.
        """
        connection, kind, admission = waiting.connection, waiting.kind, self._admission
        try:
            admission.check(kind, waiting.since + waiting.timeout_s - time.monotonic())
        except CpuserveError as error:
            self.refuse(connection, error)
            return
        status = self.answer(connection)
        if status < _REDIRECTION and began:
            now = time.monotonic()
            admission.served(kind, now - began, now)
            if now - waiting.since > waiting.timeout_s + _LATE_S:
                self._tell_late(waiting, now)
            if 6 * waiting.expected_s > waiting.timeout_s:
                admission.answered(kind, waiting.expected_s, now - waiting.queued, waiting.timeout_s)

    def answer(self, connection: Connection) -> int:
        """Answer the request of a connection; whatever the application raises becomes a 500.

        Returns:
            The status that was sent.
        """
        call, tracer, spans = connection.call, self.tracer, None
        if tracer is not None and tracer.wants(call):
            spans = tracer.begin(call, kernel_arrival_ns(connection, call.arrived_ns or 0))
        try:
            reply = self.app(call)
        except (Exception, SystemExit):  # noqa: BLE001  # whatever a model raises or calls
            _log.exception("Error handling request %s", connection.target)
            reply = Reply(500, b"", [])
        if tracer is not None and spans is not None:
            reply.headers += tracer.headers(call, spans)
        connection.answer(reply, last=self.last)
        if tracer is not None and spans is not None:
            tracer.end(call, spans, reply.status)
        return reply.status

    def refuse(self, connection: Connection, error: CpuserveError) -> None:
        """Answer a request with an error, and count it."""
        connection.refuse(error)
        counter = _REFUSED.get(type(error))
        if counter is not None and self.recorder is not None:
            self.recorder.add(counter)

    def _tell_late(self, waiting: QueuedRequest, now: float) -> None:
        """Log that a request held a thread far beyond its deadline, now and then."""
        if now >= self._tell_late_from:
            self._tell_late_from = now + _LATE_EVERY_S
            took_s = now - waiting.since
            text = "%.200r was answered after %.1f s, its deadline was %.1f s: something held its thread"
            self._log.warning(text, waiting.kind, took_s, waiting.timeout_s)
