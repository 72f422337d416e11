"""Threads that share one epoll and run each request to completion.

Every thread waits on the same epoll instance, in which each connection is armed for one event. Whichever
thread wakes first reads whatever has come, on every connection that has something, and puts the requests that
are whole into one queue. Then it takes the first and runs it to its answer. So bodies are read while others
compute, no request is handed from thread to thread, connections need not be spread over threads, and a slow
client holds none. Health checks are answered as soon as they are read.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cpuserve.errors import (
    BodiesTooLarge,
    CpuserveError,
    DeadlineExceeded,
    QueueFull,
    RateLimited,
    Unauthorized,
)
from cpuserve.http.connection import Connection
from cpuserve.http.handover import Handover
from cpuserve.http.mailbox import WaitingRequest
from cpuserve.http.queued_request import QueuedRequest
from cpuserve.http.request_queue import RequestQueue
from cpuserve.http.slow_requests import SlowRequests
from cpuserve.http.wsgi_call import answer_by_wsgi
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.protocols.tracing import Tracer
from cpuserve.protocols.urgency import DEFAULT_PRIORITY
from cpuserve.serving.admission import Admission
from cpuserve.serving.stages import SERVING_THREAD
from cpuserve.serving.statistics import Recorder

__all__ = ["RequestLoop"]

_REFUSED: dict[type[CpuserveError], str] = {
    QueueFull: "refused_queue_full",
    DeadlineExceeded: "refused_deadline",
    RateLimited: "refused_rate",
    Unauthorized: "refused_key",
    BodiesTooLarge: "refused_body_memory",
}
_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT
_AT_ONCE = frozenset(("/v2/health/live", "/v2/health/ready", "/ping"))
_AT_ONCE_A_TURN = 8  # more health checks than that wait like any other request
_RETURNED_AT_ONCE_S = 2e-4  # a poll that took less found what had come before it
_REFUSALS_A_TURN = 16  # of requests that one client sends without waiting, before others have their turn
_LATE_S = 1.0  # beyond its deadline: less is the uncertainty of what was expected
_LATE_EVERY_S = 10.0  # of such lines
_ERROR_PAUSE_S = 0.01


class RequestLoop:
    """Reads the connections of one worker and runs their requests.

    Args:
        threads: how many run requests.
        admission: decides which may wait.
        deadline_s: of requests that say nothing.
        with_priorities: whether clients may say what goes first.
        log: where failures go.

    Attributes:
        connections: those that are open, by file descriptor.
        app: the WSGI application; set before `start`.
        slow: how the paths begin whose requests get a thread of their own.
        last: whether every answer ends its connection, since the worker is stopping.
        recorder: counts refusals, and tells how many requests wait.
        tracer: notes where the time of a request goes.
        changed: called when a connection was opened or closed.
        handover: passes requests to other workers and takes theirs; None where there is one worker.
        take_over: makes a connection of what another worker has left.
    """

    def __init__(
        self,
        threads: int,
        admission: Admission,
        *,
        deadline_s: float,
        with_priorities: bool,
        log: logging.Logger,
    ) -> None:
        self.connections: dict[int, Connection] = {}
        self.app: Callable[..., Any]
        self.slow: tuple[str, ...] = ()
        self.last = False
        self.recorder: Recorder | None = None
        self.tracer: Tracer | None = None
        self.changed: Callable[[], None] = lambda: None
        self.handover: Handover | None = None
        self.take_over: Callable[[WaitingRequest], Connection]
        self._admission = admission
        self._deadline_s = deadline_s
        self._with_priorities = with_priorities
        self._log = log
        self._queue: RequestQueue[QueuedRequest] = RequestQueue()
        self._slow_requests: SlowRequests[QueuedRequest] = SlowRequests(self._run)
        self._epoll = select.epoll()
        # a thread takes the event that wakes one; that which ends all is never taken
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._end = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._end, select.EPOLLIN)
        self._lock = threading.Lock()
        self._idle_threads = 0
        self._turns = self._turns_seen = 0
        self._polled = self._tell_late_from = 0.0
        self._at_once_left = _AT_ONCE_A_TURN
        self._threads = [
            threading.Thread(target=self._serve, name=f"{SERVING_THREAD}{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        if self.handover is not None:
            self._epoll.register(self.handover.number, select.EPOLLIN)
        for thread in self._threads:
            thread.start()

    def end(self, timeout_s: float) -> None:
        """End the threads, each after the request it is at."""
        os.eventfd_write(self._end, 1)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def add(self, connection: Connection) -> None:
        """Serve a new connection."""
        self.connections[connection.number] = connection
        self.changed()
        self._epoll.register(connection.number, _READ)

    def help_out(self) -> None:
        """Read what has come, if since the last call all threads have been busy with the same requests.

        Called regularly by a thread that runs no requests: health is told and the rest queued or refused also
        while every thread is stuck in a model.
        """
        stuck = self._turns == self._turns_seen and not self._idle_threads
        self._turns_seen = self._turns
        if not stuck:
            return
        self._at_once_left = _AT_ONCE_A_TURN
        now = time.monotonic()
        for number, event in self._epoll.poll(0, 64):
            if number in self.connections:
                self._event(number, event, now)
        self._wake_one()
        self._hand_over()

    def _serve(self) -> None:
        """The life of a thread: read what has come, run the request whose turn it is, again."""
        show_thread_name()
        block_signals()
        while True:
            try:
                if not self._turn():
                    return
            except Exception:  # noqa: BLE001  # the thread serves others too
                self._log.exception("Error in a serving thread; it goes on")
                time.sleep(_ERROR_PAUSE_S)  # should it come again at once, it must not fill the log

    def _turn(self) -> bool:
        """One round of a thread; False when the threads are to end."""
        queue, handover = self._queue, self.handover
        with self._lock:
            self._idle_threads += 1
            self._turns += 1
            busy = queue.count > 0  # after this thread counts as idle: whoever queues now wakes it
            if handover is not None and not busy:
                handover.tell_idle(self._idle_threads)
        try:
            began, before = time.monotonic(), self._polled
            events = self._epoll.poll(0 if busy else -1, 64)
            self._polled = now = time.monotonic()
        finally:
            with self._lock:
                self._idle_threads -= 1
                if handover is not None:
                    handover.tell_idle(self._idle_threads)
        # what was found at once may have come at any time since the poll before
        since = before if now - began < _RETURNED_AT_ONCE_S and before else now
        self._at_once_left = _AT_ONCE_A_TURN
        for number, event in events:
            if number == self._wake:
                with suppress(BlockingIOError):  # another thread took it
                    os.eventfd_read(self._wake)
            elif number == self._end:
                return False
            elif handover is not None and number == handover.number:
                self._receive_waiting(handover)
            else:
                self._event(number, event, since)
        waiting = queue.take()
        if waiting is None:
            return True  # nothing whole yet, or another thread took it
        self._tell_depth()
        self._wake_one()
        if handover is not None:
            self._hand_over()
        if not busy:
            began = now
        if waiting.kind.startswith(self.slow):
            try:
                self._slow_requests.put(waiting)
            except QueueFull as error:
                self._refuse(waiting.connection, error)
                self._next(waiting.connection)
        else:
            self._run(waiting, began)
        return True

    def _wake_one(self) -> None:
        if self._idle_threads and self._queue.count:
            os.eventfd_write(self._wake, 1)

    def _hand_over(self) -> None:
        """Pass requests that no thread here is free for to workers that have one."""
        handover, queue = self.handover, self._queue
        if handover is None:
            return
        while queue.count and not self._idle_threads and handover.anybody_idle():
            if not queue.offer(self._give):
                self._wake_one()  # a thread may have looked while the request was offered
                return
            self._tell_depth()

    def _give(self, waiting: QueuedRequest) -> bool:
        """Pass one of them; its connection is then another worker's."""
        connection = waiting.connection
        try:
            if self.handover is None or waiting.kind.startswith(self.slow):
                return False
            if not self.handover.give(connection.waiting_request()):
                return False
            with suppress(FileNotFoundError):  # it came from another worker and was never waited for here
                self._epoll.unregister(
                    connection.number
                )  # closing would not: the socket stays open elsewhere
            connection.close()
            self._arm(connection)
        except Exception:  # noqa: BLE001  # the thread has another request to run
            self._drop(connection)
        return True

    def _receive_waiting(self, handover: Handover) -> None:
        """Queue what other workers have left here."""
        while (request := handover.receive()) is not None:
            connection = self.take_over(request)
            self.connections[connection.number] = connection
            self.changed()
            kind, now = connection.path, time.monotonic()
            entry = QueuedRequest(connection, kind, now, request.due - now, now, 0.0)
            self._queue.put(entry, connection.client, DEFAULT_PRIORITY, self._admission.service_s(kind))
        self._tell_depth()

    def _tell_depth(self) -> None:
        if self.recorder is not None:
            self.recorder.put_count("queue_depth", self._queue)

    def _event(self, number: int, event: int, since: float) -> None:
        connection = self.connections.get(number)
        if connection is None or connection.whole:  # or the event of a socket that had this number before
            return
        try:
            if event & select.EPOLLOUT:
                connection.flush()
                if not connection.settle():
                    self._arm(connection)
                    return
            self._receive(connection, since)
        except Exception:  # noqa: BLE001  # one client must not end a thread that serves all
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Log what was raised, and end the connection: how far it got is not known."""
        self._log.exception("Error on the connection of %s", connection.peer)
        connection.close()
        self._arm(connection)

    def _receive(self, connection: Connection, since: float) -> None:
        """Read a connection; a whole request goes into the queue, or is refused when that is full."""
        for _ in range(_REFUSALS_A_TURN):
            try:
                if not connection.receive():
                    break
                path = connection.path
                if path not in _AT_ONCE or connection.has_body or self._at_once_left <= 0:
                    self._enqueue(connection, path, since)
                    return
                self._at_once_left -= 1
                self._answer(connection)
            except CpuserveError as error:
                self._refuse(connection, error)
            if not connection.settle():
                break
        self._arm(connection)

    def _enqueue(self, connection: Connection, kind: str, since: float) -> None:
        """Let a request wait for its turn, or raise why it may not."""
        terms = connection.terms(self._deadline_s)
        client = connection.client
        if not connection.has_body:
            client = f"GET {client}"  # its turns are apart from those of the requests that infer
        priority = terms.priority if self._with_priorities else DEFAULT_PRIORITY
        queue, admission = self._queue, self._admission
        waiting = queue.count
        ahead, ahead_s = queue.ahead(client, priority) if waiting else (0, 0.0)
        dropped = None
        if waiting >= admission.queue_size:
            dropped = queue.drop_for(client)
            waiting -= dropped is not None
        now = time.monotonic()
        try:
            expected_s = admission.admit(kind, waiting, ahead, ahead_s, since + terms.timeout_s - now)
            entry = QueuedRequest(connection, kind, since, terms.timeout_s, now, expected_s)
            queue.put(entry, client, priority, admission.service_s(kind))
        finally:
            if dropped is not None:
                text = f"{admission.queue_size} requests are waiting, most of them this client's"
                self._refuse(dropped.connection, QueueFull(text + " (setting queue_size)", ahead_s))
                self._next(dropped.connection)
        self._tell_depth()

    def _refuse(self, connection: Connection, error: CpuserveError) -> None:
        connection.refuse(error)
        counter = _REFUSED.get(type(error))
        if counter is not None and self.recorder is not None:
            self.recorder.add(counter)

    def _arm(self, connection: Connection) -> None:
        """Wait for the connection's next event, or forget it."""
        if connection.open:
            events = _WRITE if connection.wants_write else _READ
            try:
                self._epoll.modify(connection.number, events)
            except FileNotFoundError:  # another worker's until now
                self._epoll.register(connection.number, events)
        elif self.connections.get(connection.number) is connection:
            del self.connections[connection.number]
            self.changed()

    def _run(self, waiting: QueuedRequest, began: float = 0.0) -> None:
        """Run a request whose turn has come, and go on with its connection.

        Args:
            waiting: the request.
            began: since when it takes its thread; 0 where that says nothing of other requests.
        """
        connection = waiting.connection
        try:
            kind = waiting.kind
            try:
                self._admission.check(kind, waiting.since + waiting.timeout_s - time.monotonic())
            except CpuserveError as error:
                self._refuse(connection, error)
            else:
                status = self._answer(connection)
                if status < "3" and began:
                    now = time.monotonic()
                    self._admission.served(kind, now - began, now)
                    if now - waiting.since > waiting.timeout_s + _LATE_S:
                        self._tell_late(waiting, now)
                    if 6 * waiting.expected_s > waiting.timeout_s:
                        took_s = now - waiting.queued
                        self._admission.answered(kind, waiting.expected_s, took_s, waiting.timeout_s)
            self._next(connection)
        except Exception:  # noqa: BLE001  # the thread serves others too
            self._drop(connection)

    def _tell_late(self, waiting: QueuedRequest, now: float) -> None:
        """Log that a request held a thread far beyond its deadline, now and then."""
        if now >= self._tell_late_from:
            self._tell_late_from = now + _LATE_EVERY_S
            took_s = now - waiting.since
            text = "%.200r was answered after %.1f s, its deadline was %.1f s: something held its thread"
            self._log.warning(text, waiting.kind, took_s, waiting.timeout_s)

    def _answer(self, connection: Connection) -> str:
        return answer_by_wsgi(self.app, connection, self.tracer, last=self.last)

    def _next(self, connection: Connection) -> None:
        """After an answer: the connection's next request, or its next event."""
        if connection.settle():
            self._receive(connection, time.monotonic())
            self._wake_one()
        else:
            self._arm(connection)
