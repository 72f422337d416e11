"""Provokes three bottlenecks, lets `cpuserve profile` name them, and measures what its advice gains.

Run as ``python -m benchmarks.findings [--out FILE]``. One serving thread that decodes large pictures, two
workers on one core, and a tail in plain Python: each is served as it is and as its finding says it should be.
Both servers are up and are loaded by turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cpuserve.authoring.cut import CutSource
from cpuserve.authoring.cutpoints import cutpoints
from cpuserve.errors import CpuserveError
from cpuserve.machine.server_status import ServerStatus
from cpuserve.measuring.load_window import Load, Target, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.results import write_result
from cpuserve.measuring.target import target_at
from cpuserve.models.repository import Repository
from cpuserve.serving.find_servers import find_servers
from cpuserve.serving.worker_table import READY, STATES

__all__ = ["CASES", "Case", "main", "prepared", "profiled", "share_a_core"]

_MODEL = "digits"
_TAIL = "benchmarks.fixtures.slow_softmax:softmax"
_LARGE, _SMALL = (3264, 2448), (160, 120)  # 8 megapixels, and next to nothing to decode
_WARM_S = 1.0
_READY_S = 60.0


@dataclass(frozen=True)
class Case:
    """A bottleneck and the settings that remove it.

    Attributes:
        rule: that must be among the findings of high severity.
        before: settings of the server that has it.
        after: settings of the server as the finding wants it.
        model: of the server that has it, and of the other.
        large: whether large pictures are sent.
        provoke: what is done to the first server once it runs, with the process of its arbiter.
    """

    rule: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    model: tuple[str, str] = (_MODEL, _MODEL)
    large: bool = True
    provoke: Callable[[int], None] = lambda _pid: None


def share_a_core(pid: int) -> None:
    """Have a server replace its workers, and confine the new ones to one CPU while they load.

    OpenVINO gives threads that compute the CPUs back that the process had when it was loaded: to confine
    workers later has no effect on them.

    Args:
        pid: of the arbiter; returns when all workers are new, ready and confined.

    Raises:
        CpuserveError: a worker does not become ready.
    """
    before = {worker.pid for worker in _roster(pid).workers}
    cpu = min(os.sched_getaffinity(min(before)))
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _READY_S
    while True:
        children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        for child in children - before:
            _confine(child, cpu)
        if len(children) == len(before) and not children & before:
            workers = _roster(pid).workers
            if all(worker.state == STATES[READY] and worker.pid in children for worker in workers):
                return
        if time.monotonic() > deadline:
            raise CpuserveError(f"the new workers of server {pid} are not ready after {_READY_S} s")
        time.sleep(0.005)


def _roster(pid: int) -> ServerStatus:
    return next(one for one in find_servers() if one.pid == pid)


def _confine(pid: int, cpu: int) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):  # it, or a thread of it, has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cpu})


CASES = {
    "one decoding thread": Case("decode-threads", {"workers": 1, "threads": 1}, {"workers": 1, "threads": 2}),
    "two workers on one core": Case("shared-core", {"workers": 2}, {"workers": 2}, provoke=share_a_core),
    "a tail in plain Python": Case(
        "python-tail",
        {"workers": 2, "allow_callables": True},
        {"workers": 2},
        model=("looping", "graph"),
        large=False,
    ),
}


def _cut_tails(repository: Repository, folder: Path, tails: Collection[str]) -> None:
    """Cut the last operation off a model, twice: ``looping`` runs it in plain Python, ``graph`` in OpenVINO.

    Args:
        repository: has the model.
        folder: a repository that both are published in, with a copy of the model.
        tails: which of the two.
    """
    whole = CutSource.find(_MODEL, repository)
    last = cutpoints(whole.model)[-2].name
    for name, tail in (("looping", _TAIL), ("graph", "ir")):
        if name not in tails:
            continue
        words = (
            "cut",
            _MODEL,
            "--name",
            name,
            "--output",
            last,
            "--tail",
            tail,
            "--quiet",
            "--allow-callables",
        )
        _cpuserve(*words, "--model-repository", str(folder))


def _write_picture(file: Path, sides: tuple[int, int]) -> None:
    """Write a JPEG (width, height) that costs about what a photo does to decode; the same on every call."""
    width, height = sides
    dice = np.random.default_rng(0)
    canvas = np.full((height, width, 3), 128, np.float32)
    for cells, strength in ((8, 90), (60, 40), (400, 20)):
        noise = dice.uniform(-1, 1, (cells * 3 // 4, cells, 3)).astype(np.float32)
        canvas += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    file.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def main() -> None:
    """Run the cases, print or write what was found and gained; exit with 1 when one was not named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"), help="has digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window, and of the profile")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--case", choices=CASES, action="append", help="only this one")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    with prepared(given.model_repository) as place:
        for name in given.case or CASES:
            rows.append({"case": name, **_measured(CASES[name], place, given)})
            _show(rows[-1:])
    if given.out:
        content = {"connections": given.connections, "seconds": given.seconds, "cases": rows}
        write_result(given.out, ["python", "-m", "benchmarks.findings", *sys.argv[1:]], content)
    sys.exit(0 if all(row["named"] for row in rows) else 1)


@contextmanager
def prepared(models: Path, tails: Collection[str] = ("looping", "graph")) -> Iterator[Path]:
    """A directory with ``models`` (digits, looping, graph), and a picture each in ``large`` and ``small``.

    Args:
        models: a repository that has digits.
        tails: which of the cut models are made.
    """
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as text:
        folder = Path(text)
        copy = folder / "models"
        copy.mkdir()
        shutil.copytree(models / _MODEL, copy / _MODEL)
        _cut_tails(Repository(copy), copy, tails)
        for name, sides in (("large", _LARGE), ("small", _SMALL)):
            (folder / name).mkdir()
            _write_picture(folder / name / "made.jpg", sides)
        yield folder


def _measured(case: Case, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    pictures = place / ("large" if case.large else "small")
    files = sorted(pictures.iterdir())
    repository = {"model_repository": place / "models"}
    load = Load(connections=given.connections)
    with (
        local_server(case.model[0], {**case.before, **repository}, None) as before,
        local_server(case.model[1], {**case.after, **repository}, None) as after,
    ):
        case.provoke(before.pid)
        targets = [
            target_at(local.url, model, "predictions")
            for local, model in zip((before, after), case.model, strict=True)
        ]
        for target in targets:
            measure_window(target, files, load, seconds=_WARM_S)
        told = profiled(before.pid, pictures, given.connections, given.seconds, place / "profile")
        rates = [_by_turns(targets, files, load, given.seconds, turn) for turn in range(given.rounds)]
    found = [one for one in told["findings"] if one["rule"] == case.rule]
    return {
        "named": bool(found) and found[0]["severity"] == "high",
        "rule": case.rule,
        "found": [one["rule"] for one in told["findings"]],
        "finding": found[0]["sentence"] if found else None,
        "place": told["findings"].index(found[0]) + 1 if found else None,
        "expected_factor": found[0]["expected_factor"] if found else None,
        "accounted_share": told["accounted_share"],
        "before": {name: str(value) for name, value in case.before.items()},
        "after": {name: str(value) for name, value in case.after.items()},
        "models": list(case.model),
        "before_per_s": _summary([one for one, _ in rates]),
        "after_per_s": _summary([two for _, two in rates]),
        "factor": _summary([two / one for one, two in rates]),
    }


def _by_turns(
    targets: Sequence[Target], files: Sequence[Path], load: Load, seconds: float, turn: int
) -> tuple[float, float]:
    """Requests a second of both servers, one after the other; the order changes from turn to turn."""
    order = (0, 1) if turn % 2 == 0 else (1, 0)
    found = {number: measure_window(targets[number], files, load, seconds=seconds) for number in order}
    for window in found.values():
        if window.errors:
            raise CpuserveError(f"requests were not answered 200: {dict(window.errors)}")
    return found[0].per_s, found[1].per_s


def profiled(pid: int, pictures: Path, connections: int, seconds: float, folder: Path) -> dict[str, Any]:
    """What ``cpuserve profile`` says of a server under load, as JSON.

    Args:
        pid: of the server's arbiter.
        pictures: directory of what is sent.
        connections: clients.
        seconds: to watch for, at least 1.
        folder: of the profile.

    Raises:
        CpuserveError: it cannot be profiled.
    """
    told = _cpuserve(
        *("profile", "--pid", str(pid), "--load", str(pictures), "--concurrency", str(connections)),
        *("--seconds", str(max(1.0, seconds)), "--no-layers", "--json", "--out", str(folder)),
    )
    document: dict[str, Any] = json.loads(told)
    return document


def _cpuserve(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CpuserveError(f"cpuserve {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("case", "named", "expected", "measured", "before 1/s", "after 1/s")
    for row in rows:
        factor = row["factor"]
        table.add_row(
            row["case"],
            f"{row['rule']}, finding {row['place']}" if row["named"] else "no",
            f"{row['expected_factor']:.2f}x" if row["expected_factor"] else "",
            f"{factor['median']:.2f}x ({factor['least']:.2f} to {factor['most']:.2f})",
            f"{row['before_per_s']['median']:.0f}",
            f"{row['after_per_s']['median']:.0f}",
        )
    console = Console()
    console.print(table)
    for row in rows:
        console.print(row["finding"] or "not found", highlight=False, markup=False)


if __name__ == "__main__":
    main()
