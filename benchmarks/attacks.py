"""Measures what a polite client sees while another client attacks the server.

Run as ``python -m benchmarks.attacks [--seconds S] [--only NAME ...] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.attack_kinds import ATTACKS, flat_png
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.measuring.local_server import LocalServer, started_server
from cpuserve.measuring.results import write_result

__all__ = ["attacked", "main", "polite"]

_PAUSE_S = 0.02
_PATIENCE_S = 10.0
_REST_S = 1.0
_LOOK_S = 0.2
_MIB = 1 << 20


@dataclass
class _Answers:
    """The answers that one loop of the polite client got."""

    seconds: list[float] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        good = sorted(self.seconds)
        return {
            "asked": len(good) + self.other.total(),
            "answered": len(good),
            "p50_ms": round(1000 * statistics.median(good), 1) if good else None,
            "worst_ms": round(1000 * good[-1], 1) if good else None,
            "other": dict(self.other),
        }


def polite(port: int, model: str, until: threading.Event) -> dict[str, Any]:
    """Ask for predictions and for liveness, each in turn with a pause, until an event is set.

    Args:
        port: of a server on this machine.
        model: takes pictures.
        until: ends it.

    Returns:
        ``predict`` and ``live``, each with ``asked``, ``answered`` (status 200), ``p50_ms``, ``worst_ms`` and
        ``other``: statuses and errors by how often they came.
    """
    seen = {"predict": _Answers(), "live": _Answers()}

    def ask(answers: _Answers, method: str, path: str, body: bytes | None) -> None:
        while not until.is_set():
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
            try:
                connection.request(method, path, body)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                answers.other[type(error).__name__] += 1
            else:
                if status == http.client.OK:
                    answers.seconds.append(time.perf_counter() - began)
                else:
                    answers.other[str(status)] += 1
            finally:
                connection.close()
            until.wait(_PAUSE_S)

    calls = [
        (seen["predict"], "POST", f"/predictions/{model}", flat_png(28, 28)),
        (seen["live"], "GET", "/v2/health/live", None),
    ]
    threads = [threading.Thread(target=ask, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: answers.figures() for name, answers in seen.items()}


def attacked(local: LocalServer, model: str, name: str, seconds: float) -> dict[str, Any]:
    """Measure the polite client alone, then during an attack.

    Args:
        local: the server.
        model: takes pictures.
        name: of the attack.
        seconds: of each of the two windows.

    Returns:
        ``what`` is sent; ``before`` and ``during`` as `polite` tells them; ``workers_kept``; ``rss_mib`` of
        all workers before, and the most during the attack.
    """
    workers = _workers(local)
    rss = _rss(workers)
    before = _window(seconds, lambda until: polite(local.port, model, until))
    most = rss

    def during(until: threading.Event) -> dict[str, Any]:
        words = (str(local.port), model, name, str(seconds))
        # a process of its own: the polite client must not wait for the attacker's interpreter
        attack = subprocess.Popen(die_with_parent(sys.executable, "-m", "benchmarks.attack_kinds", *words))
        watch = threading.Thread(target=look, args=(until,))
        watch.start()
        try:
            return polite(local.port, model, until)
        finally:
            watch.join()
            attack.wait()

    def look(until: threading.Event) -> None:
        nonlocal most
        while not until.wait(_LOOK_S):
            most = max(most, _rss(workers))

    seen = _window(seconds, during)
    return {
        "what": ATTACKS[name].what,
        "before": before,
        "during": seen,
        "workers_kept": {one.pid for one in workers} == {one.pid for one in _workers(local)},
        "rss_mib": {"before": round(rss, 1), "most": round(most, 1)},
    }


def _window(seconds: float, run: Callable[[threading.Event], dict[str, Any]]) -> dict[str, Any]:
    until = threading.Event()
    timer = threading.Timer(seconds, until.set)
    timer.start()
    try:
        return run(until)
    finally:
        until.set()
        timer.cancel()


def _workers(local: LocalServer) -> list[psutil.Process]:
    return psutil.Process(local.pid).children()


def _rss(workers: list[psutil.Process]) -> float:
    return sum(worker.memory_info().rss for worker in workers if worker.is_running()) / _MIB


def unharmed(found: dict[str, Any]) -> bool:
    """Whether no worker ended and the polite client got nothing but answers."""
    answers = found["during"].values()
    return found["workers_kept"] and all(one["answered"] and not one["other"] for one in answers)


def main() -> None:
    """Attack a server it starts; ends with 1 when a worker ended or the polite client saw an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    words = ["--model-repository", str(given.model_repository)]
    words += ["--workers", str(given.workers), "--threads", str(given.threads)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="cpuserve-attacks-") as folder:
        log = Path(folder) / "log"
        with started_server(*words, log=log) as local:
            for name in track(given.only, "attacks", console=Console(stderr=True)):
                found[name] = attacked(local, given.model, name, given.seconds)
                time.sleep(_REST_S)
        tracebacks = log.read_text(errors="replace").count("Traceback")
    table = Table(
        "attack", "predictions before", "during", "worst ms", "live", "worst ms", "other", "RSS MiB"
    )
    for name, one in found.items():
        predict, live = one["during"]["predict"], one["during"]["live"]
        other = ", ".join(f"{word} {count}" for word, count in {**predict["other"], **live["other"]}.items())
        table.add_row(
            name if unharmed(one) else f"[red]{name}[/red]",
            str(one["before"]["predict"]["answered"]),
            *(str(predict[key]) for key in ("answered", "worst_ms")),
            *(str(live[key]) for key in ("answered", "worst_ms")),
            other + ("" if one["workers_kept"] else " a worker ended"),
            f"{one['rss_mib']['before']:.0f} -> {one['rss_mib']['most']:.0f}",
        )
    Console().print(table)
    if given.out:
        command = ["python", "-m", "benchmarks.attacks", *sys.argv[1:]]
        shape = {"workers": given.workers, "threads": given.threads, "seconds": given.seconds}
        write_result(given.out, command, {**shape, "tracebacks": tracebacks, "attacks": found})
    sys.exit(tracebacks > 0 or not all(map(unharmed, found.values())))


if __name__ == "__main__":
    main()
