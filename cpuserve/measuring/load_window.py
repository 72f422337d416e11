"""Loads a server for one window and measures answers, CPU time and memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cpuserve.errors import CpuserveError

__all__ = [
    "Load",
    "LoadWindow",
    "Target",
    "busy_s",
    "measure_window",
    "ours_s",
    "percentile",
    "tree_cpu_s",
    "unique_mib",
]


@dataclass(frozen=True)
class Target:
    """A server and the request it gets.

    Attributes:
        host: its address.
        port: its port.
        path: the path that pictures are posted to.
        then: further paths that take turns with it: other models of the same server.
        headers: headers of every request, beside Host and Content-Length.
        pid: the top process of the server; None if it cannot be seen.
        unseen: why it cannot be seen.
        model: the name in its statistics; may be empty.
    """

    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})
    pid: int | None = None
    unseen: str = ""
    model: str = ""
    then: Sequence[str] = ()


@dataclass(frozen=True)
class Load:
    """How much load a server gets: one of the two.

    Attributes:
        connections: closed loop, so many clients with one request under way each.
        rate: open loop, so many Poisson arrivals a second.
    """

    connections: int = 0
    rate: float = 0.0


@dataclass(frozen=True)
class LoadWindow:
    """What was measured in one window, or in several added up.

    Attributes:
        requests: requests answered, or due in an open loop.
        offered_s: seconds in which requests were sent.
        seconds: until the last answer.
        statuses: number of answers by HTTP status; "closed" and "unanswered" are requests without one.
        latencies_ms: of those answered 200, ascending; in an open loop from the time they were due.
        client_cpu_s: CPU time of the client.
        foreign_cpu_s: CPU time of everything else on the machine, of ``wall_s`` seconds.
        wall_s: length of the window with the client's start and end.
        server_cpu_s: CPU time of the server's processes; None if they cannot be seen.
        unique_mib: memory that the server's processes share with no other, at the end; None likewise.
    """

    requests: int
    offered_s: float
    seconds: float
    statuses: Mapping[str, int]
    latencies_ms: Sequence[float]
    client_cpu_s: float
    foreign_cpu_s: float
    wall_s: float
    server_cpu_s: float | None
    unique_mib: float | None

    @classmethod
    def sum(cls, windows: Sequence[LoadWindow]) -> LoadWindow:
        """Several windows as one."""
        cpu = [window.server_cpu_s for window in windows if window.server_cpu_s is not None]
        statuses: Counter[str] = Counter()
        for window in windows:
            statuses.update(window.statuses)
        return cls(
            requests=sum(window.requests for window in windows),
            offered_s=sum(window.offered_s for window in windows),
            seconds=sum(window.seconds for window in windows),
            statuses=dict(statuses),
            latencies_ms=sorted(latency for window in windows for latency in window.latencies_ms),
            client_cpu_s=sum(window.client_cpu_s for window in windows),
            foreign_cpu_s=sum(window.foreign_cpu_s for window in windows),
            wall_s=sum(window.wall_s for window in windows),
            server_cpu_s=sum(cpu) if len(cpu) == len(windows) else None,
            unique_mib=windows[-1].unique_mib,
        )

    @property
    def offered_per_s(self) -> float:
        """Requests a second that were sent."""
        return self.requests / self.offered_s

    @property
    def per_s(self) -> float:
        """Requests answered 200 a second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def cpu_ms(self) -> float | None:
        """CPU milliseconds of the server's processes for a request answered 200."""
        if self.server_cpu_s is None or not self.latencies_ms:
            return None
        return 1000 * self.server_cpu_s / len(self.latencies_ms)

    @property
    def errors(self) -> dict[str, int]:
        """Requests that were not answered 200, by status."""
        return {status: count for status, count in self.statuses.items() if status != "200"}

    def figures(self) -> dict[str, Any]:
        """The figures for a result file.

        ``images_per_s``, ``cpu_ms`` of the server a request, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``rss_mib``
        (sum of unique memory of its processes), ``server_cores``, ``client_cores``, ``foreign_cores`` (what
        neither used), ``statuses``. None is what could not be seen.
        """
        server = self.server_cpu_s
        return {
            "images_per_s": self.per_s,
            "cpu_ms": self.cpu_ms,
            **{f"p{share}_ms": percentile(self.latencies_ms, share) for share in (50, 95, 99)},
            "rss_mib": self.unique_mib,
            "server_cores": None if server is None else server / self.seconds,
            "client_cores": self.client_cpu_s / self.seconds,
            "foreign_cores": self.foreign_cpu_s / self.wall_s,
            "statuses": dict(self.statuses),
        }


def measure_window(
    target: Target,
    images: Sequence[Path],
    load: Load,
    *,
    seconds: float,
    seed: int = 0,
    may_end: bool = False,
) -> LoadWindow:
    """Load a running server for one window and measure the machine's CPU time meanwhile.

    Args:
        target: the server.
        images: files, posted in turn.
        load: how much load.
        seconds: how long.
        seed: random seed of the arrivals of an open loop.
        may_end: whether a server that ends meanwhile has a window, with lost requests and no CPU time.

    Raises:
        CpuserveError: the client failed: the server is not there, or has ended.
    """
    command = [
        sys.executable,
        "-m",
        "cpuserve.measuring.http_load",
        str(target.port),
        target.path,
        *map(str, images),
    ]
    command += ["--host", target.host, "--seconds", str(seconds), "--seed", str(seed)]
    for name, text in target.headers.items():
        command += ["--header", name, text]
    for path in target.then:
        command += ["--then", path]
    command += ["--rate", str(load.rate)] if load.rate else ["--connections", str(load.connections)]
    machine, ours, began = busy_s(), ours_s(), time.perf_counter()
    server = None if target.pid is None else tree_cpu_s(target.pid)
    # Ctrl-C is for the command
    done = subprocess.run(command, capture_output=True, text=True, check=False, process_group=0)
    wall = time.perf_counter() - began
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CpuserveError(f"the load on http://{target.host}:{target.port} failed: {last[0]}")
    pid = None if may_end and target.pid is not None and not psutil.pid_exists(target.pid) else target.pid
    server = None if pid is None or server is None else tree_cpu_s(pid) - server
    result = json.loads(done.stdout)
    return LoadWindow(
        requests=result["requests"],
        offered_s=result["seconds"],
        seconds=result["took_s"],
        statuses=result["statuses"],
        latencies_ms=result["latencies_ms"],
        client_cpu_s=result["client_cpu_s"],
        foreign_cpu_s=max(0.0, busy_s() - machine - (server or 0.0) - (ours_s() - ours)),
        wall_s=wall,
        server_cpu_s=server,
        unique_mib=None if pid is None else unique_mib(pid),
    )


def percentile(ascending: Sequence[float], share: int) -> float | None:
    """The value that ``share`` percent of the values do not exceed; None without values."""
    return ascending[min(len(ascending) - 1, len(ascending) * share // 100)] if ascending else None


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and all its descendants, ended ones too.

    Raises:
        CpuserveError: there is no such process.
    """
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user and system, its own and of children it waited for
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise CpuserveError(f"the server (process {pid}) has ended") from None


def busy_s() -> float:
    """CPU seconds of the whole machine since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def ours_s() -> float:
    """CPU seconds of this process and of the clients it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def unique_mib(pid: int) -> float:
    """Memory that a process and its descendants share with no other process.

    Raises:
        CpuserveError: there is no such process.
    """
    total = 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total / (1 << 20)
