"""Measures the CPU time of HTTP alone, under this project's worker and gunicorn's own.

Run as ``python -m benchmarks.http_only [--out FILE]``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.shapes import Shape, running
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window
from cpuserve.measuring.local_server import free_port
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread
from cpuserve.settings import Settings

__all__ = ["SHAPES", "main"]

_OURS = "cpuserve.http.worker.SeatWorker"
SHAPES: dict[str, tuple[str, int, bool]] = {  # worker class, threads, whether the application is only a stub
    "shared epoll, the application": (_OURS, 1, False),
    "shared epoll, a stub": (_OURS, 1, True),
    "gthread, the application": ("gthread", 8, False),
    "gthread, a stub": ("gthread", 8, True),
}


class _Http(Shape):
    """A server of the model that takes no time, or of a stub."""

    def __init__(self, settings: Settings, worker_class: str, *, stub: bool) -> None:
        self._stub = stub
        super().__init__(settings, worker_class)

    def application(self) -> Any:
        from benchmarks.fixtures.null_model import NullPool, json_stub  # noqa: PLC0415  # numpy comes with it, after the fork
        from cpuserve.http.app import Application  # noqa: PLC0415

        shared = self.shared
        shared.reload_control.join(self.row)
        self.pool = NullPool(self.settings, 1, shared.statistics, shared.reload_control, self.row)
        return (
            json_stub
            if self._stub
            else Application(self.pool, shared.worker_table, self.access, shared.log_switches)
        )


def main() -> None:
    """Measure every shape in turn, several rounds over, and print or write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"), help="not served from")
    parser.add_argument("--servers", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--body-kb", type=int, default=70)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    windows: dict[str, list[LoadWindow]] = {name: [] for name in given.servers}
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(random.Random(0).randbytes(1000 * given.body_kb))  # noqa: S311  # no secret
        for _ in range(given.rounds):
            for name, found in windows.items():
                found.append(_measure(name, body, given))
    rows = {name: _figures(seen) for name, seen in windows.items()}
    table = Table("server", "CPU us a request", "noise", "requests/s", "p99 ms", "foreign cores", "errors")
    for name, row in rows.items():
        keys = ("cpu_us", "noise", "requests_per_s", "p99_ms", "foreign_cores")
        table.add_row(name, *(f"{row[key]:.2f}" for key in keys), str(row["errors"] or 0))
    Console(width=120).print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.http_only", *sys.argv[1:]]
        what = {
            "body_bytes": 1000 * given.body_kb,
            "connections": given.connections,
            "workers": given.workers,
        }
        write_result(given.out, words, {**what, "servers": rows})


def _measure(name: str, body: Path, given: argparse.Namespace) -> LoadWindow:
    worker_class, threads, stub = SHAPES[name]
    settings = Settings(
        model_repository=given.model_repository, port=free_port(), workers=given.workers, threads=threads
    )
    with running(lambda: _Http(settings, worker_class, stub=stub), settings) as pid:
        target = Target("127.0.0.1", settings.port, "/predictions/nothing", pid=pid)
        load = Load(connections=given.connections)
        measure_window(target, [body], load, seconds=min(1.0, given.seconds))
        return measure_window(target, [body], load, seconds=given.seconds)


def _figures(windows: list[LoadWindow]) -> dict[str, Any]:
    cpu_us = [1000 * (window.cpu_ms or 0.0) for window in windows]
    whole = LoadWindow.sum(windows)
    figures = [window.figures() for window in windows]
    return {
        "cpu_us": statistics.median(cpu_us),
        "noise": spread(cpu_us),
        "requests_per_s": statistics.median(window.per_s for window in windows),
        "p99_ms": whole.figures()["p99_ms"],
        "foreign_cores": statistics.median(one["foreign_cores"] for one in figures),
        "client_cores": statistics.median(one["client_cores"] for one in figures),
        "errors": whole.errors,
        "rounds_cpu_us": cpu_us,
    }


if __name__ == "__main__":
    main()
