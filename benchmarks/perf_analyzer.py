"""Runs Triton's perf_analyzer against a running server and keeps its figures as a result file."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpuserve.measuring.results import write_result

__all__ = ["main", "read_levels"]

_LEVEL = re.compile(r"^Concurrency: (\d+), throughput: ([\d.]+) infer/sec, latency (\d+) usec$", re.MULTILINE)
_OUT = Path("docs/results/perf-analyzer.json")


def read_levels(printed: str) -> list[dict[str, Any]]:
    """The summary of a run: concurrency, infer_per_s and mean latency_ms of each level.

    Args:
        printed: all of its standard output.

    Raises:
        ValueError: it has no summary, as after a run that was not stable or was refused.
    """
    if "Failed to obtain stable measurement" in printed:
        raise ValueError("perf_analyzer found no stable window: repeat it on a quiet machine")
    levels = [
        {"concurrency": int(clients), "infer_per_s": float(rate), "latency_ms": int(latency) / 1000}
        for clients, rate, latency in _LEVEL.findall(printed)
    ]
    if not levels:
        raise ValueError("perf_analyzer printed no summary")
    return levels


def main(words: Sequence[str] | None = None) -> None:
    """Run it, or read what a run printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf_analyzer", description=__doc__)
    parser.add_argument("-m", dest="model", required=True, help="the model, which takes --shape")
    parser.add_argument("-i", dest="protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("-u", dest="url", default="127.0.0.1:8000", help="HOST:PORT of the server")
    parser.add_argument("--shape", required=True, help="NAME:SIZES of the input without the batch")
    parser.add_argument("--concurrency-range", default="1:8:1")
    parser.add_argument("--binary", default="perf_analyzer", help="where perf_analyzer is")
    parser.add_argument("--printed", type=Path, help="what such a run printed, instead of running it now")
    parser.add_argument("--out", type=Path, default=_OUT)
    given = parser.parse_args(words)
    command = [
        *(given.binary, "-m", given.model, "-i", given.protocol, "-u", given.url),
        *("--shape", given.shape, "--concurrency-range", given.concurrency_range),
    ]
    if given.printed is None:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        sys.stderr.write(run.stderr)
        printed = run.stdout
    else:
        printed = given.printed.read_text()
    write_result(given.out, command, {"levels": read_levels(printed)})


if __name__ == "__main__":
    main()
