"""Measures throughput and tail latency over the largest batch and the queue delay.

Each setting is a server of its own, started with as many threads as the largest batch: a batch can only hold
rows that threads have written meanwhile. Run as
``python -m benchmarks.coalescing --model-repository DIR --model NAME --images DIR [--out FILE]``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.load_window import Load, LoadWindow, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.results import write_result
from cpuserve.measuring.server_batches import ServerBatches
from cpuserve.measuring.stable_windows import spread
from cpuserve.measuring.target import target_at

__all__ = ["main"]

_WARM_S = 1.0
_COLUMNS = {
    "img/s": "images_per_s",
    "noise": "noise",
    "CPU-ms": "cpu_ms",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "rows/batch": "rows_a_batch",
    "foreign cores": "foreign_cores",
}


def main() -> None:
    """Measure every pair under every load, several rounds over, and print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, help="directory; without it a picture is made")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--delays-us", type=int, nargs="+", default=[0, 2000, 10_000])
    parser.add_argument("--threads", type=int, help="of a worker; without it as many as the largest batch")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=50.0, help="of the open loop, a second; 0: none")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    loads = [Load(connections=given.connections), *([Load(rate=given.rate)] if given.rate else [])]
    windows: dict[tuple[int, int], list[list[tuple[LoadWindow, ServerBatches | None]]]] = {}
    with pictures(given.images) as sent:
        for _ in range(given.rounds):
            for pair in itertools.product(given.batches, given.delays_us):
                windows.setdefault(pair, []).append(_measure(*pair, sent.files, loads, given))
    rows = [
        {
            "max_batch": batch,
            "max_queue_delay_us": delay,
            **_load(load),
            **_figures([one[at] for one in rounds]),
        }
        for (batch, delay), rounds in windows.items()
        for at, load in enumerate(loads)
    ]
    _show(rows)
    if given.out:
        words = ["python", "-m", "benchmarks.coalescing", *sys.argv[1:]]
        terms = {"workers": given.workers, "threads": given.threads or "max_batch", "pictures": sent.name}
        write_result(given.out, words, {**terms, "rows": rows})


def _measure(
    batch: int, delay_us: int, files: Sequence[Path], loads: Sequence[Load], given: argparse.Namespace
) -> list[tuple[LoadWindow, ServerBatches | None]]:
    flags = {
        "model_repository": given.model_repository,
        "workers": given.workers,
        "threads": given.threads or batch,
        "max_batch": batch,
        "max_queue_delay_us": delay_us,
    }
    found = []
    with local_server(given.model, flags, None) as local:
        target = target_at(local.url, given.model, "predictions")
        measure_window(target, files, loads[0], seconds=min(_WARM_S, given.seconds))
        for load in loads:
            before = ServerBatches.read(target)
            window = measure_window(target, files, load, seconds=given.seconds)
            after = ServerBatches.read(target)
            found.append((window, after.since(before) if before and after else None))
    return found


def _load(load: Load) -> dict[str, Any]:
    return {"connections": load.connections or None, "request_rate": load.rate or None}


def _figures(rounds: Sequence[tuple[LoadWindow, ServerBatches | None]]) -> dict[str, Any]:
    """Throughput and CPU are medians over the rounds; latencies are of all their requests together."""
    windows = [window for window, _ in rounds]
    whole = LoadWindow.sum(windows).figures()
    counted = [batches for _, batches in rounds if batches is not None]
    released: dict[str, int] = {}
    for batches in counted:
        for why, count in batches.released.items():
            released[why] = released.get(why, 0) + count
    rates = [window.per_s for window in windows]
    return {
        **{key: whole[key] for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms", "foreign_cores", "statuses")},
        "images_per_s": statistics.median(rates),
        "noise": spread(rates),
        "rows_a_batch": statistics.fmean(batches.rows or 0.0 for batches in counted) if counted else None,
        "released": released,
    }


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table("max_batch", "delay us", "load", *_COLUMNS, "released")
    for row in rows:
        load = f"c{row['connections']}" if row["connections"] else f"{row['request_rate']:g}/s"
        figures = ("-" if row[key] is None else f"{row[key]:.2f}" for key in _COLUMNS.values())
        why = ", ".join(f"{count} {word}" for word, count in row["released"].items() if count)
        table.add_row(str(row["max_batch"]), str(row["max_queue_delay_us"]), load, *figures, why)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
