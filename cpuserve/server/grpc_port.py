"""The gRPC port of a server: reserved before the workers are forked, served by each of them."""

from __future__ import annotations

import importlib.util
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from cpuserve.errors import UsageError
from cpuserve.http.worker import SeatWorker
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.serving.worker_table import WorkerRow
from cpuserve.settings import Settings

if TYPE_CHECKING:
    from cpuserve.grpc.server import GrpcServer
    from cpuserve.serving.pool import Pool

__all__ = ["GrpcPort"]


class GrpcPort:
    """Keeps the port for this server's workers, who share it by ``SO_REUSEPORT``.

    Args:
        settings: the settings in force, with a ``grpc_port``.

    Raises:
        UsageError: the packages are not installed, or another process has the port.
    """

    def __init__(self, settings: Settings) -> None:
        if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
            raise UsageError('grpc_port needs the packages of an extra: pip install "cpuserve[grpc]"')
        host, port = settings.host, settings.grpc_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # another server that shares its port too would get half of the connections: so first without sharing
        for option in ((), (socket.SO_REUSEPORT,)):
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            for name in (socket.SO_REUSEADDR, *option):
                self._socket.setsockopt(socket.SOL_SOCKET, name, 1)
            try:
                self._socket.bind((host, port))
            except OSError as error:
                self._socket.close()
                raise UsageError(f"grpc_port {port} of {host} cannot be used: {error.strerror}") from None
            if not option:
                self._socket.close()
        self._settings = settings
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def server(
        self, worker: SeatWorker, pool: Pool, admin: Admin, shared_memory: SharedMemory | None
    ) -> GrpcServer:
        """The gRPC server of a worker, which is in its seat; it does not listen yet."""
        from cpuserve.grpc.methods import all_methods  # noqa: PLC0415  # in workers only
        from cpuserve.grpc.server import GrpcServer, GrpcTransport  # noqa: PLC0415

        transport = GrpcTransport(
            *(worker.loop.submit, worker.loop.runner.count_refused, worker.check),
            *(worker.limits, worker.body_budget, self._settings.max_connections),
            partial(_tell_channels, worker.row),
        )
        return GrpcServer(self._address, all_methods(pool, admin, shared_memory), transport)


def _tell_channels(row: WorkerRow, count: int) -> None:
    if row.pid == os.getpid():  # else the row is another worker's by now
        row.grpc_channels = count
