"""Breaks `cpuserve batch` on a Ray cluster of three nodes, and Ray Data with checkpoints beside it.

Run as ``python -m benchmarks.ray_batch [--quick] [--out FILE]``. While a job runs over a folder of pictures
and videos a worker is killed, a node is removed, and the job itself is killed and started again. The rows are
compared with those of a run on this machine without faults. The three nodes share one machine, so that times
say nothing about three machines.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.ray_archive import files_of, make_archive, row_counts, wanted_rows
from cpuserve.errors import CpuserveError
from cpuserve.measuring.results import write_result

__all__ = ["faulted_and_undisturbed", "main", "nodes"]

_NODES = 3
_LOOK_S = 0.05
_LONGEST_S = 1800.0
_SEAT = "cpuserve.video.seat_process"


def main() -> None:
    """Run both with faults, and print or write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="digits", help="NAME in the repository")
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--frames", type=int, default=750, help="of each video")
    parser.add_argument("--quick", action="store_true", help="400 pictures and two videos of 300 frames")
    parser.add_argument("--without-ray-data", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sizes = (400, 2, 300) if given.quick else (given.pictures, given.videos, given.frames)
    with tempfile.TemporaryDirectory(prefix="ray-batch-") as folder:
        found: dict[str, Any] = {"pictures": sizes[0], "videos": sizes[1], "frames_of_each": sizes[2]}
        names = ("pictures", "videos", "frames")
        job = {"model": given.model, "repository": given.model_repository}
        found["cpuserve_batch"] = faulted_and_undisturbed(
            Path(folder), **dict(zip(names, sizes, strict=True)), **job
        )
        if not given.without_ray_data:
            from benchmarks.ray_data_job import faulted_ray_data  # noqa: PLC0415  # needs ray[data]

            pictures = Path(folder) / "archive"
            found["ray_data_checkpoint"] = faulted_ray_data(Path(folder), pictures, given.model, nodes)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.ray_batch", *sys.argv[1:]], found)
    ours = found["cpuserve_batch"]
    if ours["missing"] or ours["twice"] or not ours["equal_to_the_run_without_faults"]:
        sys.exit(1)


def faulted_and_undisturbed(
    folder: Path,
    *,
    pictures: int,
    videos: int,
    frames: int,
    model: str = "digits",
    repository: Path = Path("ir_models"),
) -> dict[str, Any]:
    """Run a job without faults on this machine, and with faults on Ray.

    Args:
        folder: to work in.
        pictures: of the archive.
        videos: of the archive.
        frames: of each video.
        model: in the repository.
        repository: the directory of models.

    Returns:
        What the rows are like, and how long both took.
    """
    archive = make_archive(folder / "archive", pictures, videos, frames)
    words = [str(archive), "--model", model, "--model-repository", str(repository.resolve())]
    words += ["--precision", "f32", "--shard-rows", "500", "--json", "--quiet"]
    undisturbed = _done(_started([*words, "-o", str(folder / "undisturbed")]))
    wanted = wanted_rows(archive, frames)
    output = folder / "faulted"
    with nodes() as cluster:
        command = [*words, "-o", str(output), "--ray", cluster.address]
        began = time.monotonic()
        process = _started(command)
        faults = _break(cluster, process, output, len(wanted))
        process.wait()
        again = _done(_started(command))
        seconds = time.monotonic() - began
    counts = row_counts(output)
    return {
        "faults": faults,
        "rows_wanted": len(wanted),
        "rows": counts.total(),
        "missing": len(wanted - {*counts}),
        "twice": sum(count > 1 for count in counts.values()),
        "unknown": len({*counts} - wanted),
        "error_rows": again["errors"],
        "rows_kept_over_the_kill_of_the_job": again["rows_before"],
        "equal_to_the_run_without_faults": files_of(output) == files_of(folder / "undisturbed"),
        "seconds_without_faults_on_this_machine": undisturbed["seconds"],
        "seconds_with_faults_on_ray": round(seconds, 1),
    }


@contextmanager
def nodes() -> Iterator[Any]:
    """A Ray cluster of three nodes on this machine, two CPUs each by Ray's count."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  # an extra

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        for _ in range(_NODES - 1):
            cluster.add_node(num_cpus=2)
        yield cluster
    finally:
        cluster.shutdown()


def _break(cluster: Any, process: subprocess.Popen[bytes], output: Path, rows: int) -> list[str]:
    """Kill a worker after a fifth of the rows, remove a node after two fifths, kill the job after three."""
    told = []
    _wait(lambda: _written(output) >= rows / 5, process)
    worker = next(one for one in psutil.process_iter(["cmdline"]) if _SEAT in (one.info["cmdline"] or ()))
    worker.kill()
    told.append(f"a worker killed after {_written(output)} rows")
    _wait(lambda: _written(output) >= 2 * rows / 5, process)
    lost = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    cluster.remove_node(lost, allow_graceful=False)
    told.append(f"a node removed after {_written(output)} rows")
    _wait(lambda: _written(output) >= 3 * rows / 5, process)
    process.send_signal(signal.SIGKILL)
    told.append(f"the job killed after {_written(output)} rows and started again")
    return told


def _written(output: Path) -> int:
    """Rows on the disk; for a moment a shard and its journal both are there."""
    rows: dict[str, int] = {}
    for path in [*output.glob(".unfinished/*.rows"), *output.glob("shard-*")]:
        with suppress(FileNotFoundError):  # a journal became a shard meanwhile
            lines = path.read_bytes().splitlines()
            rows[path.stem] = max(rows.get(path.stem, 0), sum(b'"index":null' not in one for one in lines))
    return sum(rows.values())


def _wait(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    due = time.monotonic() + _LONGEST_S
    while not reached():
        if process.poll() is not None or time.monotonic() > due:
            said = process.communicate()[1].decode(errors="replace")
            raise CpuserveError(f"the job ended before all its faults: {said}")
        time.sleep(_LOOK_S)


def _started(words: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cpuserve", "batch", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _done(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    said, errors = process.communicate(timeout=_LONGEST_S)
    if process.returncode:
        raise CpuserveError(f"the job ended with {process.returncode}: {errors.decode(errors='replace')}")
    summary: dict[str, Any] = json.loads(said)
    return summary


if __name__ == "__main__":
    main()
