"""Finds the running server that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.machine.server_status import ServerStatus

__all__ = ["choose_server"]


def choose_server(servers: tuple[ServerStatus, ...], pid: int | None) -> ServerStatus | None:
    """The server of a process; without one, the only server there is, or None.

    Args:
        servers: those that run here.
        pid: the arbiter or a worker of the wanted one.

    Raises:
        UsageError: several servers run and none is named, or the process is of none.
    """
    there = ", ".join(f"{server.pid} ({server.address})" for server in servers) or "none"
    if pid is None:
        if len(servers) > 1:
            raise UsageError(f"several servers run here, name one with --pid: {there}")
        return servers[0] if servers else None
    for server in servers:
        if pid in (server.pid, *(worker.pid for worker in server.workers)):
            return server
    raise UsageError(f"--pid {pid} is no server of this user; there are: {there}")
