"""Checks the planner of replicas against real ones, and that a killed one loses no frame.

Run as ``python -m benchmarks.video_replicas --model MODEL --clip FILE [--out FILE]`` with two CPUs free. Each
replica is a `cpuserve serve` with one CPU of its own; the client decodes, scales and sends on all CPUs, as
`cpuserve video` does. A short run at the same places gives CPU time of client and replicas a frame, from
which the simulation predicts the long runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import busy_s, ours_s, tree_cpu_s
from cpuserve.measuring.local_server import LocalServer, started_server
from cpuserve.measuring.results import write_result
from cpuserve.serving.decode import Pixels
from cpuserve.settings import load
from cpuserve.video.decoding import frames
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.replica_plan import formula_s
from cpuserve.video.replicas import Replicas
from cpuserve.video.scale import Scale
from cpuserve.video.simulation import Fleet, FrameTimes, simulate

__all__ = ["main"]

_PRECISION = "f32"
_TARGET = 0.15
_IN_FLIGHT = 4
_SCALED = tuple[Pixels, int, int]


def main() -> None:
    """Predict and time one and two replicas, kill one of two, and print or write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="NAME in the repository")
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--clip", type=Path, required=True, help="a video; it is repeated if it is too short")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = _measure(given.model, given.model_repository, given.clip, given.frames, given.rounds)
    _show(found)
    if given.out:
        write_result(given.out, ["python", "-m", "benchmarks.video_replicas", *sys.argv[1:]], found)
    if found["killed"]["lost"] or found["killed"]["different"]:
        sys.exit(1)


def _measure(model: str, repository: Path, clip: Path, count: int, rounds: int) -> dict[str, Any]:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        raise CpuserveError("two replicas need two CPUs; this process may use one")
    wanted = _local_answers(model, repository, clip, count)
    rows = []
    for replicas in (1, 2):
        with _servers(model, repository, cpus[:replicas]) as servers:
            short = _timed(model, servers, clip, max(8, count // 4))
            runs = [_timed(model, servers, clip, count) for _ in range(rounds)]
        rows.append(_row(replicas, short, runs, count))
        if any(run["answers"] != wanted for run in runs):
            raise CpuserveError(f"{replicas} replicas answer otherwise than the model on this machine")
    with _servers(model, repository, cpus) as servers:
        killed = _timed(model, servers, clip, count, {count // 3: lambda: _kill(servers[1])})
    return {
        "model": model,
        "precision": _PRECISION,
        "clip": clip.name,
        "frames": count,
        "rounds": rounds,
        "cpus": len(os.sched_getaffinity(0)),
        "in_flight": _IN_FLIGHT,
        "target": _TARGET,
        "runs": rows,
        "killed": _killed(killed, wanted),
    }


def _row(replicas: int, short: dict[str, Any], runs: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    """What was predicted for so many replicas from the short run, beside what the long ones took."""
    times = FrameTimes(short["client_s"], [short["service_s"]])
    # with one replica the client has the other CPU
    fleet = Fleet(replicas, in_flight=_IN_FLIGHT, window=2 * replicas * _IN_FLIGHT, shares_cores=replicas > 1)
    predicted = simulate(count, times, fleet).makespan_s
    measured = statistics.median(run["seconds"] for run in runs)
    return {
        "replicas": replicas,
        "client_ms": 1000 * short["client_s"],
        "service_ms": 1000 * short["service_s"],
        "predicted_s": predicted,
        "formula_s": formula_s(count, replicas, times),
        "measured_s": measured,
        "seconds": [run["seconds"] for run in runs],
        "foreign_cores": [run["foreign_cores"] for run in runs],
        "error": predicted / measured - 1,
    }


def _killed(run: dict[str, Any], wanted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    answers = run["answers"]
    survivor, dead = run["report"]["replicas"]
    return {
        "frames": len(wanted),
        "lost": len(wanted) - len(answers),
        "different": sum(one != other for one, other in zip(answers, wanted, strict=False)),
        "by_the_survivor": survivor["frames"],
        "by_the_killed_one": dead["frames"],
        "failed_requests": dead["failures"],
        "reason": dead["reason"],
    }


def _clip(clip: Path, scale: Scale, count: int) -> Iterator[_SCALED]:
    """So many scaled frames, with the size of the whole ones."""
    files = chain.from_iterable(frames(file) for file in repeat(clip))
    for frame in islice(files, count):
        yield frame.scaled(scale), frame.width, frame.height


def _local_answers(model: str, repository: Path, clip: Path, count: int) -> list[dict[str, Any]]:
    settings = load({"model_repository": str(repository), "precision": _PRECISION})
    with open_frame_model(model, settings, threads=1) as opened:
        return [opened.answer(*one) for one in _clip(clip, opened.scale, count)]


@contextmanager
def _servers(model: str, repository: Path, cpus: Sequence[int]) -> Iterator[list[LocalServer]]:
    """A server on each CPU."""
    words = [model, "--model-repository", str(repository), "--precision", _PRECISION, "--workers", "1"]
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        servers = []
        for cpu in cpus:
            os.sched_setaffinity(0, {cpu})  # what is started inherits it
            try:
                servers.append(stack.enter_context(started_server(*words, "--preset", "off")))
            finally:
                os.sched_setaffinity(0, allowed)
        yield servers


def _timed(
    model: str,
    servers: Sequence[LocalServer],
    clip: Path,
    count: int,
    after: Mapping[int, Callable[[], None]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Have frames answered, and say what it took: seconds in all, CPU seconds a frame.

    Args:
        model: its name.
        servers: that have it.
        clip: whose frames are sent.
        count: of the frames.
        after: what is done once so many frames are answered.
    """
    urls = [server.url for server in servers]
    with Replicas(urls, model, payload="raw", in_flight=_IN_FLIGHT, wait_s=30) as replicas:
        served_s = _cpu_s(servers)
        began, cpu_s, machine_s, own_s = time.perf_counter(), time.process_time(), busy_s(), ours_s()
        answers: list[dict[str, Any]] = []
        waiting: deque[Future[dict[str, Any]]] = deque()
        for one in _clip(clip, replicas.scale, count):
            waiting.append(replicas.submit(*one))
            while len(waiting) >= replicas.in_flight:
                answers.append(waiting.popleft().result())
                after.get(len(answers), _nothing)()
        answers += [one.result() for one in waiting]
        seconds, client_s = time.perf_counter() - began, time.process_time() - cpu_s
        service_s = _cpu_s(servers) - served_s
        foreign_s = busy_s() - machine_s - (ours_s() - own_s) - service_s
        return {
            "answers": answers,
            "seconds": seconds,
            "client_s": client_s / count,
            "service_s": service_s / count,
            "foreign_cores": max(0.0, foreign_s / seconds),
            "report": replicas.report(),
        }


def _nothing() -> None:
    """What is done after most answers."""


def _cpu_s(servers: Sequence[LocalServer]) -> float:
    """CPU seconds of those that live."""
    return sum(tree_cpu_s(server.pid) for server in servers if _lives(server.pid))


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(server: LocalServer) -> None:
    """End a server as a lack of memory or of power would: at once, with all its workers."""
    arbiter = psutil.Process(server.pid)
    for process in [arbiter, *arbiter.children(recursive=True)]:
        process.kill()


def _show(found: dict[str, Any]) -> None:
    console = Console(width=120)
    table = Table("replicas", "client", "replica", "simulated", "formula", "measured", "error", box=None)
    for row in found["runs"]:
        table.add_row(
            *(str(row["replicas"]), f"{row['client_ms']:.2f} ms", f"{row['service_ms']:.2f} ms"),
            *(f"{row['predicted_s']:.2f} s", f"{row['formula_s']:.2f} s", f"{row['measured_s']:.2f} s"),
            f"{100 * row['error']:+.1f} %",
        )
    console.print(table)
    killed = found["killed"]
    console.print(
        f"one of two killed: {killed['lost']} of {killed['frames']} frames lost, {killed['different']} with "
        f"another answer; {killed['by_the_killed_one']} were answered by the killed one before"
    )


if __name__ == "__main__":
    main()
