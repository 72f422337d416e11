"""Runs whole requests: checks their deadline, calls the application, sends the answer and counts it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cpuserve.errors import (
    BodiesTooLarge,
    ClientLeft,
    CpuserveError,
    DeadlineExceeded,
    QueueFull,
    RateLimited,
    Unauthorized,
)
from cpuserve.http.connection import Connection
from cpuserve.http.stamped_socket import kernel_arrival_ns
from cpuserve.protocols.access_log import AccessLog
from cpuserve.protocols.call import Call, Refusal, Reply, error_reply
from cpuserve.protocols.tracing import Tracer
from cpuserve.protocols.waiting_call import LeavableCall, WaitingCall
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
    ClientLeft: "refused_client_left",
}
_WAITED_S = 0.05  # from which on it is looked whether the client is still there
_LATE_S = 1.0  # beyond its deadline: less is the uncertainty of what was expected
_LATE_EVERY_S = 10.0  # of such lines
_REDIRECTION = 300


@dataclass(slots=True)
class QueuedRequest:
    """A whole request that waits for its turn.

    Attributes:
        waiting: the request.
        kind: its path, by which its service time is known.
        since: when it arrived at the latest, on the clock of `time.monotonic`.
        timeout_s: seconds from then to its deadline.
        queued: when it was read, on the same clock.
        expected_s: seconds from then to its expected answer.
    """

    waiting: WaitingCall
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
        access_log: gets a line for each answer; None for none.
        tells_refusals: whether the log has a line for each refusal.
    """

    def __init__(self, admission: Admission, log: logging.Logger) -> None:
        self.app: Callable[[Call], Reply]
        self.last = False
        self.recorder: Recorder | None = None
        self.tracer: Tracer | None = None
        self.access_log: AccessLog | None = None
        self.tells_refusals: Callable[[], bool] = lambda: False
        self._admission = admission
        self._log = log
        self._tell_late_from = 0.0

    def run(self, queued: QueuedRequest, began: float) -> None:
        """Run a request whose turn has come, or refuse it when its time is over or its client has gone.

        Without the latter, clients that give up and ask again would keep a worker busy for nobody, and none
        of them would get an answer any more.

        Args:
            queued: the request.
            began: since when it takes its thread; 0 where that says nothing of other requests.
        """
        waiting, kind, admission = queued.waiting, queued.kind, self._admission
        now = time.monotonic()
        try:
            if now - queued.queued > _WAITED_S and isinstance(waiting, LeavableCall) and waiting.has_left():
                raise ClientLeft("the client left while its request waited")  # as any other
            admission.check(kind, queued.since + queued.timeout_s - now)
        except CpuserveError as error:
            self.refuse(waiting, error)
            return
        status = self.answer(waiting)
        if status < _REDIRECTION and began:
            now = time.monotonic()
            admission.served(kind, now - began, now)
            if now - queued.since > queued.timeout_s + _LATE_S:
                self._tell_late(queued, now)
            if 6 * queued.expected_s > queued.timeout_s:
                admission.answered(kind, queued.expected_s, now - queued.queued, queued.timeout_s)

    def answer(self, waiting: WaitingCall) -> int:
        """Answer a request; whatever the application raises becomes a 500.

        Returns:
            The status that was sent.
        """
        call, tracer, spans = waiting.call, self.tracer, None
        if tracer is not None and tracer.wants(call):
            arrived_ns = call.arrived_ns or 0
            if isinstance(waiting, Connection):
                arrived_ns = kernel_arrival_ns(waiting, arrived_ns)
            spans = tracer.begin(call, arrived_ns)
        try:
            reply = (call.handler or self.app)(call)
        except (Exception, SystemExit):  # noqa: BLE001  # whatever a model raises or calls
            _log.exception("Error handling request %s", waiting.target)
            reply = Reply(500, b"", [], Refusal("INTERNAL", "internal error; the server's log says more"))
        if tracer is not None and spans is not None:
            reply.headers += tracer.headers(call, spans)
        told = self.access_log is not None or reply.refusal is not None
        target = waiting.target if told else ""  # afterwards it is that of the next
        waiting.answer(reply, last=self.last)
        if reply.refusal is not None:
            self._tell_refusal(call, target, reply.status, reply.refusal.text)
        if self.access_log is not None:
            self.access_log.write(call, target, reply.status, len(reply.body))
        if tracer is not None and spans is not None:
            tracer.end(call, spans, reply.status)
        return reply.status

    def refuse(self, waiting: WaitingCall, error: CpuserveError) -> None:
        """Answer a request with an error, and count it."""
        call, target = waiting.call, waiting.target
        waiting.refuse(error)
        self.note_refused(call, target, error)

    def note_refused(self, call: Call, target: str, error: CpuserveError) -> None:
        """Count and log a request that was refused, and was answered elsewhere."""
        self._count_refused(error)
        if self.access_log is not None:
            self.access_log.write(call, target, error.status, len(error_reply(error).body))
        self._tell_refusal(call, target, error.status, str(error))

    def _tell_refusal(self, call: Call, target: str, status: int, reason: str) -> None:
        if self.tells_refusals():
            where = call.address or "a local client"  # its key is nobody's business
            _log.debug("%.200r from %s refused, %d: %s", target, where, status, reason)

    def _count_refused(self, error: CpuserveError) -> None:
        counter = _REFUSED.get(type(error))
        if counter is not None and self.recorder is not None:
            self.recorder.add(counter)

    def _tell_late(self, queued: QueuedRequest, now: float) -> None:
        """Log that a request held a thread far beyond its deadline, now and then."""
        if now >= self._tell_late_from:
            self._tell_late_from = now + _LATE_EVERY_S
            took_s = now - queued.since
            text = "%.200r was answered after %.1f s, its deadline was %.1f s: something held its thread"
            self._log.warning(text, queued.kind, took_s, queued.timeout_s)
