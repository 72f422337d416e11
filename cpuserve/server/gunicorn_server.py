"""The gunicorn server: one arbiter that forks a worker for each seat. The arbiter never imports OpenVINO.

What runs where, in the order of time:

    Server             arbiter  checks the settings, plans the seats, makes the shared memory
    _on_starting       arbiter  logs the plan
    _pre_fork          arbiter  chooses the seat of the next worker and configures the worker
    _post_fork         worker   binds itself to its seat, before numpy and OpenVINO are imported
    load               worker   makes the application
    _post_worker_init  worker   starts the thread that loads the models
    _on_reload         arbiter  on SIGHUP: each seat gets a new worker
    _on_exit           arbiter  removes the sockets of ZeroMQ
    _nworkers_changed  arbiter  on SIGTTIN: refuses more workers than seats
    _worker_exit       worker   stops its threads
    _child_exit        arbiter  clears what an ended worker has left
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from cpuserve.errors import RepositoryError, UsageError
from cpuserve.http.worker import SeatWorker
from cpuserve.machine import numa
from cpuserve.machine.bind_address import bind_address
from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.diagnosis import check_neighbours
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.placement import Seat, plan_for_settings
from cpuserve.machine.process_controls import malloc_settings
from cpuserve.machine.server_status import describe_server
from cpuserve.machine.standard_streams import NativeOutput
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import Repository
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.access import Access, Gate
from cpuserve.protocols.access_log import AccessLog
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.otel import OpenTelemetry, check_endpoint
from cpuserve.protocols.tracing import Tracer
from cpuserve.protocols.trusted_proxies import TrustedProxies
from cpuserve.server.arbiter import PauseTolerantArbiter, end_on_signals
from cpuserve.server.grpc_port import GrpcPort
from cpuserve.server.http_port import check_port
from cpuserve.server.model_thread import ModelThread
from cpuserve.server.shared_state import SharedState
from cpuserve.server.zmq_endpoints import ZmqEndpoints
from cpuserve.serving.compile_properties import streams_and_threads
from cpuserve.serving.find_servers import find_servers
from cpuserve.serving.log import logging_config
from cpuserve.serving.model_snapshot import remove_abandoned
from cpuserve.serving.stack_sampler import StackSampler
from cpuserve.serving.statistics import SERVER
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
            there are more streams than threads for them, or the port cannot be had.
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
        self.proxies = TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None
        self.access_log = AccessLog(settings.access_log, settings.log_format) if settings.access_log else None
        check_port(settings)
        self.models = _checked_models(settings)
        self.budget = Budget.read()
        self.plan = plan_for_settings(Topology.read(), self.budget, settings)
        for seat in self.plan.seats:
            for name in self.models:
                streams_and_threads(settings.for_model(name, {}), seat.threads, len(seat.cpus))
        start = ThrottlingSample.take(self.budget.stat_files)
        description = describe_server(self.plan, settings, pid=os.getpid(), start=start, preset=preset)
        self.shared = SharedState.make(settings, len(self.plan.seats), description)
        self.grpc_port = GrpcPort.of(settings)
        self.zmq_endpoints = ZmqEndpoints(settings, len(self.plan.seats)) if settings.zmq_endpoint else None
        self._replaced_age = 0  # workers of this age or older are being replaced by a reload
        self._ending = threading.Event()
        # set in each worker, after the fork
        self.row = 0  # of the statistics, the trace ring and the reload control
        self.seat: Seat | None = None
        self.pool: Pool
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's own settings and hooks."""
        settings, config = self.settings, self.cfg
        shared_memory = Path("/dev/shm")  # noqa: S108  # the heartbeat file: a disk may be slow or read-only
        values: dict[str, Any] = {
            "bind": [bind_address(settings.host, settings.port)],
            "workers": len(self.plan.seats),
            "worker_class": "cpuserve.http.worker.SeatWorker",
            "timeout": _HEARTBEAT_S,
            "graceful_timeout": math.ceil(settings.shutdown_timeout_s),
            "keepalive": math.ceil(settings.keep_alive_s),
            "worker_tmp_dir": str(shared_memory) if os.access(shared_memory, os.W_OK) else None,
            "proc_name": "cpuserve",
            "control_socket_disable": True,
            "logconfig_dict": logging_config(self.shared.log_switches, settings.log_format),
            "on_starting": self._on_starting,
            "on_reload": self._on_reload,
            "on_exit": self._on_exit,
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
            PauseTolerantArbiter(self).run()
        except RuntimeError as error:  # gunicorn's, about its own settings
            _log.critical("%s", error)
            sys.exit(1)

    def load(self) -> Application:
        """Make the application of a worker, which is bound to its seat by now."""
        from cpuserve.http.app import Application, deepdetect_routes, deepstack_routes  # noqa: PLC0415
        from cpuserve.protocols.warm_up import check_warm_up  # noqa: PLC0415
        from cpuserve.serving.pool import Pool  # noqa: PLC0415  # OpenVINO, in workers only

        shared, root, detector = self.shared, self.settings.deepdetect_data_root, self.settings.deepstack
        threads = self.seat.threads if self.seat is not None else self.budget.effective
        shared.reload_control.join(self.row)
        self.pool = Pool(
            *(self.settings, threads, shared.statistics, shared.reload_control, self.row, check_warm_up)
        )
        more = deepdetect_routes(self.pool, shared.deepdetect_names, Path(root)) if root else ()
        if detector:
            more = (*more, *deepstack_routes(self.pool, detector))
        return Application(
            *(self.pool, shared.worker_table, self.access, shared.log_switches, more, shared.trace_ring),
            shared.shared_memory,
        )

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
        _log.info("models: %s", ", ".join(self.models) or "none: config_path lists none yet")

    def _on_reload(self, arbiter: Any) -> None:
        self._replaced_age = arbiter.worker_age
        if self.access_log is not None:
            self.access_log.reopen()
        try:
            self.access = Access.of(self.settings)
        except UsageError as error:
            _log.error("the API keys stay as they were: %s", error)
        try:
            if self.grpc_port is not None:
                self.grpc_port.renew()
        except UsageError as error:
            _log.error("the certificate of gRPC stays as it was: %s", error)

    def _on_exit(self, _arbiter: Any) -> None:
        if self.zmq_endpoints is not None:
            self.zmq_endpoints.close()

    def _nworkers_changed(self, arbiter: Any, workers: int, _before: int | None) -> None:
        """Keep to one worker a seat: gunicorn itself sets no limit to what SIGTTIN asks for."""
        seats = len(self.plan.seats)
        if workers > seats:
            _log.warning("no worker added: all %d seats are taken; restart with more --workers", seats)
            arbiter.num_workers = seats

    def _pre_fork(self, arbiter: Any, worker: SeatWorker) -> None:
        """Choose the seat of the next worker and configure it."""
        index = self._free_seat(arbiter.WORKERS.values())
        seats, shared = self.plan.seats, self.shared
        settings = self.settings
        worker.native_output = NativeOutput()
        worker.worker_table = shared.worker_table
        worker.row = shared.worker_table.assign(index)
        worker.mailboxes = shared.mailboxes if len(seats) > 1 else None
        worker.seat_index = index
        worker.threads = settings.threads or seats[index].threads
        worker.queue_size = settings.queue_size
        worker.max_connections = settings.max_connections
        worker.transports = 1 + sum(one is not None for one in (self.grpc_port, self.zmq_endpoints))
        # with a file of keys, only requests with a key reach the queue
        trusted = settings.priority_from == "keys" and bool(settings.api_key_file)
        worker.with_priorities = settings.priority_from == "anyone" or trusted
        worker.deadline_s = settings.deadline_ms / 1000
        gate = Gate(self.access, shared.rate_limit, self.proxies)
        worker.access_log, worker.log_switches = self.access_log, shared.log_switches
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

    def _free_seat(self, workers: Iterable[SeatWorker]) -> int:
        """The number of a seat without a worker, else of one whose worker a reload replaces."""
        seats = len(self.plan.seats)
        staying, leaving = [0] * seats, [0] * seats
        for worker in workers:
            (leaving if worker.age <= self._replaced_age else staying)[worker.seat_index] += 1
        return min(range(seats), key=lambda number: (staying[number], leaving[number], number))

    def _post_fork(self, arbiter: Any, worker: SeatWorker) -> None:
        """Bind the worker to its seat before anything that starts threads or allocates is imported."""
        end_on_signals()
        self.seat = seat = self.plan.seats[worker.seat_index]
        malloc_settings()
        os.environ.update(numa.seat_environment(seat))
        binding = numa.bind_to_seat(seat)
        if binding.reason:
            _log.warning("seat %d: %s", seat.index, binding.reason)
        for other in arbiter.WORKERS.values():
            other.native_output.close()
        worker.native_output.take_over()
        worker.row.pid = os.getpid()
        statistics, ring = self.shared.statistics, self.shared.trace_ring
        self.row = statistics.claim(seat.index)
        worker.statistics, worker.shared_memory = statistics, self.shared.shared_memory
        worker.recorder = statistics.recorder(self.row, SERVER, 0)
        endpoint = self.settings.otel_endpoint
        worker.tracer = Tracer(ring, ring.row(self.row), OpenTelemetry(endpoint) if endpoint else None)
        worker.sampler = StackSampler(ring, ring.row(self.row))

    def _post_worker_init(self, worker: SeatWorker) -> None:
        address = bind_address(self.settings.host, self.settings.port)
        start: list[Callable[[], None]] = []
        if self.grpc_port is not None:
            shared = self.shared
            admin = Admin(None, shared.log_switches, shared.trace_ring)
            grpc = self.grpc_port.server(worker, self.pool, admin, shared.shared_memory)
            worker.other_transports.append(grpc)
            start.append(grpc.start)
        if self.zmq_endpoints is not None:
            detector = self.zmq_endpoints.server(worker, self.pool)
            worker.other_transports.append(detector)
            start.append(detector.start)

        def start_transports() -> None:
            for each in start:
                each()

        ModelThread(
            *(self.pool, worker.row, self.shared.statistics, self.row, address, self._ending),
            start_transports,
        ).start()

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
        self.shared.forget(worker.pid)
        remove_abandoned(worker.pid)
        worker.native_output.log(ended=True)
        worker.native_output.close()


def _checked_models(settings: Settings) -> Sequence[str]:
    """Check the settings that need no plan.

    Returns:
        The names of the models; none where a ``config.json`` lists none yet.

    Raises:
        RepositoryError: the repository holds no model.
        UnknownModel: it does not hold the one that model_name names.
        UsageError: a setting cannot be used.
    """
    root = settings.deepdetect_data_root
    if root and not Path(root).is_dir():
        raise UsageError(f"deepdetect_data_root {root} is no directory")
    if settings.otel_endpoint:
        check_endpoint(settings.otel_endpoint)
    for policy in (settings, *(settings.for_model(name, {}) for name in settings.models)):
        VersionPolicy.parse(policy.model_version_policy)
    repository = Repository.of(settings)
    names = repository.names()
    if not names and not repository.wants_none:
        if settings.model_name:
            repository.find(settings.model_name)  # raises, and says what there is
        raise RepositoryError(repository.why_empty())
    for setting, model in (("deepstack", settings.deepstack), ("zmq_model", settings.zmq_model)):
        if model and model not in names:
            there = ", ".join(names) or "none"
            raise UsageError(f"{setting} names model {model!r}; the models are: {there}")
    return names
