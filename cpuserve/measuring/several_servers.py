"""Loads several servers at once for one window, each with its share of the load."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window

__all__ = ["at_once", "measure_servers", "shares"]


def shares(load: Load, servers: int) -> list[Load]:
    """The load of each server, as even as it can be; with fewer clients than servers the last ones get none.

    Arrivals at random times that are dealt out at random are random again, at a part of the rate.
    """
    if load.rate:
        return [Load(rate=load.rate / servers)] * servers
    each, left = divmod(load.connections, servers)
    return [Load(connections=each + (number < left)) for number in range(min(servers, load.connections))]


def measure_servers(
    targets: Sequence[Target],
    images: Sequence[Path],
    load: Load,
    *,
    seconds: float,
    seed: int = 0,
    lost: Callable[[Target, str], None],
) -> LoadWindow:
    """Load servers for one window at the same time, and add up what was measured.

    Args:
        targets: the servers.
        images: files, posted in turn.
        load: how much load all of them get together.
        seconds: how long.
        seed: random seed of the arrivals of an open loop.
        lost: is told of a server that could not be loaded, and why; the others count.

    Raises:
        CpuserveError: no server could be loaded.
    """
    parts = shares(load, len(targets))
    if len(parts) == 1:
        return measure_window(targets[0], images, load, seconds=seconds, seed=seed)
    with ThreadPoolExecutor(len(parts)) as threads:
        running = [
            threads.submit(
                measure_window, target, images, part, seconds=seconds, seed=1000 * seed + number, may_end=True
            )
            for number, (target, part) in enumerate(zip(targets, parts, strict=False))
        ]
    windows, failure = [], None
    for target, one in zip(targets, running, strict=False):
        try:
            windows.append(one.result())
        except CpuserveError as error:
            failure = error
            lost(target, str(error))
    if not windows:
        raise failure or CpuserveError("there is no server to load")
    return at_once(windows)


def at_once(windows: Sequence[LoadWindow]) -> LoadWindow:
    """Windows of the same time on different servers as one: each sees the others as foreign programs."""
    spent = [one.server_cpu_s for one in windows if one.server_cpu_s is not None]
    memory = [one.unique_mib for one in windows if one.unique_mib is not None]
    statuses: Counter[str] = Counter()
    for one in windows:
        statuses.update(one.statuses)
    beside_clients = statistics.fmean(one.foreign_cpu_s + (one.server_cpu_s or 0.0) for one in windows)
    return LoadWindow(
        requests=sum(one.requests for one in windows),
        offered_s=max(one.offered_s for one in windows),
        seconds=max(one.seconds for one in windows),
        statuses=dict(statuses),
        latencies_ms=sorted(latency for one in windows for latency in one.latencies_ms),
        client_cpu_s=sum(one.client_cpu_s for one in windows),
        foreign_cpu_s=max(0.0, beside_clients - sum(spent)),
        wall_s=max(one.wall_s for one in windows),
        server_cpu_s=sum(spent) if len(spent) == len(windows) else None,
        unique_mib=sum(memory) if len(memory) == len(windows) else None,
    )
