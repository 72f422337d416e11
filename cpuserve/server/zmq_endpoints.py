"""The ZeroMQ endpoints of a server: bound before the workers are forked, served by all of them."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.http.worker import SeatWorker
from cpuserve.settings import Settings

if TYPE_CHECKING:
    from cpuserve.serving.pool import Pool
    from cpuserve.zmq.server import ZmqServer

__all__ = ["ZmqEndpoints", "endpoints_of"]

_TCP = re.compile(r"tcp://(\*|\[[0-9a-fA-F:.]+\]|[^\[\]:/]+):([0-9]{1,5})")
_IPC = re.compile(r"ipc://(/[^\0]+)")
_BACKLOG, _LAST_PORT = 100, 65535


class ZmqEndpoints:
    """Keeps the listening sockets of this server's workers.

    Workers that share an endpoint share its connections as the kernel likes. Where there are as many
    endpoints as seats, each has a worker of its own.

    Args:
        settings: the settings in force, with a ``zmq_endpoint``.
        seats: how many workers there are.

    Raises:
        UsageError: an endpoint cannot be used, or a setting does not fit.
        MissingExtra: pyzmq is not installed.
    """

    def __init__(self, settings: Settings, seats: int) -> None:
        if importlib.util.find_spec("zmq") is None:
            raise MissingExtra("zmq_endpoint needs pyzmq", "frigate")
        if not settings.zmq_model:
            raise UsageError("zmq_endpoint needs zmq_model: the model that finds the objects")
        if settings.api_key_file:
            raise UsageError(
                "zmq_endpoint and api_key_file exclude each other: Frigate's ZMQ messages carry no key"
            )
        self._model, self._seats = settings.zmq_model, seats
        with ExitStack() as sockets:
            words = dict.fromkeys(word.strip() for word in settings.zmq_endpoint.split(","))
            self._sockets = {word: sockets.enter_context(_listening(word)) for word in words}
            sockets.pop_all()

    def close(self) -> None:
        """Let the endpoints go, and remove the files of ``ipc://``."""
        for endpoint, listening in self._sockets.items():
            listening.close()
            if found := _IPC.fullmatch(endpoint):
                Path(found[1]).unlink(missing_ok=True)

    def server(self, worker: SeatWorker, pool: Pool) -> ZmqServer:
        """The ZeroMQ server of a worker, which is in its seat; it does not accept yet."""
        from cpuserve.zmq.frigate_detector import FrigateDetector  # noqa: PLC0415  # in workers only
        from cpuserve.zmq.server import ZmqServer, ZmqTransport  # noqa: PLC0415

        transport = ZmqTransport(
            *(worker.loop.submit, worker.loop.runner.note_refused, worker.check),
            *(worker.limits, worker.body_budget),
        )
        mine = endpoints_of(worker.seat_index, self._seats, list(self._sockets))
        listening = {endpoint: self._sockets[endpoint].fileno() for endpoint in mine}
        return ZmqServer(listening, FrigateDetector(pool, self._model), transport)


def endpoints_of(seat: int, seats: int, endpoints: Sequence[str]) -> Sequence[str]:
    """The endpoints that the worker of a seat serves: every endpoint has a worker, every worker an endpoint.

    Args:
        seat: its number.
        seats: how many there are.
        endpoints: all of them.
    """
    if len(endpoints) <= seats:
        return [endpoints[seat % len(endpoints)]]
    return endpoints[seat::seats]


def _listening(endpoint: str) -> socket.socket:
    """A socket that listens at an endpoint.

    Raises:
        UsageError: it is no endpoint, or cannot be used.
    """
    try:
        found = _TCP.fullmatch(endpoint)
        if found and 0 < int(found[2]) <= _LAST_PORT:
            return _listening_tcp(found[1].strip("[]"), int(found[2]))
        if found := _IPC.fullmatch(endpoint):
            return _listening_ipc(Path(found[1]))
    except (OSError, UnicodeError) as error:  # the latter of a host that cannot be a name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"zmq_endpoint {endpoint} cannot be used: {reason}") from None
    raise UsageError(f"zmq_endpoint is such as tcp://0.0.0.0:5555 or ipc:///run/detector, not {endpoint!r}")


def _listening_tcp(host: str, port: int) -> socket.socket:
    host = "0.0.0.0" if host == "*" else host  # noqa: S104  # what ZeroMQ means by it
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return _listen(made, address)


def _listening_ipc(path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(FileNotFoundError):
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # of a server that has ended
    return _listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path))


def _listen(made: socket.socket, address: object) -> socket.socket:
    try:
        made.bind(address)  # type: ignore[arg-type]  # as its family has them
        made.listen(_BACKLOG)
        made.setblocking(False)  # several workers are told of a connection, and one of them gets it
    except OSError:
        made.close()
        raise
    return made
