"""Measures tail latency with many clients and with random arrivals, in several layouts of workers.

Run as ``python -m benchmarks.tails --model-repository DIR --model NAME --images DIR [--out FILE]``.

Arrivals that are random queue up in front of any server. What is least is told beside what was measured:
the 99th percentile of the same arrivals at cores that share one queue and take the mean time of a saturated
core for each (M/D/c, Kendall's notation). Where each core has a queue of its own it is that of M/D/1.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.errors import CpuserveError
from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import plan_for_settings
from cpuserve.machine.topology import Topology
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread
from cpuserve.measuring.target import target_at
from cpuserve.settings import Settings

__all__ = ["LAYOUTS", "least_p99", "main"]

_WARM_S = 1.0


LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "one worker": {"workers": 1, "share_weights": False},
    "one worker, shared weights": {"workers": 1, "share_weights": True},
}
"""Settings by the name of the layout."""


def least_p99(rate: float, seconds: float, seed: int, servers: int, service_s: float) -> float:
    """The 99th percentile of the seconds that Poisson arrivals spend where all wait in one queue (M/D/c).

    Args:
        rate: arrivals a second.
        seconds: how long they come.
        seed: of the arrivals; the same as of `cpuserve.measuring.http_load.open_loop`.
        servers: each takes ``service_s`` for each arrival.
        service_s: seconds.
    """
    dice = random.Random(seed)  # noqa: S311  # arrivals, no secrets
    free = [0.0] * servers
    spent = []
    due = 0.0
    while due < seconds:
        first = min(range(servers), key=free.__getitem__)
        free[first] = max(due, free[first]) + service_s
        spent.append(free[first] - due)
        due += dice.expovariate(rate)
    return sorted(spent)[int(0.99 * len(spent))]


@dataclass(frozen=True)
class _Server:
    """A running server, its port and its cores."""

    layout: str
    target: Target
    cores: int


def main() -> None:
    """Measure servers that it starts by turns, several rounds over, and print or write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, help="directory; without it a picture is made")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--load", type=float, default=0.7, help="of what 16 clients get, in the open loop")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rounds: dict[str, list[dict[str, Any]]] = {layout: [] for layout in given.layouts}
    with pictures(given.images) as sent, ExitStack() as running:
        servers = list(_started(given, running))
        for server in servers:
            measure_window(
                server.target, sent.files, Load(connections=8), seconds=min(_WARM_S, given.seconds)
            )
        for number in range(given.rounds):
            for server in servers:
                rounds[server.layout].append(_round(server, sent.files, given, number))
    layouts = {name: _medians(found) for name, found in rounds.items()}
    table = Table("", *layouts)
    for key in next(iter(layouts.values()))["medians"]:
        table.add_row(key, *(f"{one['medians'][key]:.3f}" for one in layouts.values()))
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.tails", *sys.argv[1:]]
        write_result(given.out, words, {"pictures": sent.name, "layouts": layouts})


def _started(given: argparse.Namespace, running: ExitStack) -> Iterator[_Server]:
    """A server a layout, all there at once: those that are not asked cost nothing."""
    for layout in given.layouts:
        flags = {"model_repository": given.model_repository, **LAYOUTS[layout]}
        local = running.enter_context(local_server(given.model, flags, None))
        plan = plan_for_settings(
            Topology.read(), Budget.read(), Settings(workers=LAYOUTS[layout].get("workers"))
        )
        cores = sum(seat.threads for seat in plan.seats)
        yield _Server(layout, target_at(local.url, given.model, "predictions"), cores)


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "errors"}
    noise = {key: spread([one[key] for one in rounds]) for key in ("p99_to_p50", "rate_p99_to_service")}
    return {"medians": medians, "noise": noise, "rounds": rounds}


def _round(server: _Server, files: Sequence[Path], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    def measured(load: Load) -> LoadWindow:
        return measure_window(server.target, files, load, seconds=given.seconds, seed=seed)

    alone, most, many = (measured(Load(connections=number)) for number in (1, 16, given.connections))
    rate = given.load * most.per_s
    opened = measured(Load(rate=rate))
    windows = (alone, most, many, opened)
    if not all(window.latencies_ms for window in windows):
        raise CpuserveError(
            f"a window without an answer: {LoadWindow.sum(windows).errors}; take more --seconds"
        )
    first, crowd, arrivals = alone.figures(), many.figures(), opened.figures()
    least = least_p99(rate, given.seconds, seed, server.cores, server.cores / most.per_s)
    return {
        "service_ms": first["p50_ms"],
        "capacity_per_s": most.per_s,
        "busy_cores": most.figures()["server_cores"],
        "clients": given.connections,
        "p50_ms": crowd["p50_ms"],
        "p99_ms": crowd["p99_ms"],
        "p99_to_p50": crowd["p99_ms"] / crowd["p50_ms"],
        "rate_per_s": rate,
        "rate_p99_ms": arrivals["p99_ms"],
        "rate_p99_to_service": arrivals["p99_ms"] / first["p50_ms"],
        "least_p99_to_service": 1000 * least / first["p50_ms"],
        "foreign_cores": max(one["foreign_cores"] for one in (first, crowd, arrivals)),
        "errors": LoadWindow.sum(windows).errors,
    }


if __name__ == "__main__":
    main()
