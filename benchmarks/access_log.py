"""Measures the CPU time that the access log adds to a request, as text and as JSON.

Run as ``python -m benchmarks.access_log --out docs/results/access-log.json``. In turns it runs the way of
`benchmarks.fixtures.hot_path` and the writing of one line to a file, by the code that the server runs. CPU
time, in which the kernel's part of a write is, hardly depends on how busy a machine is, and the least of many
turns even less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fixtures.turns import turn_us
from cpuserve.measuring.results import write_result
from cpuserve.protocols.access_log import AccessLog
from cpuserve.protocols.call import Call

__all__ = ["main", "measure"]

_STYLES = ("text", "json")
_BODY_BYTES = 273  # of an answer with five classes


def measure(rounds: int) -> dict[str, Any]:
    """CPU microseconds that a line of the access log adds to one request.

    Args:
        rounds: turns of each kind.

    Returns:
        ``request_us`` (all of the hot path, without a log), ``text_us`` and ``json_us``, each the least of
        all turns, and ``text_share`` and ``json_share`` of the request.
    """
    from benchmarks.fixtures.hot_path import hot_path  # noqa: PLC0415  # OpenVINO comes with it

    found: dict[str, list[float]] = {"request_us": [], **{f"{style}_us": [] for style in _STYLES}}
    with tempfile.TemporaryDirectory() as folder, hot_path() as serve:
        logs = {style: AccessLog(str(Path(folder) / style), style) for style in _STYLES}
        for _ in range(rounds):
            found["request_us"].append(turn_us(serve))
            for style, log in logs.items():
                found[f"{style}_us"].append(turn_us(partial(_write, log)))
    least = {name: round(min(turns), 3) for name, turns in found.items()}
    shares = {f"{style}_share": round(least[f"{style}_us"] / least["request_us"], 4) for style in _STYLES}
    return {"rounds": rounds, **least, **shares}


def _write(log: AccessLog) -> None:
    call = Call("POST", "/predictions/digits", address="203.0.113.9")
    call.arrived_ns = time.perf_counter_ns()
    log.write(call, "/predictions/digits", 200, _BODY_BYTES)


def main() -> None:
    """Measure and print, or write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="few rounds, to try it")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = measure(3 if given.quick else given.rounds)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.access_log", *sys.argv[1:]], found)


if __name__ == "__main__":
    main()
