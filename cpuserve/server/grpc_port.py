"""The gRPC port of a server: reserved before the workers are forked, served by each of them."""

from __future__ import annotations

import importlib.util
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.grpc.core_environment import CORE_ENVIRONMENT
from cpuserve.grpc.tls import Tls
from cpuserve.http.worker import SeatWorker
from cpuserve.machine.bind_address import bind_address
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.server.grpc_channels import GrpcChannels
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
        MissingExtra: the packages are not installed.
        UsageError: another process has the port.
    """

    def __init__(self, settings: Settings) -> None:
        # the first that is not there ends the search: looking into a package that is not there raises
        if any(importlib.util.find_spec(name) is None for name in ("grpc", "google", "google.protobuf")):
            raise MissingExtra("grpc_port needs gRPC", "grpc")
        host, port = settings.host, settings.grpc_port
        if port == settings.port:
            raise UsageError(f"port and grpc_port are both {port}: gRPC needs a port of its own")
        self._tls = Tls.of(settings)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        shared = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        try:
            with ExitStack() as sockets:
                # Another server whose workers share the port would get half of the connections. While these
                # do not listen yet, only this name tells of them; the kernel forgets it with the server.
                sockets.enter_context(_bound(socket.AF_UNIX, f"\0cpuserve-grpc-{host}-{port}"))
                _bound(family, (host, port), socket.SO_REUSEADDR).close()
                sockets.enter_context(_bound(family, (host, port), *shared))
                self._sockets = sockets.pop_all()
        except OSError as error:
            raise UsageError(f"grpc_port {port} of {host} cannot be used: {error.strerror}") from None
        self._settings = settings
        self._address = bind_address(host, port)

    @classmethod
    def of(cls, settings: Settings) -> GrpcPort | None:
        """The port that the settings ask for; None where they ask for none.

        Raises:
            UsageError: it cannot be served, or there are files of TLS without a port.
        """
        if settings.grpc_port:
            return cls(settings)
        Tls.of(settings)
        return None

    def renew(self) -> None:
        """Read the certificate and its key again, for workers that are started from now on.

        Raises:
            UsageError: they cannot be used; the ones before stay.
        """
        self._tls = Tls.of(self._settings)

    def close(self) -> None:
        """Let the port go."""
        self._sockets.close()

    def server(
        self, worker: SeatWorker, pool: Pool, admin: Admin, shared_memory: SharedMemory | None
    ) -> GrpcServer:
        """The gRPC server of a worker, which is in its seat; it does not listen yet."""
        for name, value in CORE_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from cpuserve.grpc.methods import all_methods  # noqa: PLC0415  # in workers only
        from cpuserve.grpc.server import GrpcServer  # noqa: PLC0415
        from cpuserve.grpc.transport import GrpcTransport  # noqa: PLC0415

        transport = GrpcTransport(
            *(
                worker.loop.submit,
                worker.loop.submit_quietly,
                worker.loop.run,
                worker.loop.must_wait,
                worker.loop.runner.note_refused,
                worker.loop.early_refusal.check,
                worker.check,
            ),
            *(worker.limits, worker.body_budget, self._settings.max_connections, worker.threads),
            GrpcChannels(worker.worker_table, worker.row).tell,
            worker.recorder.answered if worker.recorder is not None else lambda _code: None,
        )
        methods = all_methods(pool, admin, shared_memory)
        return GrpcServer(self._address, methods, transport, self._tls)


def _bound(family: int, address: str | tuple[str, int], *options: int) -> socket.socket:
    """A socket with an address, which does not listen."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
