"""Lets clients ask a server while models break, files are overwritten and workers are killed.

Run as ``python -m benchmarks.faults [--minutes M] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.fault_clients import Client, Tally, answers
from benchmarks.fixtures.weights_model import BIN, write_weights_model
from benchmarks.grpc_fault_client import GrpcClient
from cpuserve.measuring.local_server import LocalServer, free_port, started_server
from cpuserve.measuring.results import write_result

__all__ = ["Faults", "main", "with_faults"]

_MIB = 1 << 20
_RELOAD_EVERY_S = 5.0
_BREAK_EVERY_S = 15.0
_BROKEN_FOR_S = 7.0
_OVERWRITE_EVERY_S = 3.0
_PIECES = 8
_PIECE_S = 0.05  # an overwritten file stays half written for as long as all pieces take
_KILL_EVERY_S = 20.0
_LOOK_S = 2.0
_SETTLED_S = 10.0  # a worker younger than that still fills its caches
_READY_S = 60.0


class Faults:
    """Faults that are made while clients ask the server.

    Args:
        local: the server.
        repository: its directory of models.
        tally: takes what happened.
        seed: decides which worker is killed.
    """

    def __init__(self, local: LocalServer, repository: Path, tally: Tally, seed: int = 1) -> None:
        self._local = local
        self._repository = repository
        self._tally = tally
        self._dice = random.Random(seed)  # noqa: S311  # no secrets
        self._value = 1.0
        self.rss: list[tuple[float, float]] = []  # (when, MiB of arbiter and workers)

    def workers(self) -> list[psutil.Process]:
        """The living workers."""
        return psutil.Process(self._local.pid).children()

    def reload(self) -> None:
        """Ask for the repository to be read again."""
        status, _ = answers(self._local.port, "POST", "/v1/config/reload", b"")
        self._tally.count("reload", status)

    def break_a_model(self) -> None:
        """Put a model into the repository that cannot be read, and take it away a little later."""
        home = self._repository / "broken"
        version = home / "1"
        version.mkdir(parents=True)
        (version / "model.xml").write_text("<net>")
        (version / "model.bin").write_bytes(b"")
        self._tally.done("broken model")
        time.sleep(_BROKEN_FOR_S)
        shutil.rmtree(home)

    def overwrite(self) -> None:
        """Write other weights over those that are served, in place and slowly, as ``cp`` does."""
        self._value = 3.0 - self._value
        source = self._repository.parent / f"weights-{self._value:g}" / BIN
        data = source.read_bytes()
        step = -(-len(data) // _PIECES)
        with (self._repository / "weights" / "1" / BIN).open("wb") as file:
            for start in range(0, len(data), step):
                file.write(data[start : start + step])
                file.flush()
                time.sleep(_PIECE_S)
        self._tally.done("files overwritten")

    def kill(self) -> None:
        """Kill one worker."""
        self._dice.choice(self.workers()).send_signal(signal.SIGKILL)
        self._tally.done("workers killed")

    def look(self) -> None:
        """Note the memory, when all workers have been there for a while."""
        try:
            workers = self.workers()
            if len(workers) == 2 and all(time.time() - one.create_time() > _SETTLED_S for one in workers):
                rss = sum(one.memory_info().rss for one in [psutil.Process(self._local.pid), *workers])
                self.rss.append((time.monotonic(), rss / _MIB))
        except psutil.NoSuchProcess:
            return  # killed between two calls: the next look sees its successor

    def growth(self) -> float:
        """How much more memory the last quarter of the looks saw than the second one, as a share."""
        quarter = len(self.rss) // 4
        if not quarter:
            return 0.0
        early = statistics.median(mib for _, mib in self.rss[quarter : 2 * quarter])
        late = statistics.median(mib for _, mib in self.rss[-quarter:])
        return late / early - 1


def with_faults(
    local: LocalServer,
    repository: Path,
    picture: bytes,
    *,
    seconds: float,
    clients: int,
    over_grpc: int = 0,
    grpc_port: int = 0,
) -> dict[str, Any]:
    """Let clients ask a server while faults happen to it.

    Args:
        local: the server; it serves ``digits`` and ``weights`` from the repository.
        repository: where faults are made.
        picture: for digits.
        seconds: how long.
        clients: that ask at the same time.
        over_grpc: how many of these ask over gRPC.
        grpc_port: where the server answers them.

    Returns:
        ``answers`` by kind and status, ``faults`` by kind, ``wrong``: what should not have come, ``resets``:
        connections that ended without an answer, ``slowest_s``, ``rss_mib`` early and late, ``growth``,
        ``ready_s``: how long after the last fault all models were ready, None when they were not.
    """
    tally, until = Tally(), threading.Event()
    faults = Faults(local, repository, tally)
    every: list[tuple[Callable[[], None], float]] = [
        (faults.reload, _RELOAD_EVERY_S),
        (faults.break_a_model, _BREAK_EVERY_S),
        (faults.overwrite, _OVERWRITE_EVERY_S),
        (faults.kill, _KILL_EVERY_S),
        (faults.look, _LOOK_S),
    ]
    asking = [
        GrpcClient(grpc_port, picture, tally, number)
        if number < over_grpc
        else Client(local.port, picture, tally, number)
        for number in range(clients)
    ]
    threads = [threading.Thread(target=client.ask, args=(until,)) for client in asking]
    threads += [threading.Thread(target=_repeat, args=(*one, until, tally)) for one in every]
    for thread in threads:
        thread.start()
    try:
        _show(seconds, threads, tally)
    finally:
        until.set()
        for thread in threads:
            thread.join()
    ready_s = _ready_again(local.port)
    early, late = (faults.rss[0][1], faults.rss[-1][1]) if faults.rss else (0.0, 0.0)
    return {
        **tally.figures(),
        "rss_mib": {"first": round(early, 1), "last": round(late, 1), "looks": len(faults.rss)},
        "growth": round(faults.growth(), 4),
        "ready_s": ready_s,
    }


def _repeat(act: Callable[[], None], every_s: float, until: threading.Event, tally: Tally) -> None:
    """Call something repeatedly; an exception is counted and does not end the other threads."""
    while not until.wait(every_s):
        try:
            act()
        except Exception as error:  # noqa: BLE001  # told in the result
            tally.went_wrong(f"{act.__name__}: {type(error).__name__}: {error}")


def _show(seconds: float, threads: list[threading.Thread], tally: Tally) -> None:
    """Wait, with a progress bar, until the time is over or no thread is left."""
    ends = time.monotonic() + seconds
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("faults", total=seconds)
        while (left := ends - time.monotonic()) > 0 and any(thread.is_alive() for thread in threads):
            time.sleep(min(1.0, left))
            progress.update(bar, completed=seconds - left, description=f"faults, {tally.wrong_count} wrong")


def _ready_again(port: int) -> float | None:
    """Seconds until every model of the index is ready; None when that takes too long."""
    began = time.monotonic()
    while time.monotonic() - began < _READY_S:
        status, index = answers(port, "POST", "/v2/repository/index", b"{}")
        states = {(one["name"], one["state"]) for one in index} if status == 200 else set()
        if states == {("digits", "READY"), ("weights", "READY")}:
            return round(time.monotonic() - began, 2)
        time.sleep(0.2)
    return None


def passed(found: dict[str, Any], most_growth: float, clients: int) -> bool:
    """Whether nothing went wrong, nothing hung, memory is flat and all models are ready."""
    inside_killed = clients * found["faults"].get("workers killed", 0)
    return (
        not found["wrong"]
        and found["resets"] <= inside_killed
        and abs(found["growth"]) <= most_growth
        and found["ready_s"] is not None
    )


def main() -> None:
    """Start a server, make all faults, and write the result; exits with 1 when the server failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--grpc-share", type=float, default=0.0, help="of the clients that ask over gRPC")
    parser.add_argument(
        "--most", type=float, default=0.05, help="growth of memory that is allowed, as a share"
    )
    parser.add_argument("--digits", type=Path, default=Path("ir_models/digits"), help="the digits model")
    parser.add_argument("--picture", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpuserve-faults-") as folder:
        repository = make_repository(Path(folder), given.digits)
        log = Path(folder) / "log"
        words = ["--model-repository", str(repository), "--workers", "2", "--threads", "4"]
        words += ["--rate-limit", "500", "--rate-burst", "200"]
        over_grpc, port = round(given.clients * given.grpc_share), free_port()
        words += ["--grpc-port", str(port)] if over_grpc else []
        with started_server(*words, log=log) as local:
            found = with_faults(
                local,
                repository,
                given.picture.read_bytes(),
                seconds=60 * given.minutes,
                clients=given.clients,
                over_grpc=over_grpc,
                grpc_port=port,
            )
        text = log.read_text(errors="replace")
        found["tracebacks"] = text.count("Traceback")
        if found["tracebacks"]:
            sys.stderr.write(text[text.index("Traceback") :][:4000])
    found["passed"] = passed(found, given.most, given.clients) and not found["tracebacks"]
    table = Table("", "")
    for name, value in found.items():
        table.add_row(name, str(value))
    Console().print(table)
    if given.out:
        command = ["python", "-m", "benchmarks.faults", *sys.argv[1:]]
        write_result(
            given.out,
            command,
            {"minutes": given.minutes, "clients": given.clients, "over_grpc": over_grpc, **found},
        )
    sys.exit(not found["passed"])


def make_repository(folder: Path, digits: Path) -> Path:
    """Make a repository of ``digits`` and ``weights``, and other weights beside it.

    Args:
        folder: an empty directory.
        digits: the model's directory.

    Returns:
        The repository.
    """
    repository = folder / "models"
    shutil.copytree(
        digits, repository / "digits", ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__")
    )
    for value in (1.0, 2.0):
        write_weights_model(folder / f"weights-{value:g}", value)
    shutil.copytree(folder / "weights-1", repository / "weights" / "1")
    return repository


if __name__ == "__main__":
    main()
