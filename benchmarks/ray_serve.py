"""Measures `cpuserve serve` beside Ray Serve: CPU a request, latencies, and what a killed replica loses.

Run as ``python -m benchmarks.ray_serve --model-repository DIR --model NAME --images FILE... --out FILE``, in
an environment with ``ray[serve]``. Ray Serve runs in its fast mode (HAProxy before the replicas, and what Ray
calls throughput optimized) and as it is without settings. All three answer the same pictures by the same
model with the same code (`benchmarks.fixtures.ray_serve_app`), one compute thread a replica; they take turns.
``--quick`` is to try it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.lasting_ports import ports_for_later
from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.measuring.load_window import Load, LoadWindow, Target, measure_window
from cpuserve.measuring.local_server import local_server
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread

__all__ = [
    "SIDES",
    "Killed",
    "Side",
    "cpu_by_kind",
    "killed_meanwhile",
    "kind_of",
    "main",
    "markdown",
    "spent",
]

_START_S = 120.0
_WARM_S = 2.0
_IDLE_S = 3.0
_QUICK_S = 2.0
_OURS = "cpuserve"


@dataclass(frozen=True)
class Side:
    """A way to serve.

    Attributes:
        name: in results.
        ray: environment of Ray's processes; None: it is `cpuserve serve`.
        replica: what the command line of a process that holds the model begins with.
    """

    name: str
    ray: Mapping[str, str] | None
    replica: str


SIDES = (
    Side(_OURS, None, ""),
    Side(
        "ray_serve_fast",
        {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
        "ray::ServeReplica",
    ),
    Side("ray_serve_default", {}, "ray::ServeReplica"),
)


@dataclass(frozen=True)
class Killed:
    """What clients saw while a replica was killed: the requests, and those without an answer by kind."""

    requests: int
    lost: Mapping[str, int]


def main() -> None:
    """Measure all sides, several rounds over, and print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--images", type=Path, nargs="+", default=[Path("docs/seven.png")])
    parser.add_argument("--replicas", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second of the steady load")
    parser.add_argument("--connections", type=int, default=8, help="of the load that keeps a server busy")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of a result, and end")
    given = parser.parse_args()
    if given.show:
        sys.stdout.write(markdown(json.loads(given.show.read_text())))
        return
    if given.quick:
        given.seconds, given.rounds = _QUICK_S, 1
    turns: dict[str, list[dict[str, Any]]] = {side.name: [] for side in SIDES}
    for number in range(given.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            with _running(side, given) as target:
                turns[side.name].append(_turn(side, target, given))
    rows = [_row(name, found) for name, found in turns.items()]
    answers = [turn["answers"] for found in turns.values() for turn in found]
    equal = all(one == answers[0] for one in answers)
    Console(width=150).print(_table(rows))
    if given.out:
        terms = {
            **{name: getattr(given, name) for name in ("model", "replicas", "rate", "connections")},
            **{name: getattr(given, name) for name in ("seconds", "rounds")},
            "images": [image.name for image in given.images],
            "ray": metadata.version("ray"),
            "answers_are_equal": equal,
        }
        write_result(
            given.out, ["python", "-m", "benchmarks.ray_serve", *sys.argv[1:]], {**terms, "rows": rows}
        )
    if not equal:
        raise CpuserveError(f"the servers do not answer alike: {answers}")


@contextmanager
def _running(side: Side, given: argparse.Namespace) -> Iterator[Target]:
    """A server of one side, which answers."""
    if side.ray is None:
        flags = {
            "model_repository": given.model_repository,
            "workers": given.replicas,
            "inference_threads": 1,
        }
        with local_server(given.model, flags, None) as server:
            yield Target("127.0.0.1", server.port, f"/predictions/{given.model}", pid=server.pid)
        return
    port, metrics, stats = ports_for_later(3)
    words = [str(port), str(given.replicas), given.model, str(given.model_repository)]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    haproxy = {"RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics), "RAY_SERVE_HAPROXY_STATS_PORT": str(stats)}
    process = subprocess.Popen(
        die_with_parent(sys.executable, "-m", "benchmarks.fixtures.ray_serve_app", *words),
        env={**os.environ, **quiet, **haproxy, **side.ray},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    target = Target("127.0.0.1", port, "/", pid=process.pid)
    try:
        _wait(process, target, given.images[0])
        yield target
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.communicate()
        for one in psutil.wait_procs(family, timeout=10)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def _wait(process: subprocess.Popen[bytes], target: Target, image: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        with suppress(OSError, http.client.HTTPException, CpuserveError):
            _asked(target, image)
            return
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            said = process.communicate()[1].decode(errors="replace").strip().splitlines()[-1:]
            raise CpuserveError(f"Ray Serve on port {target.port} does not answer: {' '.join(said)}")
        time.sleep(0.2)


def _asked(target: Target, image: Path) -> Any:
    """What a server says is on a picture."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
    try:
        connection.request("POST", target.path, image.read_bytes(), dict(target.headers))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise CpuserveError(f"{answer.status}: {text[:200]!r}")
    return json.loads(text)["predictions"]


def _turn(side: Side, target: Target, given: argparse.Namespace) -> dict[str, Any]:
    """All that one server is asked in one round; the kill comes last."""
    busy, steady = Load(connections=given.connections), Load(rate=given.rate)
    answers = [_asked(target, image) for image in given.images]
    measure_window(target, given.images, busy, seconds=min(_WARM_S, given.seconds))
    before = cpu_by_kind(target.pid)
    time.sleep(_IDLE_S)
    idle = cpu_by_kind(target.pid) - before
    found = {"answers": answers, "idle_cores": idle.total() / _IDLE_S}
    found["busy"] = measure_window(target, given.images, busy, seconds=given.seconds)
    before = cpu_by_kind(target.pid)
    found["steady"] = measure_window(target, given.images, steady, seconds=given.seconds)
    found["kinds"] = spent(before, cpu_by_kind(target.pid))
    found["killed"] = killed_meanwhile(side, target, given.images, steady, given.seconds)
    return found


def killed_meanwhile(
    side: Side, target: Target, images: Sequence[Path], load: Load, seconds: float
) -> Killed:
    """Load a server steadily and kill a process that holds the model after a third of the time.

    Args:
        side: what serves.
        target: the server.
        images: that are sent.
        load: how much.
        seconds: how long.

    Raises:
        CpuserveError: nothing was killed.
    """
    struck: list[int] = []

    def strike() -> None:
        victim = _replicas(side, target)[0]
        victim.kill()
        struck.append(victim.pid)

    timer = threading.Timer(seconds / 3, strike)
    timer.start()
    window = measure_window(Target(target.host, target.port, target.path), images, load, seconds=seconds)
    timer.join()
    if not struck:
        raise CpuserveError(f"no process of {side.name} was killed")
    return Killed(window.requests, window.errors)


def _replicas(side: Side, target: Target) -> list[psutil.Process]:
    top = psutil.Process(target.pid)
    if side.ray is None:
        return top.children()
    return [one for one in top.children(recursive=True) if _title(one).startswith(side.replica)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def kind_of(title: str) -> str:
    """What a process is for, by its command line: ``raylet``, ``ray::ServeReplica``, ``haproxy`` ..."""
    if title.startswith("ray::"):
        return "ray::" + re.split(r"[:.\s]", title[len("ray::") :])[0]
    words = title.split()
    if not words:
        return "unknown"
    program = Path(words[0]).name
    if program.startswith("python"):
        script = next((word for word in words[1:] if not word.startswith("-")), program)
        return Path(script).stem if script.endswith(".py") else script.rpartition(".")[2]
    return program


def cpu_by_kind(pid: int | None) -> Counter[str]:
    """CPU seconds of a process and its descendants, by what they are for; those that ended are left out."""
    top = psutil.Process(pid)
    seconds: Counter[str] = Counter()
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            kind = kind_of(_title(process))
            seconds[kind] = seconds[kind] + sum(process.cpu_times()[:2])  # type: ignore[assignment]  # typeshed: int
    return seconds


def spent(before: Counter[str], after: Counter[str]) -> dict[str, float]:
    """CPU seconds between two readings; 0 for what was there and used less than a tick of the clock."""
    return {kind: max(0.0, after[kind] - before[kind]) for kind in after}


def _row(name: str, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Throughput and idle are medians of the rounds; the rest is of all their requests together."""
    steady = LoadWindow.sum([turn["steady"] for turn in turns])
    kinds: Counter[str] = Counter()
    for turn in turns:
        kinds.update(turn["kinds"])
    answered = max(1, len(steady.latencies_ms))
    lost: Counter[str] = Counter()
    for turn in turns:
        lost.update(turn["killed"].lost)
    return {
        "server": name,
        **{load: _figures([turn[load] for turn in turns]) for load in ("busy", "steady")},
        "idle_cores": statistics.median(turn["idle_cores"] for turn in turns),
        "steady_cpu_ms_by_process": {
            kind: 1000 * seconds / answered for kind, seconds in kinds.most_common()
        },
        "killed": {"requests": sum(turn["killed"].requests for turn in turns), "lost": dict(lost)},
    }


def _figures(windows: Sequence[LoadWindow]) -> dict[str, Any]:
    whole = LoadWindow.sum(windows).figures()
    rates = [window.per_s for window in windows]
    keys = ("cpu_ms", "p50_ms", "p95_ms", "p99_ms", "rss_mib", "client_cores", "foreign_cores", "statuses")
    return {
        "images_per_s": statistics.median(rates),
        "noise": spread(rates),
        **{key: whole[key] for key in keys},
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("server", "images/s", "CPU ms", "p50 ms", "p99 ms", "CPU ms", "idle cores", "MiB", "lost")
    for row in rows:
        busy, steady = row["busy"], row["steady"]
        figures = (
            busy["images_per_s"],
            busy["cpu_ms"],
            *(steady[key] for key in ("p50_ms", "p99_ms", "cpu_ms")),
        )
        table.add_row(
            row["server"],
            *(f"{figure:.1f}" for figure in figures),
            f"{row['idle_cores']:.3f}",
            f"{steady['rss_mib']:.0f}",
            f"{sum(row['killed']['lost'].values())} of {row['killed']['requests']}",
        )
    return table


def markdown(result: Mapping[str, Any]) -> str:
    """The table of a page.

    Args:
        result: a result file.
    """
    names = {
        _OURS: "`cpuserve serve`",
        "ray_serve_fast": "Ray Serve, HAProxy, throughput optimized",
        "ray_serve_default": "Ray Serve as it starts",
    }
    heads = [
        "",
        f"images/s, {result['connections']} clients",
        "CPU ms",
        f"p50, p99 ms at {result['rate']:g}/s",
        "CPU ms",
        "cores when idle",
        "MiB",
        "lost, one killed",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in result["rows"]:
        busy, steady, killed = row["busy"], row["steady"], row["killed"]
        cells = [
            names[row["server"]],
            f"{busy['images_per_s']:.0f}",
            f"{busy['cpu_ms']:.1f}",
            f"{steady['p50_ms']:.1f}, {steady['p99_ms']:.1f}",
            f"{steady['cpu_ms']:.1f}",
            f"{row['idle_cores']:.2f}",
            f"{steady['rss_mib']:.0f}",
            f"{sum(killed['lost'].values())} of {killed['requests']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
