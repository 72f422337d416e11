"""Is the tail short? Whoever waits beside 31 others against their median; 70 % load against the service time.

Run as ``python -m cpuserve.bench.tails --model-repository DIR --model NAME --images DIR [--out FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.bench.local import serving
from cpuserve.bench.measure import Load, Target, Window, measure_window
from cpuserve.bench.pictures import pictures
from cpuserve.bench.results import write_result
from cpuserve.bench.target import target_at
from cpuserve.bench.windows import spread
from cpuserve.errors import CpuserveError

__all__ = ["main"]

_WARM_S = 1.0


def main() -> None:
    """Measure a server that it starts, several rounds over, and print or write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, help="directory; without it a picture is made")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--load", type=float, default=0.7, help="of what 16 clients get, in the open loop")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    flags = {"model_repository": given.model_repository}
    with pictures(given.images) as sent, serving(given.model, flags, None) as local:
        target = target_at(local.url, given.model, "predictions")
        measure_window(target, sent.files, Load(connections=8), seconds=min(_WARM_S, given.seconds))
        rounds = [_round(target, sent.files, given, number) for number in range(given.rounds)]
    medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "errors"}
    table = Table("", "median", *(f"round {number + 1}" for number in range(given.rounds)))
    for key, value in medians.items():
        table.add_row(key, f"{value:.3f}", *(f"{one[key]:.3f}" for one in rounds))
    Console().print(table)
    if given.out:
        words = ["python", "-m", "cpuserve.bench.tails", *sys.argv[1:]]
        noise = spread([one["p99_to_p50"] for one in rounds])
        content = {"pictures": sent.name, "medians": medians, "noise": noise, "rounds": rounds}
        write_result(given.out, words, content)


def _round(target: Target, files: Sequence[Path], given: argparse.Namespace, seed: int) -> dict[str, Any]:
    alone = measure_window(target, files, Load(connections=1), seconds=given.seconds)
    most = measure_window(target, files, Load(connections=16), seconds=given.seconds)
    many = measure_window(target, files, Load(connections=given.connections), seconds=given.seconds)
    rate = given.load * most.per_s
    opened = measure_window(target, files, Load(rate=rate), seconds=given.seconds, seed=seed)
    windows = (alone, most, many, opened)
    if not all(window.latencies_ms for window in windows):
        raise CpuserveError(f"a window without an answer: {Window.sum(windows).errors}; take more --seconds")
    first, crowd, arrivals = alone.figures(), many.figures(), opened.figures()
    return {
        "service_ms": first["p50_ms"],
        "capacity_per_s": most.per_s,
        "clients": given.connections,
        "p50_ms": crowd["p50_ms"],
        "p99_ms": crowd["p99_ms"],
        "p99_to_p50": crowd["p99_ms"] / crowd["p50_ms"],
        "rate_per_s": rate,
        "rate_p99_ms": arrivals["p99_ms"],
        "rate_p99_to_service": arrivals["p99_ms"] / first["p50_ms"],
        "foreign_cores": max(one["foreign_cores"] for one in (first, crowd, arrivals)),
        "errors": Window.sum(windows).errors,
    }


if __name__ == "__main__":
    main()
