"""The gunicorn server: seats planned before the fork and taken after it, models last; no OpenVINO in it."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from cpuserve.errors import RepositoryError, UsageError
from cpuserve.http.body_budget import BodyBudget
from cpuserve.http.mailbox import Mailboxes
from cpuserve.http.worker import SeatWorker
from cpuserve.machine import numa
from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.diagnosis import check_neighbours
from cpuserve.machine.placement import Seat, SeatPlan, plan_for_settings
from cpuserve.machine.process_controls import block_signals, malloc_settings, show_thread_name
from cpuserve.machine.server_status import describe_server
from cpuserve.machine.standard_streams import NativeOutput
from cpuserve.machine.topology import Topology, format_cpulist
from cpuserve.models.repository import Repository
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.access import Access, Gate
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from cpuserve.protocols.otel import OpenTelemetry, check_endpoint
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.protocols.tracing import Tracer
from cpuserve.server.arbiter import SparingArbiter, take_signals
from cpuserve.serving.compile_properties import streams_and_threads
from cpuserve.serving.find_servers import find_servers
from cpuserve.serving.log import Switches, logging_config
from cpuserve.serving.model_snapshot import remove_abandoned
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.stack_sampler import StackSampler
from cpuserve.serving.stages import LOADER_THREAD
from cpuserve.serving.statistics import SERVER, Statistics
from cpuserve.serving.trace_ring import TraceRing
from cpuserve.serving.worker_table import LOADING, READY, WorkerTable
from cpuserve.settings import Settings

if TYPE_CHECKING:
    from cpuserve.http.app import Application
    from cpuserve.serving.pool import Pool

__all__ = ["Server"]

_log = logging.getLogger("cpuserve.server")
_HEARTBEAT_S = 60


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """A gunicorn arbiter with one worker a seat.

    Args:
        settings: the settings in force.
        preset: what ``/v2/placement`` says of the presets that are among them.
        said: lines for the log about that, each with its level.

    Raises:
        RepositoryError: the repository holds no model.
        PlacementError: the workers asked for do not fit what this process may use.
        UsageError: the file of API keys, the directory of pictures or the collector of spans cannot be used,
            or there are more streams than threads for them.
    """

    def __init__(
        self,
        settings: Settings,
        preset: Mapping[str, Any] | None = None,
        said: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.settings = settings
        self._said = said
        self.access = Access.of(settings)
        self.switches = Switches(settings.log_level)
        self.services = DeepDetectNames()
        if settings.deepdetect_data_root and not Path(settings.deepdetect_data_root).is_dir():
            raise UsageError(f"deepdetect_data_root {settings.deepdetect_data_root} is no directory")
        if settings.otel_endpoint:
            check_endpoint(settings.otel_endpoint)
        for name in (None, *settings.models):
            policy = settings if name is None else settings.for_model(name, {})
            VersionPolicy.parse(policy.model_version_policy)
        repository = Repository.of(settings)
        names = repository.names()
        if not names:
            raise RepositoryError(repository.why_empty())
        self.models = names
        self.budget = Budget.read()
        self.plan: SeatPlan = plan_for_settings(Topology.read(), self.budget, settings)
        for seat in self.plan.seats:
            for name in names:
                streams_and_threads(settings.for_model(name, {}), seat.threads, len(seat.cpus))
        described = describe_server(
            self.plan,
            settings,
            pid=os.getpid(),
            start=ThrottlingSample.take(self.budget.stat_files),
            preset=preset,
        )
        self.worker_table = WorkerTable(len(self.plan.seats), described)
        self.mailboxes = Mailboxes(len(self.worker_table.rows))
        self.control = ReloadControl(rows=3 * len(self.plan.seats) + 1)
        self.rate_limit = RateLimit(settings.rate_limit, settings.rate_burst)
        self.statistics = Statistics(rows=3 * len(self.plan.seats) + 1)  # a reload has two generations
        self.trace_ring = TraceRing(rows=3 * len(self.plan.seats) + 1)
        self._leaving = 0  # workers of this age or older are being replaced by a reload
        self._ending = threading.Event()
        self.row = 0
        self.seat: Seat | None = None  # both are set in each worker, after the fork
        self.pool: Pool
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what follows from the settings."""
        settings, config = self.settings, self.cfg
        shared_memory = Path("/dev/shm")  # noqa: S108  # the heartbeat file: a disk may be slow or read-only
        values: dict[str, Any] = {
            "bind": [f"{settings.host}:{settings.port}"],
            "workers": len(self.plan.seats),
            "worker_class": "cpuserve.http.worker.SeatWorker",
            "timeout": _HEARTBEAT_S,
            "graceful_timeout": math.ceil(settings.shutdown_timeout_s),
            "keepalive": math.ceil(settings.keep_alive_s),
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "proc_name": "cpuserve",
            "control_socket_disable": True,
            "logconfig_dict": logging_config(self.switches, settings.log_format),
            "on_starting": self._on_starting,
            "on_reload": self._on_reload,
            "nworkers_changed": self._nworkers_changed,
            "pre_fork": self._pre_fork,
            "post_fork": self._post_fork,
            "post_worker_init": self._post_worker_init,
            "worker_exit": self._worker_exit,
            "child_exit": self._child_exit,
        }
        for name, value in values.items():
            config.set(name, value)

    def run(self) -> None:
        """Serve until the arbiter is told to stop; ends the process."""
        try:
            SparingArbiter(self).run()
        except RuntimeError as error:  # gunicorn's, about its own settings
            _log.critical("%s", error)
            sys.exit(1)

    def load(self) -> Application:
        """The application of one worker; called after the worker sits in its seat."""
        from cpuserve.http.app import Application, deepdetect_routes  # noqa: PLC0415
        from cpuserve.serving.pool import Pool  # noqa: PLC0415  # OpenVINO, in workers only

        threads = self.seat.threads if self.seat is not None else self.budget.effective
        self.control.join(self.row)
        self.pool = Pool(self.settings, threads, self.statistics, self.control, self.row)
        root = self.settings.deepdetect_data_root
        more = deepdetect_routes(self.pool, self.services, Path(root)) if root else ()
        return Application(self.pool, self.worker_table, self.access, self.switches, more, self.trace_ring)

    def _on_starting(self, _arbiter: Any) -> None:
        for line in self.budget.explain():
            _log.info("%s", line)
        for seat in self.plan.seats:
            _log.info(
                "seat %d: CPUs %s, node %s, %d compute threads",
                *(seat.index, format_cpulist(seat.cpus), seat.node, seat.threads),
            )
        for note in self.plan.notes:
            _log.info("%s", note)
        for finding in check_neighbours(self.plan.seats, find_servers()):
            _log.warning("%s, and each will be slower for it: %s", finding.text, finding.advice)
        for level, line in self._said:
            _log.log(level, "%s", line)
        _log.info("models: %s", ", ".join(self.models))

    def _on_reload(self, arbiter: Any) -> None:
        self._leaving = arbiter.worker_age
        try:
            self.access = Access.of(self.settings)
        except UsageError as error:
            _log.error("the API keys stay as they were: %s", error)

    def _nworkers_changed(self, arbiter: Any, workers: int, _before: int | None) -> None:
        """Keep to one worker a seat: gunicorn itself sets no limit to what SIGTTIN asks for."""
        seats = len(self.plan.seats)
        if workers > seats:
            _log.warning("no worker added: all %d seats are taken; restart with more --workers", seats)
            arbiter.num_workers = seats

    def _pre_fork(self, arbiter: Any, worker: SeatWorker) -> None:
        """Give the worker a seat nobody keeps: a dead worker's, or one whose worker a reload replaces."""
        seats = self.plan.seats
        staying, leaving = [0] * len(seats), [0] * len(seats)
        for other in arbiter.WORKERS.values():
            (leaving if other.age <= self._leaving else staying)[other.seat_index] += 1
        index = min(range(len(seats)), key=lambda number: (staying[number], leaving[number], number))
        settings = self.settings
        worker.native_output = NativeOutput()
        worker.worker_table = self.worker_table
        worker.row = self.worker_table.assign(index)
        worker.mailboxes = self.mailboxes if len(seats) > 1 else None
        worker.seat_index = index
        worker.threads = settings.threads or seats[index].threads
        worker.queue_size = settings.queue_size
        worker.max_connections = settings.max_connections
        # with a file of keys, a request that comes as far as the queue has brought one
        trusted = settings.priority_from == "keys" and bool(settings.api_key_file)
        worker.with_priorities = settings.priority_from == "anyone" or trusted
        worker.deadline_s = settings.deadline_ms / 1000
        gate = Gate(self.access, self.rate_limit)
        worker.check = gate.check if gate.needed else None
        worker.body_budget = BodyBudget(max(settings.max_unfinished_body_bytes, 4 * settings.max_body_bytes))
        worker.limits = ClientLimits(
            max_body_bytes=settings.max_body_bytes,
            request_timeout_s=settings.request_timeout_s,
            keep_alive_s=settings.keep_alive_s,
            max_json_elements=settings.max_json_elements,
            max_answer_bytes=settings.max_answer_bytes,
            max_pictures=settings.max_pictures,
        )

    def _post_fork(self, arbiter: Any, worker: SeatWorker) -> None:
        """Sit down, before anything that starts threads or allocates is imported."""
        take_signals()
        self.seat = seat = self.plan.seats[worker.seat_index]
        malloc_settings()
        os.environ.update(numa.seat_environment(seat))
        sitting = numa.bind_to_seat(seat)
        if sitting.reason:
            _log.warning("seat %d: %s", seat.index, sitting.reason)
        for other in arbiter.WORKERS.values():
            other.native_output.close()
        worker.native_output.take_over()
        worker.row.pid = os.getpid()
        self.row = self.statistics.claim(seat.index)
        worker.statistics = self.statistics
        worker.recorder = self.statistics.recorder(self.row, SERVER, 0)
        traced = self.trace_ring.row(self.row)
        endpoint = self.settings.otel_endpoint
        worker.tracer = Tracer(self.trace_ring, traced, OpenTelemetry(endpoint) if endpoint else None)
        worker.sampler = StackSampler(self.trace_ring, traced)

    def _post_worker_init(self, worker: SeatWorker) -> None:
        """Load the models beside the main thread, which keeps telling the arbiter that it lives."""
        row = worker.row

        def settle() -> None:
            """Take connections as soon as there are models: a predecessor in this seat serves until then."""
            if row.pid != os.getpid() or row.state != LOADING or not self.pool.models:
                return
            row.state = READY
            _log.info(
                "worker in seat %d (CPUs %s) %s at http://%s:%d",
                worker.seat_index,
                format_cpulist(os.sched_getaffinity(0)),
                "ready" if self.pool.ready else "up, with models that are not ready,",
                self.settings.host,
                self.settings.port,
            )

        def load() -> None:
            show_thread_name()
            block_signals()
            try:
                self.pool.start(self._ending)
                self.statistics.settle(self.row)
                settle()
                self.pool.watch(self._ending, settle)
            except BaseException:
                _log.critical("models are loaded no longer, this worker is not ready", exc_info=True)
                raise
            finally:
                self.pool.dead = True

        threading.Thread(target=load, name=LOADER_THREAD, daemon=True).start()

    def _worker_exit(self, _arbiter: Any, worker: SeatWorker) -> None:
        """End at once where a thread is inside OpenVINO or a model's code.

        The interpreter would end such a thread as soon as it comes back, which C++ code takes for an
        unexpected exception and aborts the process.
        """
        self._ending.set()
        if worker.tracer is not None:
            worker.tracer.close()  # what the interpreter does at its end is left out below
        if threading.active_count() > 1:
            error = sys.exception()
            code = error.code if isinstance(error, SystemExit) else 1
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def _child_exit(self, _arbiter: Any, worker: SeatWorker) -> None:
        for number, row in enumerate(self.worker_table.rows):
            if row.pid == worker.pid:
                self.mailboxes.empty(number)  # nobody answers these any more: their clients are to know
        self.worker_table.forget(worker.pid)
        remove_abandoned(worker.pid)
        worker.native_output.log(ended=True)
        worker.native_output.close()
