"""Measures with `cpuserve profile` where the CPU time of a server goes, by size of the pictures.

Run as ``python -m benchmarks.shares --model-repository DIR --model NAME --images DIR... [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.errors import CpuserveError
from cpuserve.measuring.results import write_result

__all__ = ["main"]

_PARTS = ("inference", "decode", "python", "kernel", "other")


def main() -> None:
    """Profile a server a directory of pictures, and print or write the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="directories")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = {images.name: _shares(images, given) for images in given.images}
    table = Table("pictures", "CPU-ms a request", *_PARTS)
    for name, row in rows.items():
        table.add_row(name, f"{row['cpu_ms']:.2f}", *(f"{row['shares'][part]:.1%}" for part in _PARTS))
    Console().print(table)
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.shares", *sys.argv[1:]], {"rows": rows})


def _shares(images: Path, given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder:
        words = [sys.executable, "-m", "cpuserve", "profile", given.model, "--load", str(images)]
        words += ["--seconds", str(given.seconds), "--out", folder, "--json", "--no-layers"]
        words += ["--model-repository", str(given.model_repository)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CpuserveError(f"{' '.join(words[2:5])}: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    cpu, requests = found["cpu"], found["latency"]["requests"]
    return {
        "pictures": found["load"]["sent"],
        "requests": requests,
        "cpu_ms": 1000 * cpu["total"] / requests,
        "shares": {part: cpu[part] / cpu["total"] for part in _PARTS},
        "stages_ms": {stage["name"]: stage["mean_ms"] for stage in found["latency"]["stages"]},
        "accounted_share": found["accounted_share"],
        "noise": found["overhead"]["noise"],
        "foreign_cores": found["load"]["foreign_cores"],
    }


if __name__ == "__main__":
    main()
