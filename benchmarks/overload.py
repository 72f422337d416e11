"""Measures what a server still answers in time when three times its capacity arrives.

Run as ``python -m benchmarks.overload --image FILE [--model NAME] [--model-repository DIR]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.measuring.local_server import started_server
from cpuserve.measuring.results import write_result

__all__ = ["main"]


def main() -> None:
    """Measure capacity and overload in turn, several rounds over, and print or write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--image", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--times", type=float, default=3.0, help="offered rate over capacity")
    parser.add_argument("--timeout-ms", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with started_server("--model-repository", str(given.model_repository)) as local:
        rounds = [_round(given, local.port) for _ in range(given.rounds)]
    medians = {key: statistics.median(row[key] for row in rounds) for key in rounds[0] if key != "statuses"}
    table = Table("", "median", *(f"round {number + 1}" for number in range(given.rounds)))
    for key, value in medians.items():
        table.add_row(key, f"{value:.3f}", *(f"{row[key]:.3f}" for row in rounds))
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.overload", *sys.argv[1:]]
        write_result(given.out, words, {"medians": medians, "rounds": rounds})


def _round(given: argparse.Namespace, port: int) -> dict[str, Any]:
    closed = _load(given, port, "--connections", "16")
    capacity = closed["requests"] / closed["seconds"]
    rate = given.times * capacity
    opened = _load(given, port, "--rate", str(rate), "--timeout-ms", str(given.timeout_ms))
    latencies = opened["latencies_ms"]
    return {
        "capacity_per_s": capacity,
        "offered_per_s": opened["offered_per_s"],
        "goodput_per_s": opened["in_time"] / opened["seconds"],
        "goodput_share": opened["in_time"] / opened["seconds"] / capacity,
        "accepted_p50_ms": latencies[len(latencies) // 2],
        "accepted_p99_ms": latencies[len(latencies) * 99 // 100],
        "client_cores": opened["client_cpu_s"] / opened["seconds"],
        "statuses": opened["statuses"],
    }


def _load(given: argparse.Namespace, port: int, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cpuserve.measuring.http_load", str(port), f"/predictions/{given.model}"]
    command += [str(given.image), "--seconds", str(given.seconds), *words]
    done = subprocess.run(command, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
