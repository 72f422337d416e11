"""Serves the connections of a worker with threads that share one epoll.

Every thread waits on the same epoll instance, in which each connection is armed for one event. Whichever
wakes first reads what has come, and puts the requests that are whole into one queue. Then it takes the first
and runs it to its answer. So bodies are read while others compute, no request is handed from thread to
thread, and a slow client holds none. Health checks are answered as soon as they are read.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cpuserve.errors import CpuserveError, QueueFull
from cpuserve.http.connection import Connection
from cpuserve.http.early_refusal import EarlyRefusal
from cpuserve.http.handover import Handover
from cpuserve.http.mailbox import WaitingRequest
from cpuserve.http.request_queue import RequestQueue
from cpuserve.http.request_runner import QueuedRequest, RequestRunner
from cpuserve.http.slow_requests import SlowRequests
from cpuserve.machine.process_controls import block_signals, show_thread_name
from cpuserve.protocols.urgency import DEFAULT_PRIORITY
from cpuserve.protocols.waiting_call import WaitingCall
from cpuserve.serving.admission import Admission
from cpuserve.serving.stages import SERVING_THREAD

__all__ = ["RequestLoop"]

_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT
_AT_ONCE = frozenset(("/v2/health/live", "/v2/health/ready", "/ping"))
_AT_ONCE_A_TURN = 8  # more health checks than that wait like any other request
_RETURNED_AT_ONCE_S = 2e-4  # a poll that took less found what had come before it
_REFUSALS_A_TURN = 16  # of requests that one client sends without waiting, before others have their turn
_ERROR_PAUSE_S = 0.01


class RequestLoop:
    """Reads the connections of one worker and runs their requests.

    Args:
        threads: how many run requests.
        admission: decides which may wait.
        deadline_s: of requests that name none.
        with_priorities: whether requests may set their priority.
        log: where failures go.

    Attributes:
        connections: those that are open, by file descriptor.
        runner: runs requests; its ``app`` is set before `start`.
        slow_paths: how the paths begin whose requests get a thread of their own.
        changed: called when a connection was opened or closed.
        handover: passes requests to other workers and takes theirs; None where there is one worker.
        take_over: makes a connection of what another worker has left.
        early_refusal: refuses requests of other transports before they are read.
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
        self.runner = RequestRunner(admission, log)
        self.slow_paths: tuple[str, ...] = ()
        self.changed: Callable[[], None] = lambda: None
        self.handover: Handover | None = None
        self.take_over: Callable[[WaitingRequest], Connection]
        self._admission = admission
        self._deadline_s = deadline_s
        self._with_priorities = with_priorities
        self._log = log
        self._queue: RequestQueue[QueuedRequest] = RequestQueue()
        self.early_refusal = EarlyRefusal(self._queue, admission, deadline_s, with_priorities)
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
        self._polled = 0.0
        self._at_once_left = _AT_ONCE_A_TURN
        names = [f"{SERVING_THREAD}{number}" for number in range(threads)]
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return self._queue.count

    @property
    def idle_threads(self) -> int:
        """Threads that have nothing to do."""
        return self._idle_threads

    @property
    def running_threads(self) -> int:
        """Threads that have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

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

    def submit(self, waiting: WaitingCall) -> None:
        """Queue a request that came by another transport, or refuse it; may be called by any thread."""
        self._submit(waiting, quiet=False)
        self._wake_one()
        self._hand_over()

    def submit_quietly(self, waiting: WaitingCall, *, wake: bool) -> None:
        """Queue a request, or refuse it, for a thread that has another one; wake one only if that is said."""
        self._submit(waiting, quiet=True)
        if wake:
            self._wake_idle()

    def _submit(self, waiting: WaitingCall, *, quiet: bool) -> None:
        try:
            self._enqueue(waiting, waiting.call.path, time.monotonic(), quiet=quiet)
        except CpuserveError as error:
            self.runner.refuse(waiting, error)

    def run(self, waiting: WaitingCall) -> None:
        """Run a request in the calling thread; `submit` it where others that wait may have priority."""
        kind = waiting.call.path
        if (self._with_priorities and self._queue.count) or kind.startswith(self.slow_paths):
            self.submit(waiting)
            return
        now = time.monotonic()
        try:
            timeout_s = waiting.urgency(self._deadline_s).timeout_s
            expected_s = self._admission.admit(kind, 0, 0, 0.0, timeout_s)
        except CpuserveError as error:
            self.runner.refuse(waiting, error)
        else:
            self._run(QueuedRequest(waiting, kind, now, timeout_s, now, expected_s), now)

    def must_wait(self) -> bool:
        """Whether a request that came now would wait for its turn."""
        return self._queue.count > 0 or not self._idle_threads

    def help_out(self) -> None:
        """Read what has come, if since the last call all threads have been busy with the same requests.

        Called regularly: health checks are answered, others queued or refused, while all are in a model.
        """
        stuck = self._turns == self._turns_seen and not self._idle_threads
        self._turns_seen = self._turns
        if not stuck:
            return
        self._at_once_left = _AT_ONCE_A_TURN
        now = time.monotonic()
        for number, event in self._epoll.poll(0, 64):
            if number not in (self._wake, self._end):
                self._event(number, event, now)
        self._wake_one()
        self._hand_over()

    def _serve(self) -> None:
        """Read what has come and run the request whose turn it is, until the threads are to end."""
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
                self.take_waiting()
            else:
                self._event(number, event, since)
        queued = queue.take()
        if queued is None:
            return True  # nothing whole yet, or another thread took it
        self._tell_depth()
        self._wake_one()
        if handover is not None:
            self._hand_over()
        began = began if busy else now
        if queued.kind.startswith(self.slow_paths):
            try:
                self._slow_requests.put(queued)
            except QueueFull as error:
                self.runner.refuse(queued.waiting, error)
                self._next(queued.waiting)
        else:
            self._run(queued, began)
        return True

    def _wake_one(self) -> None:
        if self._queue.count > self._queue.quiet:
            self._wake_idle()

    def _wake_idle(self) -> None:
        if self._idle_threads:
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

    def _give(self, queued: QueuedRequest) -> bool:
        """Pass one of them; its connection is then another worker's."""
        connection = queued.waiting
        if not isinstance(connection, Connection):
            return False
        try:
            if self.handover is None or queued.kind.startswith(self.slow_paths):
                return False
            if not self.handover.give(connection.waiting_request()):
                return False
            with suppress(FileNotFoundError):  # it came from another worker and was never waited for here
                # closing would not: the socket stays open elsewhere
                self._epoll.unregister(connection.number)
            connection.close()
            self._arm(connection)
        except Exception:  # noqa: BLE001  # the thread has another request
            self._drop(connection)
        return True

    def take_waiting(self) -> None:
        """Queue the requests that other workers left in this worker's mailbox."""
        while self.handover is not None and (request := self.handover.receive()) is not None:
            connection = self.take_over(request)
            self.connections[connection.number] = connection
            self.changed()
            kind, now = connection.call.path, time.monotonic()
            entry = QueuedRequest(connection, kind, now, request.due - now, now, 0.0)
            self._queue.put(entry, connection.call.client, DEFAULT_PRIORITY, self._admission.service_s(kind))
        self._tell_depth()

    def _tell_depth(self) -> None:
        recorder = self.runner.recorder
        if recorder is not None:
            recorder.put_count("queue_depth", self._queue)

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

    def _drop(self, connection: WaitingCall) -> None:
        """Log what was raised, and end the connection: how far it got is not known."""
        if not isinstance(connection, Connection):
            self._log.exception("Error in the answer to %s", connection.target)
            connection.refuse(CpuserveError("internal error; the server's log says more"))
            return
        self._log.exception("Error on the connection of %s", connection.peer)
        connection.close()
        self._arm(connection)

    def _receive(self, connection: Connection, since: float) -> None:
        """Read a connection; a whole request goes into the queue, or is refused when that is full."""
        for _ in range(_REFUSALS_A_TURN):
            try:
                if not connection.receive():
                    break
                path = connection.call.path
                if path not in _AT_ONCE or connection.has_body or self._at_once_left <= 0:
                    self._enqueue(connection, path, since)
                    return
                self._at_once_left -= 1
                self.runner.answer(connection)
            except CpuserveError as error:
                self.runner.refuse(connection, error)
            if not connection.settle():
                break
        self._arm(connection)

    def _enqueue(self, request: WaitingCall, kind: str, since: float, *, quiet: bool = False) -> None:
        """Queue a request, or raise why it may not wait."""
        urgency = request.urgency(self._deadline_s)
        client = request.call.client
        if not request.has_body:
            client = f"GET {client}"  # its turns are apart from those of the requests that infer
        priority = urgency.priority if self._with_priorities else DEFAULT_PRIORITY
        queue, admission = self._queue, self._admission
        waiting = queue.count
        ahead, ahead_s = queue.ahead(client, priority) if waiting else (0, 0.0)
        dropped = None
        if waiting >= admission.queue_size:
            dropped = queue.drop_for(client)
            waiting -= dropped is not None
        now = time.monotonic()
        try:
            expected_s = admission.admit(kind, waiting, ahead, ahead_s, since + urgency.timeout_s - now)
            entry = QueuedRequest(request, kind, since, urgency.timeout_s, now, expected_s)
            queue.put(entry, client, priority, admission.service_s(kind), quiet=quiet)
        finally:
            if dropped is not None:
                text = f"{admission.queue_size} requests are waiting, most of them this client's"
                self.runner.refuse(dropped.waiting, QueueFull(text + " (setting queue_size)", ahead_s))
                self._next(dropped.waiting)
        self._tell_depth()

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

    def _run(self, queued: QueuedRequest, began: float = 0.0) -> None:
        """Run a request whose turn has come, and go on with its connection."""
        try:
            self.runner.run(queued, began)
            self._next(queued.waiting)
        except Exception:  # noqa: BLE001  # the thread serves others too
            self._drop(queued.waiting)

    def _next(self, connection: WaitingCall) -> None:
        """After an answer: the connection's next request, or its next event."""
        if not isinstance(connection, Connection):
            return
        if connection.settle():
            self._receive(connection, time.monotonic())
            self._wake_one()
        else:
            self._arm(connection)
