"""The gunicorn worker: its main thread accepts connections and keeps time, its other threads run requests."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from gunicorn.workers.base import Worker

from cpuserve.http.acceptor import Acceptor
from cpuserve.http.connection import Connection
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.handover import Handover
from cpuserve.http.mailbox import Mailboxes
from cpuserve.http.request_loop import RequestLoop
from cpuserve.machine.standard_streams import NativeOutput
from cpuserve.protocols.access_log import AccessLog
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Call
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.protocols.tracing import Tracer
from cpuserve.serving.admission import Admission
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.stack_sampler import StackSampler
from cpuserve.serving.statistics import Recorder, Statistics
from cpuserve.serving.worker_table import READY, WorkerRow, WorkerTable

__all__ = ["OtherTransport", "SeatWorker"]

_TICK_S = 1.0
_LOOK_S = 0.2  # how often it says that it runs, and looks whether all threads are stuck
_HANDOVER_LOOK_S = 0.1
_SWITCH_S = 0.0005
_OTHER_FILES = 256  # that a worker has open besides its connections


class OtherTransport(Protocol):
    """A transport beside HTTP, whose requests wait in the same queue."""

    @property
    def running(self) -> bool:
        """Whether requests may still come from it."""

    def stop(self, timeout_s: float) -> None:
        """Take no new requests, and cut those that are here off after so many seconds; returns at once."""


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
    queue_size: int
    threads: int
    deadline_s: float
    max_connections: int  # of each transport
    transports: int
    with_priorities: bool
    check: Callable[[Call], None] | None  # of a request whose head is here; None lets all in
    body_budget: BodyBudget

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # given by the server when the worker has its row
        self.recorder: Recorder | None = None
        self.statistics: Statistics | None = None
        self.tracer: Tracer | None = None
        self.sampler: StackSampler | None = None
        self.shared_memory: SharedMemory | None = None
        self.access_log: AccessLog | None = None
        self.log_switches: LogSwitches | None = None
        self.other_transports: list[OtherTransport] = []
        self._handing_over = False
        self._told_silent: frozenset[int] = frozenset()  # pids of other workers

    def notify(self) -> None:
        """Tell the arbiter that this worker lives; log what native libraries wrote."""
        super().notify()
        self.native_output.log()

    def init_process(self) -> None:
        """Make what must not be shared with the arbiter, then load and run."""
        self._loop = loop = RequestLoop(
            self.threads,
            Admission(self.queue_size, self.threads),
            deadline_s=self.deadline_s,
            with_priorities=self.with_priorities,
            log=self.log,
        )
        loop.runner.recorder, loop.runner.tracer, loop.changed = self.recorder, self.tracer, self._count
        loop.runner.access_log = self.access_log
        if self.log_switches is not None:
            loop.runner.tells_refusals = self.log_switches.verbose
        if self.mailboxes is not None:
            loop.handover = Handover(self.worker_table, self.row, self.mailboxes)
        self._limit = ConnectionLimit(self.max_connections, loop.connections, self.log)
        _allow_files(self.transports * self.max_connections + _OTHER_FILES)
        # a thread that loads a model lets go of the interpreter sooner than Python's 5 ms
        sys.setswitchinterval(_SWITCH_S)
        super().init_process()

    @property
    def loop(self) -> RequestLoop:
        """Runs the requests."""
        return self._loop

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: become not ready, then end.

        After SIGHUP the arbiter sends it to a worker as soon as its successor is forked. Such a worker serves
        on until the successor is ready, or gone.
        """
        if self.row.state == READY and self.worker_table.is_replaced(self.row):
            self._handing_over = True
            return
        if hasattr(self, "wsgi") and hasattr(self.wsgi, "stopping"):
            self.wsgi.stopping = True
        super().handle_exit(sig, frame)

    def init_signals(self) -> None:
        """Set the handlers. Ctrl-C, which a terminal sends to every process, is for the arbiter alone."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGQUIT: end at once.

        gunicorn raises an exception for that, which looks like a failed import where a module is imported.
        """
        del sig, frame
        os._exit(0)

    def load_wsgi(self) -> None:
        """Load the application."""
        super().load_wsgi()
        self._loop.runner.app = self.wsgi
        self._loop.slow_paths = getattr(self.wsgi, "slow_paths", ())

    def run(self) -> None:
        """Accept connections and keep time until the arbiter says stop; then finish the requests."""
        more = (self.limits, self.check, self.body_budget)
        self._loop.take_over = lambda request: Connection.taken_over(request, *more)
        acceptor = Acceptor(
            *(self.sockets, lambda sock, peer: Connection(sock, peer, *more), self._loop, self._limit),
            *(self.worker_table, self.row, self.log),
        )
        self._loop.start()
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
            watched = [*acceptor.descriptors(), self.PIPE[0]]
            readable, _, _ = select.select(watched, [], [], max(0.0, look - now))
            if self.PIPE[0] in readable:
                os.read(self.PIPE[0], 4096)
                readable.remove(self.PIPE[0])
            acceptor.accept(readable)
        for other in self.other_transports:
            other.stop(self.cfg.graceful_timeout)
        running = self.other_transports
        acceptor.stop(
            *(self.cfg.graceful_timeout, self.notify), lambda: any(other.running for other in running)
        )

    def _tick(self, now: float) -> None:
        self.notify()
        if self.sampler is not None:
            self.sampler.tick()
        self._tell_silent()
        if self.statistics is not None:
            self.statistics.tick()
        if self.shared_memory is not None:
            self.shared_memory.tick()
        for connection in list(self._loop.connections.values()):
            connection.expire(now)

    def _tell_silent(self) -> None:
        """Log one line for each other worker that has stopped running."""
        silent = {row.pid: row.seat for row in self.worker_table.hanging() if row is not self.row}
        for pid in silent.keys() - self._told_silent:
            self.log.warning(
                "the worker in seat %d (pid %d) does not run: others take new connections in its place",
                *(silent[pid], pid),
            )
        self._told_silent = frozenset(silent)

    def _count(self) -> None:
        if self.row.pid == self.pid:
            self.row.connections = len(self._loop.connections)


def _allow_files(count: int) -> None:
    """Let this process open so many files, as far as its hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
