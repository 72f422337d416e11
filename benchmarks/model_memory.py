"""Measures what copying weights and loading first in a child process cost in memory and start time.

Run as ``python -m benchmarks.model_memory [--networks NAME...] [--rounds N] [--out FILE]``. The variants
are started by turns; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.results import write_result

__all__ = ["main"]

_MIB = 1 << 20
_VARIANTS = {
    "copied, tried in a child": {"enable_mmap": False, "check_models_in_child": True},
    "copied": {"enable_mmap": False, "check_models_in_child": False},
    "mapped": {"enable_mmap": True, "check_models_in_child": False},
}


def main() -> None:
    """Start every variant with one and two workers, and print or write what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["mobilenet", "resnet50"], metavar="NAME")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder:
        for network in given.networks:
            _write(network, Path(folder) / network / "1")
            for workers in given.workers:
                rows += _rows(network, workers, Path(folder), given.rounds)
    table = Table("network", "workers", "variant", "start s", "RSS MiB", "PSS MiB", "peak MiB")
    for row in rows:
        figures = (f"{row[key]:.2f}" for key in ("start_s", "rss_mib", "pss_mib", "peak_mib"))
        table.add_row(str(row["network"]), str(row["workers"]), str(row["variant"]), *figures)
    Console().print(table)
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.model_memory", *sys.argv[1:]], {"rows": rows})


def _write(network: str, folder: Path) -> None:
    import openvino as ov  # noqa: PLC0415  # it takes a second

    from cpuserve.authoring.zoo.networks import build_network  # noqa: PLC0415

    folder.mkdir(parents=True)
    ov.save_model(build_network(network), folder / "model.xml", compress_to_fp16=False)


def _rows(network: str, workers: int, repository: Path, rounds: int) -> list[dict[str, object]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _VARIANTS}
    for _ in range(rounds):
        for name, flags in _VARIANTS.items():
            found[name].append(_started(network, workers, repository, flags))
    return [
        {"network": network, "workers": workers, "variant": name}
        | {key: statistics.median(one[key] for one in all_of_it) for key in all_of_it[0]}
        for name, all_of_it in found.items()
    ]


def _started(network: str, workers: int, repository: Path, flags: dict[str, bool]) -> dict[str, float]:
    """Seconds until all workers are ready, and what they hold together; the peak is their sum too."""
    began = time.perf_counter()
    seats = {"model_repository": str(repository), "workers": workers, "cores_per_worker": 1}
    with local_server(network, {**seats, **flags}, None) as local:
        took = time.perf_counter() - began
        processes = psutil.Process(local.pid).children()
        memory = [process.memory_full_info() for process in processes]
        return {
            "start_s": took,
            "rss_mib": sum(one.rss for one in memory) / _MIB,
            "pss_mib": sum(one.pss for one in memory) / _MIB,
            "peak_mib": sum(_peak(process.pid) for process in processes) / _MIB,
        }


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
