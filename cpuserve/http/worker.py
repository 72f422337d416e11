"""The gunicorn worker: its main thread accepts and keeps time, its other threads run requests."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers.base import Worker

from cpuserve.http.body_budget import BodyBudget
from cpuserve.http.client_limits import ClientLimits
from cpuserve.http.connection import Connection
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.handover import Handover
from cpuserve.http.mailbox import Mailboxes
from cpuserve.http.request_loop import RequestLoop
from cpuserve.machine.standard_streams import NativeOutput
from cpuserve.protocols.tracing import Tracer
from cpuserve.serving.admission import Admission
from cpuserve.serving.stack_sampler import StackSampler
from cpuserve.serving.statistics import Recorder, Statistics
from cpuserve.serving.worker_table import LOADING, READY, STOPPING, WorkerRow, WorkerTable

__all__ = ["SeatWorker"]

_TICK_S = 1.0
_LOOK_S = 0.2  # how often it says that it runs, and looks whether all threads are stuck
_HANDOVER_LOOK_S = 0.1
_YIELD_S = 0.002  # how long another worker is given to take a connection that is rather its own
_YIELD_AT_MOST_S = 0.05
_ACCEPTS_A_LOOK = 64
_SWITCH_S = 0.0005
_LINGER_S = 1.0  # how long a stopping worker waits for a request a client may just be sending
_OTHER_FILES = 256  # that a worker has open besides its connections
_NO_FILES = (errno.EMFILE, errno.ENFILE)


class SeatWorker(Worker):  # type: ignore[misc]  # gunicorn has no type hints
    """One process in one seat."""

    alive: bool  # gunicorn's
    # given by the server before the fork
    worker_table: WorkerTable
    row: WorkerRow
    native_output: NativeOutput
    mailboxes: Mailboxes | None  # of several seats
    seat_index: int
    limits: ClientLimits
    max_json_elements: int
    max_answer_bytes: int
    max_pictures: int
    queue_size: int
    threads: int
    deadline_s: float
    max_connections: int
    with_priorities: bool
    check: Callable[[dict[str, Any]], None] | None  # of a request whose head is here; None lets all in
    body_budget: BodyBudget

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # given by the server when the worker has its row
        self.recorder: Recorder | None = None
        self.statistics: Statistics | None = None
        self.tracer: Tracer | None = None
        self.sampler: StackSampler | None = None
        self._handing_over = False
        self._told_silent: frozenset[int] = frozenset()  # pids of other workers

    def notify(self) -> None:
        """Tell the arbiter that this worker lives; write to the log what native libraries had to say."""
        super().notify()
        self.native_output.log()

    def init_process(self) -> None:
        """Set up what must not be shared with the arbiter, then load and run."""
        self._loop = loop = RequestLoop(
            self.threads,
            Admission(self.queue_size, self.threads),
            deadline_s=self.deadline_s,
            with_priorities=self.with_priorities,
            log=self.log,
        )
        loop.recorder, loop.tracer, loop.changed = self.recorder, self.tracer, self._count
        if self.mailboxes is not None:
            loop.handover = Handover(self.worker_table, self.row, self.mailboxes)
        self._limit = ConnectionLimit(self.max_connections, loop.connections, self.log)
        _allow_files(self.max_connections + _OTHER_FILES)
        # a thread that loads a model lets go of the interpreter sooner than Python's 5 ms
        sys.setswitchinterval(_SWITCH_S)
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: say so to whoever asks whether this worker is ready, then end.

        After SIGHUP the arbiter sends it to a worker as soon as its successor is forked. Such a worker serves
        on until the successor is ready, or gone.
        """
        if self.row.state == READY and self.worker_table.is_replaced(self.row):
            self._handing_over = True
            return
        if hasattr(self, "wsgi") and hasattr(self.wsgi, "stopping"):
            self.wsgi.stopping = True
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT or SIGQUIT: end at once.

        gunicorn raises an exception for that, which looks like a failed import where a module is imported.
        """
        del sig, frame
        os._exit(0)

    def load_wsgi(self) -> None:
        """Load the application, and learn which of its paths are slow."""
        super().load_wsgi()
        self._loop.app = self.wsgi
        self._loop.slow = getattr(self.wsgi, "slow", ())

    def run(self) -> None:
        """Accept and keep time until the arbiter says stop; then finish what is here."""
        listeners = {listener.fileno(): listener for listener in self.sockets}
        bases = {number: self._environ_base(listener) for number, listener in listeners.items()}
        for listener in self.sockets:
            listener.setblocking(False)
        base = next(iter(bases.values()))
        self._loop.take_over = lambda request: Connection.taken_over(
            *(request, base, self.limits, self.check, self.body_budget)
        )
        self._loop.start()
        waiting_since = 0.0
        tick = look = 0.0
        while self.alive and os.getppid() == self.ppid:
            now = time.monotonic()
            if self._handing_over and not self.worker_table.is_replaced(self.row):
                self.alive = False  # the server is as ready as before: its successor answers
                break
            if now >= look:
                look = now + (_LOOK_S if not self._handing_over else _HANDOVER_LOOK_S)
                if self.row.pid == self.pid:
                    self.row.seen_ms = int(1000 * now)
                self._loop.help_out()
                if now >= tick:
                    tick = now + _TICK_S
                    self._tick(now)
            readable, _, _ = select.select([*listeners, self.PIPE[0]], [], [], max(0.0, look - now))
            if self.PIPE[0] in readable:
                os.read(self.PIPE[0], 4096)
                readable.remove(self.PIPE[0])
            if not readable:
                waiting_since = 0.0
                continue
            if not self.worker_table.may_accept(self.row):
                waiting_since = waiting_since or now
                # a ready worker that is slow to come is helped out; one that still loads can only refuse
                if now - waiting_since < _YIELD_AT_MOST_S or self.row.state != READY:
                    time.sleep(_YIELD_S)
                    continue
            waiting_since = 0.0
            for number in readable:
                self._accept_some(listeners[number], bases[number])
        self._stop(bases)

    def _tick(self, now: float) -> None:
        self.notify()
        if self.sampler is not None:
            self.sampler.tick()
        self._tell_silent()
        if self.statistics is not None:
            self.statistics.tick()
        for connection in list(self._loop.connections.values()):
            connection.expire(now)

    def _tell_silent(self) -> None:
        """Write one line to the log for each other worker that has stopped running."""
        silent = {row.pid: row.seat for row in self.worker_table.hanging() if row is not self.row}
        for pid in silent.keys() - self._told_silent:
            self.log.warning(
                "the worker in seat %d (pid %d) does not run: others take new connections in its place",
                *(silent[pid], pid),
            )
        self._told_silent = frozenset(silent)

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
            "cpuserve.max_answer_bytes": self.max_answer_bytes,
            "cpuserve.max_pictures": self.max_pictures,
        }

    def _accept_some(self, listener: socket.socket, base: dict[str, Any]) -> None:
        """Take what waits and is this worker's at once: behind a crowd there may be somebody else."""
        for _ in range(_ACCEPTS_A_LOOK):
            if not self._accept(listener, base) or not self.worker_table.may_accept(self.row):
                return

    def _accept(self, listener: socket.socket, base: dict[str, Any]) -> bool:
        """Take one connection; False when none was waiting."""
        try:
            sock, peer = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was faster, or the client left
        except OSError as error:
            if error.errno not in _NO_FILES:
                self.log.warning("a connection could not be accepted: %s", error)
            else:  # those that are open are served on
                self._limit.make_room(f"a new one could not be accepted: {error.strerror}")
            time.sleep(_YIELD_AT_MOST_S)
            return False
        if not self._limit.has_room():
            self._limit.refuse(sock)
            return True
        client = peer if isinstance(peer, tuple) else None
        self._loop.add(Connection(sock, client, base, self.limits, self.check, self.body_budget))
        return True

    def _count(self) -> None:
        if self.row.pid == self.pid:
            self.row.connections = len(self._loop.connections)

    def _stop(self, bases: dict[int, dict[str, Any]]) -> None:
        """Finish what is here, take nothing new, end the threads.

        Clients see no reset: connections that wait in the kernel's queue are still taken, every answer from
        now on ends its connection, and a connection without a request is closed only after a while.
        """
        loop = self._loop
        loop.last = True
        loading = self.row.state == LOADING  # such a worker could only refuse: others take what waits
        began = time.monotonic()
        deadline = began + self.cfg.graceful_timeout
        while not loading:
            stay = self.worker_table.must_stay(self.row) and time.monotonic() - began < _LINGER_S
            for listener in self.sockets:
                while self._accept(listener, bases[listener.fileno()]):
                    pass
            if not stay:
                break
            time.sleep(_YIELD_S)
        for listener in self.sockets:
            listener.close()
        if self.row.pid == self.pid:
            self.row.state = STOPPING
        closed = time.monotonic()  # a connection taken at the last moment has its time too
        while loop.connections and time.monotonic() < deadline:
            self.notify()
            if time.monotonic() - closed > _LINGER_S:
                for connection in list(loop.connections.values()):
                    if connection.idle:
                        connection.abandon()
            time.sleep(_YIELD_S)
        if loop.connections:
            self.log.warning(
                "%d requests were cut off after %d s (setting shutdown_timeout_s)",
                *(len(loop.connections), self.cfg.graceful_timeout),
            )
        loop.end(max(0.0, deadline - time.monotonic()))
        if loop.handover is not None:
            loop.handover.pass_on()


def _allow_files(count: int) -> None:
    """Let this process open so many files, as far as its hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
