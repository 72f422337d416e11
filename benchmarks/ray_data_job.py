"""Answers the pictures of `benchmarks.ray_batch` by Ray Data with checkpoints, under the same faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from cpuserve.errors import CpuserveError

__all__ = ["Answers", "faulted_ray_data", "main"]

_LONGEST_S = 300.0


class Answers:
    """What Ray Data runs in its actors: a loaded model, which answers rows of paths and bytes.

    A picture that cannot be answered is a row with its error, as in `cpuserve batch`; without that one such
    picture ends the job.

    Args:
        model: in the repository.
    """

    def __init__(self, model: str) -> None:
        from cpuserve.local_model import load  # noqa: PLC0415  # in the actor alone

        self._model = load(model, model_repository="ir_models", precision="f32")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The paths of a batch with their answers as JSON."""
        answers = []
        for content in batch["bytes"]:
            try:
                answers.append(json.dumps(self._model.predict(bytes(content))))
            except CpuserveError as error:
                answers.append(json.dumps({"error": str(error)}))
        return {"path": batch["path"], "answer": answers}


def main() -> None:
    """Run one job: ADDRESS PICTURES OUTPUT CHECKPOINT MODEL."""
    address, pictures, output, checkpoint, model = sys.argv[1:]
    import ray  # noqa: PLC0415  # an extra
    from ray.data.checkpoint import CheckpointConfig  # noqa: PLC0415

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="path", checkpoint_path=checkpoint, delete_checkpoint_on_success=False
    )
    files = sorted(map(str, Path(pictures).glob("*.jpg")))
    rows = ray.data.read_binary_files(files, include_paths=True, override_num_blocks=max(1, len(files) // 64))
    compute = ray.data.ActorPoolStrategy(min_size=1, max_size=3)
    made = rows.map_batches(
        Answers, fn_constructor_args=(model,), batch_size=32, num_cpus=0.5, compute=compute
    )
    made.write_parquet(output)


def faulted_ray_data(
    folder: Path, pictures: Path, model: str, nodes: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    """Run the job without faults; then with a killed worker, a removed node and a killed driver, and again.

    Args:
        folder: to work in.
        pictures: a folder with them.
        model: in the repository.
        nodes: the cluster.

    Returns:
        What the rows are like, and how long it took.
    """
    undisturbed, seconds_undisturbed = _undisturbed(folder, pictures, model, nodes)
    output, checkpoint = folder / "ray-data", folder / "checkpoint"
    checkpoint.mkdir()
    wanted = {str(path) for path in pictures.glob("*.jpg")}
    faults: list[str] = []
    with nodes() as cluster:
        words = [cluster.address, str(pictures), str(output), str(checkpoint), model]
        command = [sys.executable, "-m", "benchmarks.ray_data_job", *words]
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        breaks = [
            (0.2, "a worker killed", _kill_worker),
            (0.4, "a node removed", lambda: _remove_node(cluster)),
            (0.6, "the job killed and started again", lambda: process.send_signal(signal.SIGKILL)),
        ]
        for share, name, strike in breaks:
            if _reached(output, share * len(wanted), process):
                strike()
                faults.append(f"{name} after {_rows(output).total()} rows")
        process.kill()  # where it stood still before the last fault
        process.communicate()
        kept = _rows(output).total()
        code = _again(command)
        seconds = time.monotonic() - began
    counts = _rows(output)
    return {
        "what": "pictures alone: checkpoints allow read, map and write, not frames out of videos",
        "faults": faults,
        "end_of_the_second_run": code,
        "rows_wanted": len(wanted),
        "rows": counts.total(),
        "missing": len(wanted - {*counts}),
        "twice": sum(count > 1 for count in counts.values()),
        "rows_kept_over_the_kill_of_the_job": kept,
        "equal_to_the_run_without_faults": _answers(output) == undisturbed,
        "seconds_without_faults": round(seconds_undisturbed, 1),
        "seconds_with_faults": round(seconds, 1),
    }


def _undisturbed(
    folder: Path, pictures: Path, model: str, nodes: Callable[[], AbstractContextManager[Any]]
) -> tuple[dict[str, str], float]:
    """The answers of a run without faults, and how long it took, seconds."""
    output, checkpoint = folder / "ray-data-undisturbed", folder / "checkpoint-undisturbed"
    checkpoint.mkdir()
    with nodes() as cluster:
        words = [cluster.address, str(pictures), str(output), str(checkpoint), model]
        began = time.monotonic()
        ended = _again([sys.executable, "-m", "benchmarks.ray_data_job", *words])
        seconds = time.monotonic() - began
    if ended != "0":
        raise CpuserveError(f"Ray Data did not end without faults either: {ended}")
    return _answers(output), seconds


def _answers(output: Path) -> dict[str, str]:
    """The answer of each path; of one that is there twice the last."""
    from pyarrow import parquet  # noqa: PLC0415  # an extra

    found: dict[str, str] = {}
    for file in sorted(output.glob("*.parquet")):
        table = parquet.read_table(file, columns=["path", "answer"])
        found.update(zip(table["path"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return found


def _again(command: Sequence[str]) -> str:
    """How the job that is started again ends."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        return f"it did not end within {_LONGEST_S:g} s"
    said = ended.stderr.strip().splitlines() or [""]
    return "0" if ended.returncode == 0 else f"{ended.returncode}: {said[-1][:300]}"


def _reached(output: Path, rows: float, process: subprocess.Popen[bytes]) -> bool:
    """Wait for rows; False where the job ended before."""
    due = time.monotonic() + _LONGEST_S
    while _rows(output).total() < rows:
        if process.poll() is not None or time.monotonic() > due:
            return False
        time.sleep(0.2)
    return True


def _rows(output: Path) -> Counter[str]:
    """How often each path is in the files that are written whole."""
    from pyarrow import parquet  # noqa: PLC0415  # an extra

    counts: Counter[str] = Counter()
    for file in output.glob("*.parquet"):
        try:
            counts.update(parquet.read_table(file, columns=["path"])["path"].to_pylist())
        except OSError:  # it is being written
            continue
    return counts


def _kill_worker() -> None:
    """Kill the actor that answers: Ray names its process after the stage."""
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if title.startswith("ray::") and "MapBatches" in title and process.pid != os.getpid():
            process.kill()
            return


def _remove_node(cluster: Any) -> None:
    lost = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    cluster.remove_node(lost, allow_graceful=False)


if __name__ == "__main__":
    main()
