"""Measures the CPU time that tracing adds to a request, switched off and on.

Run as ``python -m benchmarks.tracing --out docs/results/tracing.json``. In turns it runs the way of
`benchmarks.fixtures.hot_path`, the look of a tracer that is off, and the work of one that traces every
request. CPU time hardly depends on how busy a machine is, and the least of many turns even less.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.fixtures.turns import turn_us
from cpuserve.measuring.results import write_result
from cpuserve.protocols.call import Call
from cpuserve.protocols.tracing import Tracer
from cpuserve.serving.trace_ring import TraceRing

__all__ = ["main", "measure"]


def measure(rounds: int) -> dict[str, Any]:
    """CPU microseconds that tracing adds to one request.

    Args:
        rounds: turns of 200 requests, of each kind.

    Returns:
        ``request_us`` (all of the hot path, untraced), ``off_us`` (the tracer's look when it is off) and
        ``on_us`` (spans taken and kept); each the least of all turns.
    """
    from benchmarks.fixtures.hot_path import hot_path  # noqa: PLC0415  # OpenVINO comes with it

    trace_ring = TraceRing(rows=1)
    tracer = Tracer(trace_ring, trace_ring.row(0))
    call = Call("POST", "/predictions/fake")
    arrived = time.perf_counter_ns()

    def look() -> None:
        tracer.wants(call)

    def trace() -> None:
        if tracer.wants(call):
            spans = tracer.begin(call, arrived)
            for stage in ("queue", "decode", "decode", "queue", "infer", "queue", "post"):
                spans.end_counted(stage, time.perf_counter_ns())
            tracer.end(call, spans, 200)

    found: dict[str, list[float]] = {"request_us": [], "off_us": [], "on_us": []}
    with hot_path() as serve:
        for _ in range(rounds):
            found["request_us"].append(turn_us(serve))
            found["off_us"].append(turn_us(look))
            trace_ring.tracing = True
            found["on_us"].append(turn_us(trace))
            trace_ring.tracing = False
    return {name: round(min(turns), 3) for name, turns in found.items()}


def main() -> None:
    """Measure and print, or write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {"rounds": given.rounds, **measure(given.rounds)}
    found["off_share"] = round(found["off_us"] / found["request_us"], 5)
    found["on_share"] = round(found["on_us"] / found["request_us"], 5)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.tracing", *sys.argv[1:]], found)


if __name__ == "__main__":
    main()
