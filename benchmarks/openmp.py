"""Measures what OpenMP's variables do to a server, in OpenVINO alone and with a head in PyTorch.

Run as ``python -m benchmarks.openmp [--libiomp5 FILE] [--out FILE]``. It needs PyTorch, whose wheel
brings libgomp; libiomp5 is in the package ``intel-openmp`` and is loaded ahead of PyTorch by LD_PRELOAD.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.fixtures.stem_network import CUT, WHOLE, publish
from benchmarks.openmp_effects import AGAIN, Case, Look, Seen, judge
from cpuserve.errors import CpuserveError
from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.launch import find_library, library_folders
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.process import Process
from cpuserve.measuring.load_window import Load, Target, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.results import write_result
from cpuserve.measuring.target import ask_once, target_at

__all__ = ["VARIABLES", "cases", "loads", "main", "measure", "server_kinds"]

VARIABLES = (
    ("OMP_NUM_THREADS", "1"),
    ("KMP_BLOCKTIME", "0"),
    ("KMP_BLOCKTIME", "infinite"),
    ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
)
_QUIET_CORES = 0.15
_OURS = ("OMP_", "KMP_", "GOMP_", "LD_PRELOAD")


@dataclass(frozen=True)
class ServerKind:
    """A kind of server process, by the OpenMP runtime it has.

    Attributes:
        name: for people.
        model: what it serves.
        preload: a library loaded ahead of it; empty for none.
    """

    name: str
    model: str
    preload: str = ""


def server_kinds(libiomp5: Path | None) -> list[ServerKind]:
    """The kinds of process; the last one only where the library is."""
    found = [ServerKind("OpenVINO", WHOLE), ServerKind("PyTorch head, libgomp", CUT)]
    return found + ([ServerKind("PyTorch head, libiomp5", CUT, str(libiomp5))] if libiomp5 else [])


def cases(kind: ServerKind) -> list[Case]:
    """The environments a process is started with: none twice, which shows the noise, then each variable."""
    alone = [Case(kind.name), Case(kind.name, AGAIN)]
    return alone + [Case(kind.name, name, value) for name, value in VARIABLES]


def loads(cores: int) -> dict[str, Load]:
    """One request at a time; all cores busy; mostly idle, where waiting threads show what they burn."""
    return {"one client": Load(1), "a client a core": Load(cores), "5 requests/s": Load(rate=5)}


def measure(
    kind: ServerKind, case: Case, repository: Path, images: Sequence[Path], seconds: float, tries: int
) -> Look:
    """Start a server with one worker on all cores, load it, look at its worker, stop it.

    A window in which others used more than 0.15 cores is repeated; of those the quietest one counts.

    Args:
        kind: what is started.
        case: its environment.
        repository: where the models are.
        images: sent in turn.
        seconds: of a window.
        tries: windows of one load at most.

    Raises:
        CpuserveError: the server does not start, or does not answer 200.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    added = {case.name: case.value} if case.value else {}
    if kind.preload:
        added["LD_PRELOAD"] = kind.preload
    flags = {"model_repository": repository, "workers": 1, "allow_callables": True}
    cores = Budget.read().effective
    with local_server(kind.model, flags, None, {**clean, **added}) as local:
        target = target_at(local.url, kind.model, "predictions")
        ask_once(target, images[0])
        measure_window(target, images, Load(cores), seconds=seconds / 2)  # first requests start teams
        found: dict[str, Seen] = {}
        for name, load in loads(cores).items():
            windows = [_window(target, images, load, seconds)]
            while windows[-1].foreign_cores > _QUIET_CORES and len(windows) < tries:
                windows.append(_window(target, images, load, seconds))
            found[name] = min(windows, key=lambda window: window.foreign_cores)
        (worker,) = psutil.Process(local.pid).children()
        libraries, process = Libraries.read(worker.pid), Process.read(worker.pid)
    if libraries is None or process is None:
        raise CpuserveError(f"the worker (process {worker.pid}) ended, or may not be looked at")
    masks = Counter(format_cpulist(thread.allowed) for thread in process.threads)
    return Look(libraries.openmp, libraries.tbb, dict(masks), len(process.allowed), found)


def _measured_again(kind: ServerKind, case: Case, *given: Any) -> Look:
    """`measure`, once more where that fails: a machine that was held up meanwhile starves the start."""
    try:
        return measure(kind, case, *given)
    except CpuserveError:
        return measure(kind, case, *given)


def _window(target: Target, images: Sequence[Path], load: Load, seconds: float) -> Seen:
    window = measure_window(target, images, load, seconds=seconds)
    if window.errors or not window.latencies_ms:
        raise CpuserveError(f"the server answered {dict(window.statuses)}")
    figures = window.figures()
    return Seen(
        figures["images_per_s"],
        figures["p50_ms"],
        figures["cpu_ms"] or 0.0,
        figures["foreign_cores"],
    )


def main() -> None:
    """Measure all cases by turns, print and write the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libiomp5", type=Path, default=find_library("libiomp5", library_folders()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--tries", type=int, default=3, help="windows at most where others disturb")
    parser.add_argument("--images", type=Path, help="directory of pictures; without it one is made")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--judge", type=Path, help="judge what this result file holds; measure nothing")
    given = parser.parse_args()
    if given.judge:
        found = json.loads(given.judge.read_text())
        looks = {_case(one): [Look.from_document(look) for look in one["rounds"]] for one in found["cases"]}
        _show(looks)
        if given.out:
            judged = {"verdicts": [verdict.document() for verdict in judge(looks)]}
            write_result(given.out, [], found | judged)
        return
    if given.libiomp5 is None:
        sys.stderr.write("no libiomp5 (pip install intel-openmp, or --libiomp5 FILE): left out\n")
    kinds = server_kinds(given.libiomp5)
    looks = {}
    with (
        tempfile.TemporaryDirectory(prefix="cpuserve-openmp-") as folder,
        pictures(given.images) as sent,
        Progress(console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("servers", total=given.rounds * sum(len(cases(kind)) for kind in kinds))
        try:
            repository = publish(Path(folder), Budget.read().effective).root
            for number in range(given.rounds):
                turns = [(kind, case) for kind in kinds for case in cases(kind)]
                for kind, case in turns if number % 2 == 0 else reversed(turns):
                    look = _measured_again(kind, case, repository, sent.files, given.seconds, given.tries)
                    looks.setdefault(case, []).append(look)
                    bar.advance(task)
                if given.out:  # whole rounds are kept whatever happens to the next one
                    _write(given.out, looks, sent.name)
        except CpuserveError as error:
            raise SystemExit(f"cpuserve: error: {error}") from error
    _show(looks)


def _case(found: Mapping[str, Any]) -> Case:
    name, _, value = found["program_environment"].partition("=")
    return Case(found["process"], name, value)


def _show(looks: Mapping[Case, Sequence[Look]]) -> None:
    table = Table("process", "program_environment", "verdict", "why")
    for verdict in judge(looks):
        table.add_row(verdict.process, verdict.environment, verdict.words, verdict.why)
    Console(width=160).print(table)


def _write(out: Path, looks: Mapping[Case, Sequence[Look]], images: str) -> None:
    content: dict[str, Any] = {
        "network": "a small random one: three convolutions in the head, none in the core",
        "pictures": images,
        "rounds": min(len(found) for found in looks.values()),
        "layout": f"1 worker, {Budget.read().effective} cores, as many serving threads",
        "verdicts": [verdict.document() for verdict in judge(looks)],
        "cases": [
            {"process": case.process, "program_environment": case.environment}
            | {"rounds": [look.document() for look in found]}
            for case, found in looks.items()
        ],
    }
    write_result(out, ["python", "-m", "benchmarks.openmp", *sys.argv[1:]], content)


if __name__ == "__main__":
    main()
