"""Measures what clients notice of a shadow: latency and CPU with a share of 0, and with every request copied.

Versions 1 and 2 are copies of one model. Its two servers run in turns, so that what else the machine does
meets both alike; each is asked at a steady rate, and by as many connections as keep it busy. Run as
``python -m benchmarks.shadow --model-repository DIR --model NAME --images DIR --out FILE``; ``--quick`` is to
try it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.load_window import Load, LoadWindow, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread
from cpuserve.measuring.target import target_at
from cpuserve.models.repository import Repository

__all__ = ["main"]

_WARM_S = 1.0
_SHARES = (0.0, 1.0)
_QUICK_S = 2.0


def main() -> None:
    """Measure both shares under both loads, several rounds over, and print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, help="directory; without it a picture is made")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second of the steady load")
    parser.add_argument("--connections", type=int, default=8, help="of the load that keeps the server busy")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds = _QUICK_S, 1
    loads = [Load(rate=given.rate), Load(connections=given.connections)]
    windows: dict[float, list[tuple[list[LoadWindow], dict[str, Any]]]] = {share: [] for share in _SHARES}
    with tempfile.TemporaryDirectory() as folder, pictures(given.images) as sent:
        repository = Path(folder)
        file = Repository(given.model_repository).find(given.model)
        for version in ("1", "2"):
            shutil.copytree(file.xml.parent, repository / given.model / version)
        for number in range(given.rounds):
            for share in _SHARES if number % 2 else _SHARES[::-1]:
                windows[share].append(_measure(repository, share, sent.files, loads, given))
    rows = [
        {"share": share, "load": _name(load), **_figures([found[at] for found, _ in rounds])}
        for share, rounds in windows.items()
        for at, load in enumerate(loads)
    ]
    requests = [report["requests"] for _, report in windows[1.0]]
    shadow = {key: sum(one[key] for one in requests) for key in requests[0]}
    _show(rows, shadow)
    if given.out:
        words = ["python", "-m", "benchmarks.shadow", *sys.argv[1:]]
        terms = {
            "model": given.model,
            "seconds": given.seconds,
            "rounds": given.rounds,
            "pictures": sent.name,
        }
        write_result(given.out, words, {**terms, "rows": rows, "shadow": shadow})


def _measure(
    repository: Path, share: float, files: Sequence[Path], loads: Sequence[Load], given: argparse.Namespace
) -> tuple[list[LoadWindow], dict[str, Any]]:
    """One window a load of a server with a share, and its report on the shadow."""
    shadow = json.dumps({"version": 2, "share": share})
    with local_server(given.model, {"model_repository": repository, "shadow": shadow}, None) as local:
        target = target_at(local.url, given.model, "predictions")
        measure_window(target, files, loads[1], seconds=min(_WARM_S, given.seconds))
        found = [measure_window(target, files, load, seconds=given.seconds) for load in loads]
        return found, local.get_json(f"/v2/models/{given.model}/shadow")[1]


def _name(load: Load) -> str:
    return f"{load.rate:g}/s" if load.rate else f"{load.connections} connections"


def _figures(windows: Sequence[LoadWindow]) -> dict[str, Any]:
    """Throughput is the median of the rounds; latencies and CPU are of all their requests together."""
    whole = LoadWindow.sum(windows).figures()
    rates = [window.per_s for window in windows]
    return {
        **{key: whole[key] for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms", "foreign_cores", "statuses")},
        "images_per_s": statistics.median(rates),
        "noise": spread(rates),
    }


def _show(rows: Sequence[dict[str, Any]], shadow: dict[str, int]) -> None:
    columns = ("images_per_s", "noise", "p50_ms", "p95_ms", "p99_ms", "cpu_ms", "foreign_cores")
    table = Table("share", "load", *columns, "statuses")
    for row in rows:
        figures = ("-" if row[key] is None else f"{row[key]:.2f}" for key in columns)
        table.add_row(f"{row['share']:g}", row["load"], *figures, str(row["statuses"]))
    console = Console(width=150)
    console.print(table)
    console.print(f"copies: {', '.join(f'{count} {result}' for result, count in shadow.items())}")


if __name__ == "__main__":
    main()
