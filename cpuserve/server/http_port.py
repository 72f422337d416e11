"""The address that the server answers HTTP on, and whether it can be had."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Mapping

from cpuserve.errors import UsageError
from cpuserve.settings import Settings

__all__ = ["check_port"]

_PATIENCE_S, _PAUSE_S = 1.0, 0.05


def check_port(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Try whether the server can listen on its address, so that the reason is told before anything starts.

    Args:
        settings: the settings in force.
        environ: sockets that systemd or an older gunicorn hands over are named there; they are taken.

    Raises:
        UsageError: another process has the port, it may not be used, or the host has no such address.
    """
    if "LISTEN_FDS" in environ or "GUNICORN_FD" in environ:
        return
    host, port = settings.host, settings.port
    until = time.monotonic() + _PATIENCE_S
    while (error := _refusal(host, port)) is not None:
        # a server that ends, or the other end of somebody's connection, may have it for a moment
        if error.errno != errno.EADDRINUSE or time.monotonic() > until:
            raise UsageError(_reason(error, host, port)) from error
        time.sleep(_PAUSE_S)


def _refusal(host: str, port: int) -> OSError | None:
    """Why nothing can listen there now; None where something can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)  # two sockets may be bound to a port that nobody listens on yet
    except OSError as error:
        return error
    return None


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: stop what listens there, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user has not: choose one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine (--host): {error.strerror}"
    return f"port {port} of {host} cannot be used: {error.strerror} (--host, --port)"
