"""The gunicorn worker: threads that share one epoll and run each request to completion; it knows no model.

Every thread waits on the same epoll instance, in which each connection is armed for one event. Whichever
thread wakes first reads whatever has come, on every connection that has something, and puts the requests that
are whole into one queue, by priority and then first come first served. Then it takes the first and runs it to
its answer. So bodies are read while others compute, no request is handed from thread to thread, connections
need not be spread over threads, and a slow client holds none. The main thread accepts and keeps time.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gunicorn.workers.base import Worker

from cpuserve.errors import CpuserveError, DeadlineExceeded, QueueFull, RateLimited
from cpuserve.machine.thread_names import show_thread_name
from cpuserve.serving.admission import Admission
from cpuserve.serving.sampler import StackSampler
from cpuserve.serving.stats import Recorder
from cpuserve.web.board import LOADING, READY, STOPPING, Board, Line
from cpuserve.web.body_budget import BodyBudget
from cpuserve.web.connection import Connection, Limits
from cpuserve.web.tracing import Tracer

__all__ = ["SeatWorker"]

_TICK_S = 1.0
_HANDOVER_LOOK_S = 0.1
_YIELD_S = 0.002  # how long another worker is given to take a connection that is rather its own
_YIELD_AT_MOST_S = 0.05
_SWITCH_S = 0.0005
_REFUSALS_A_TURN = 16  # of requests that one client sends without waiting, before others have their turn
_LINGER_S = 1.0  # how long a stopping worker waits for a request a client may just be sending
_REFUSED: dict[type[CpuserveError], str] = {
    QueueFull: "refused_queue_full",
    DeadlineExceeded: "refused_deadline",
    RateLimited: "refused_rate",
}
_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT


class SeatWorker(Worker):  # type: ignore[misc]  # gunicorn has no type hints
    """One process in one seat."""

    alive: bool  # gunicorn's
    # given by the server before the fork
    board: Board
    line: Line
    seat_index: int
    limits: Limits
    max_json_elements: int
    max_pictures: int
    queue_size: int
    threads: int
    deadline_s: float
    check: Callable[[dict[str, Any]], None]  # of a request whose head is here
    body_budget: BodyBudget

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: dict[int, Connection] = {}
        self._ready: list[tuple[int, int, Connection]] = []  # a heap: by priority, then by arrival
        self._arrivals = itertools.count()
        self._first: deque[Connection] = deque()  # requests without a body: health, metadata
        # given by the server when the worker has its row
        self.recorder: Recorder | None = None
        self.tracer: Tracer | None = None
        self.sampler: StackSampler | None = None
        self._idle_threads = 0
        self._stopped = False
        self._handing_over = False

    def init_process(self) -> None:
        """Set up what must not be shared with the arbiter, then load and run."""
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._admission = Admission(self.queue_size, self.threads)
        # a thread that loads a model lets go of the interpreter sooner than Python's 5 ms
        sys.setswitchinterval(_SWITCH_S)
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: say so to whoever asks whether this worker is ready, then end.

        After SIGHUP the arbiter sends it to a worker as soon as its successor is forked. Such a worker serves
        on until the successor is ready, or gone.
        """
        if self.line.state == READY and self.board.is_replaced(self.line):
            self._handing_over = True
            return
        if hasattr(self, "wsgi") and hasattr(self.wsgi, "stopping"):
            self.wsgi.stopping = True
        super().handle_exit(sig, frame)

    def load_wsgi(self) -> None:
        """Load the application, and learn which of its paths are slow."""
        super().load_wsgi()
        self._slow: tuple[str, ...] = getattr(self.wsgi, "slow", ())

    def run(self) -> None:
        """Accept and keep time until the arbiter says stop; then finish what is here."""
        listeners = {listener.fileno(): listener for listener in self.sockets}
        bases = {number: self._environ_base(listener) for number, listener in listeners.items()}
        self._epoll.register(self._wake, select.EPOLLIN)
        for listener in self.sockets:
            listener.setblocking(False)
        threads = [
            threading.Thread(target=self._serve, name=f"serve-{number}", daemon=True)
            for number in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        waiting_since = 0.0
        tick = 0.0
        while self.alive and os.getppid() == self.ppid:
            now = time.monotonic()
            if self._handing_over and not self.board.is_replaced(self.line):
                self.alive = False  # the server is as ready as before: its successor answers
                break
            if now >= tick:
                tick = now + (_TICK_S if not self._handing_over else _HANDOVER_LOOK_S)
                self.notify()
                if self.sampler is not None:
                    self.sampler.tick()
                for connection in list(self._connections.values()):
                    connection.expire(now)
            readable, _, _ = select.select([*listeners, self.PIPE[0]], [], [], max(0.0, tick - now))
            if self.PIPE[0] in readable:
                os.read(self.PIPE[0], 4096)
                readable.remove(self.PIPE[0])
            if not readable:
                waiting_since = 0.0
                continue
            if not self.board.may_accept(self.line):
                waiting_since = waiting_since or now
                # a ready worker that is slow to come is helped out; one that still loads can only refuse
                if now - waiting_since < _YIELD_AT_MOST_S or self.line.state != READY:
                    time.sleep(_YIELD_S)
                    continue
            waiting_since = 0.0
            if len(self._connections) >= self.cfg.worker_connections:
                time.sleep(_YIELD_S)  # others wait in the kernel's queue
                continue
            for number in readable:
                self._accept(listeners[number], bases[number])
        self._stop(threads, bases)

    def _environ_base(self, listener: socket.socket) -> dict[str, Any]:
        name = listener.getsockname()
        host, port = (name[0], str(name[1])) if isinstance(name, tuple) else (str(name), "")
        return {
            "SERVER_NAME": host,
            "SERVER_PORT": port,
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "cpuserve",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "cpuserve.max_body_bytes": self.limits.max_body_bytes,
            "cpuserve.max_json_elements": self.max_json_elements,
            "cpuserve.max_pictures": self.max_pictures,
        }

    def _accept(self, listener: socket.socket, base: dict[str, Any]) -> bool:
        """Take one connection; False when none was waiting."""
        try:
            sock, peer = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was faster, or the client left
        except OSError as error:  # out of file descriptors: those that are open are served on
            self.log.warning("a connection could not be accepted: %s", error)
            time.sleep(_YIELD_AT_MOST_S)
            return False
        client = peer if isinstance(peer, tuple) else None
        connection = Connection(sock, client, base, self.limits, self.check, self.body_budget)
        self._connections[connection.number] = connection
        self._count()
        self._epoll.register(connection.number, _READ)
        return True

    def _count(self) -> None:
        if self.line.pid == self.pid:
            self.line.connections = len(self._connections)

    def _serve(self) -> None:
        """The life of a thread: read what has come, run the oldest request, again."""
        show_thread_name()
        while self._turn():
            pass

    def _turn(self) -> bool:
        """One round of a thread; False when the threads are to end."""
        ready, first = self._ready, self._first
        with self._lock:
            self._idle_threads += 1
        events = self._epoll.poll(0 if ready or first else -1, 64)
        with self._lock:
            self._idle_threads -= 1
        for number, event in events:
            if number == self._wake:
                if self._stopped:
                    return False  # the event stays, for the other threads
                self._woken()
            else:
                self._event(number, event)
        try:
            connection = first.popleft() if first else heapq.heappop(ready)[2]
        except IndexError:
            return True  # nothing whole yet, or another thread took it
        if self._idle_threads and (ready or first):
            os.eventfd_write(self._wake, 1)
        if connection.path.startswith(self._slow):
            threading.Thread(target=self._run_request, args=(connection,), name="admin", daemon=True).start()
        else:
            self._run_request(connection)
        return True

    def _woken(self) -> None:
        with suppress(BlockingIOError):  # another thread took it
            os.eventfd_read(self._wake)

    def _event(self, number: int, event: int) -> None:
        connection = self._connections.get(number)
        if connection is None:
            return
        try:
            if event & select.EPOLLOUT:
                connection.flush()
                if not connection.settle():
                    self._arm(connection)
                    return
            self._receive(connection)
        except Exception:  # one client must not end a thread that serves all
            self.log.exception("Error on the connection of %s", connection.peer)
            connection.close()
            self._arm(connection)

    def _receive(self, connection: Connection) -> None:
        """Read a connection; a whole request goes into the queue, or is refused when that is full."""
        for _ in range(_REFUSALS_A_TURN):
            try:
                if not connection.receive():
                    break
                if connection.has_body:
                    self._enqueue(connection)
                else:
                    self._first.append(connection)
                return
            except CpuserveError as error:
                self._refuse(connection, error)
                if not connection.settle():
                    break
        self._arm(connection)

    def _enqueue(self, connection: Connection) -> None:
        """Let a request wait for its turn, or raise why it may not."""
        terms = connection.terms(self.deadline_s)
        ready = self._ready
        waiting = len(ready)
        ahead = sum(1 for entry in ready if entry[0] <= terms.priority) if waiting else 0
        self._admission.admit(waiting, ahead, terms.timeout_s)
        heapq.heappush(ready, (terms.priority, next(self._arrivals), connection))
        if self.recorder is not None:
            self.recorder.put("queue_depth", len(ready))

    def _refuse(self, connection: Connection, error: CpuserveError) -> None:
        connection.refuse(error)
        counter = _REFUSED.get(type(error))
        if counter is not None and self.recorder is not None:
            self.recorder.add(counter)

    def _arm(self, connection: Connection) -> None:
        """Wait for the connection's next event, or forget it."""
        if connection.open:
            self._epoll.modify(connection.number, _WRITE if connection.wants_write else _READ)
        elif self._connections.get(connection.number) is connection:
            del self._connections[connection.number]
            self._count()

    def _run_request(self, connection: Connection) -> None:
        began = time.perf_counter()
        try:
            self._admission.check(connection.left_s())
        except CpuserveError as error:
            self._refuse(connection, error)
            self._next(connection)
            return
        environ = connection.environ()
        spans = self.tracer.begin(environ, connection) if self.tracer is not None else None
        answer: list[Any] = ["500 Internal Server Error", [("Content-Length", "0")]]

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answer[:] = [status, headers]

        try:
            chunks = self.wsgi(environ, start_response)
            body = b"".join(chunks)
            if hasattr(chunks, "close"):
                chunks.close()
        except Exception:  # the thread serves others too
            self.log.exception("Error handling request %s", environ["RAW_URI"])
            body = b""
        status, headers = answer
        if self.tracer is not None and spans is not None:
            headers = [*headers, *self.tracer.headers(environ, spans)]
        connection.answer(status, headers, body, last=not self.alive)
        if self.tracer is not None and spans is not None:
            self.tracer.end(environ, spans, status)
        if connection.has_had_body and not connection.path.startswith(self._slow):
            self._admission.served(time.perf_counter() - began)
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        """After an answer: the connection's next request, or its next event."""
        if connection.settle():
            self._receive(connection)
        else:
            self._arm(connection)

    def _stop(self, threads: list[threading.Thread], bases: dict[int, dict[str, Any]]) -> None:
        """Finish what is here, take nothing new, end the threads.

        Clients see no reset: connections that wait in the kernel's queue are still taken, every answer from
        now on ends its connection, and a connection without a request is closed only after a while.
        """
        loading = self.line.state == LOADING  # such a worker could only refuse: others take what waits
        began = time.monotonic()
        deadline = began + self.cfg.graceful_timeout
        while not loading:
            stay = self.board.must_stay(self.line) and time.monotonic() - began < _LINGER_S
            for listener in self.sockets:
                while self._accept(listener, bases[listener.fileno()]):
                    pass
            if not stay:
                break
            time.sleep(_YIELD_S)
        for listener in self.sockets:
            listener.close()
        if self.line.pid == self.pid:
            self.line.state = STOPPING
        closed = time.monotonic()  # a connection taken at the last moment has its time too
        while self._connections and time.monotonic() < deadline:
            self.notify()
            if time.monotonic() - closed > _LINGER_S:
                for connection in list(self._connections.values()):
                    if connection.idle:
                        connection.abandon()
            time.sleep(_YIELD_S)
        if self._connections:
            self.log.warning(
                "%d requests were cut off after %d s (setting shutdown_timeout_s)",
                *(len(self._connections), self.cfg.graceful_timeout),
            )
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
