"""What a server spends while it is loaded: CPU of its processes, memory, and what others used meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

__all__ = ["measure_window"]


def measure_window(
    server_pid: int, port: int, path: str, images: Sequence[Path], *, connections: int, seconds: float
) -> dict[str, Any]:
    """Load a running server for one window and account for the machine's CPU meanwhile.

    Returns:
        ``images_per_s``, ``cpu_ms`` of the server's processes a request, ``p50_ms``, ``p95_ms``, ``p99_ms``,
        ``rss_mib`` (sum of unique memory of its processes), ``server_cores``, ``client_cores``,
        ``foreign_cores`` (what neither used), ``statuses``.
    """
    command = [sys.executable, "-m", "cpuserve.bench.load", str(port), path, *map(str, images)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    machine, server, began = _busy_s(), _tree_cpu_s(server_pid), time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True)
    wall = time.perf_counter() - began
    server = _tree_cpu_s(server_pid) - server
    machine = _busy_s() - machine
    result = json.loads(done.stdout)
    # of the client's start and end only its own part of the window is known; what is left is others'
    client = float(result["client_cpu_s"])
    latencies, count = result["latencies_ms"], int(result["requests"])
    return {
        "images_per_s": count / result["seconds"],
        "cpu_ms": 1000 * server / count,
        **{f"p{share}_ms": latencies[min(count - 1, count * share // 100)] for share in (50, 95, 99)},
        "rss_mib": _unique_mib(server_pid),
        "server_cores": server / result["seconds"],
        "client_cores": client / result["seconds"],
        "foreign_cores": max(0.0, machine - server - client - _STARTUP_S) / wall,
        "statuses": result["statuses"],
    }


_STARTUP_S = 0.06  # of the client's interpreter, outside its own count


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _tree_cpu_s(pid: int) -> float:
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _unique_mib(pid: int) -> float:
    total = 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total / (1 << 20)
