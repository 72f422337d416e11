"""Finds a running server by its process or port, and opens its traced requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.files import read_text
from cpuserve.machine.server_status import ServerStatus
from cpuserve.profiling.pyspy import hindrance
from cpuserve.serving.find_servers import find_servers
from cpuserve.serving.trace_ring import LINK, TraceRing

__all__ = ["RunningServer"]


@dataclass(frozen=True)
class RunningServer:
    """A server of this user on this machine.

    Attributes:
        pid: of its arbiter.
        port: where it listens.
        trace_ring: its traced requests.
    """

    pid: int
    port: int
    trace_ring: TraceRing

    @classmethod
    def at(cls, pid: int | None, port: int | None = None) -> RunningServer:
        """Find the server that a process belongs to, or that listens on a port.

        Raises:
            UsageError: there is no such process or no such server.
            CpuserveError: it is another user's, or another version's.
        """
        servers = find_servers()
        for server in servers:
            own = int(server.address.rpartition(":")[2])
            if pid in (server.pid, *(worker.pid for worker in server.workers)) or (
                pid is None and port == own
            ):
                return cls(server.pid, own, _trace_ring(server.pid))
        where = f"process {pid}" if pid is not None else f"port {port}"
        if pid is not None and (why := hindrance(pid)):
            raise CpuserveError(f"{where} cannot be looked into: {why}")
        if pid is None and port is not None and (user := _owner(port)) not in (None, os.geteuid()):
            raise CpuserveError(
                f"the server on {where} is user {user}'s and this is user {os.geteuid()}: run cpuserve "
                f"profile as that user (sudo -u '#{user}' ..., docker exec -u {user} ...), "
                "or give it SYS_PTRACE"
            )
        there = ", ".join(f"{server.pid} ({server.address})" for server in servers) or "none"
        raise UsageError(f"{where} is no cpuserve server that this user may look into; there are: {there}")

    def status(self) -> ServerStatus:
        """The workers it has now.

        Raises:
            CpuserveError: the server has ended.
        """
        for server in find_servers():
            if server.pid == self.pid:
                return server
        raise CpuserveError(f"the server (process {self.pid}) has ended")

    def processes(self) -> Iterator[int]:
        """The arbiter and the workers that there are at the time of the call."""
        yield self.pid
        text = read_text(Path(f"/proc/{self.pid}/task/{self.pid}/children")) or ""
        yield from map(int, text.split())


def _trace_ring(pid: int) -> TraceRing:
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed since
                if str(file.readlink()) == LINK:
                    return TraceRing.open(file)
    except (OSError, ValueError) as error:
        raise CpuserveError(f"the trace ring of process {pid} cannot be used: {error}") from error
    raise CpuserveError(f"process {pid} keeps no trace ring: it is an older cpuserve; restart the server")


def _owner(port: int) -> int | None:
    """The user id of the process that listens on a TCP port, by /proc/net; None where none does."""
    for name in ("tcp", "tcp6"):
        for line in (read_text(Path(f"/proc/net/{name}")) or "").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                return int(words[7])
    return None
