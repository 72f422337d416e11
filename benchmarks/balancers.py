"""Lets nginx, HAProxy and Envoy balance two servers while one is killed, or stopped again and again.

Run as ``python -m benchmarks.balancers [--seconds S] [--rounds N] [--out FILE]``. Each balancer, over HTTP
and over gRPC, gets the same Poisson arrivals in three situations: both servers well; the second killed with
SIGKILL after a third of the time and started again after two thirds; the second stopped for half of every
second.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.balancer_programs import BALANCERS, Balancer, Listening, Ports, running
from cpuserve.errors import CpuserveError
from cpuserve.grpc.messages import message_class
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.measuring.local_server import free_port
from cpuserve.measuring.results import write_result

__all__ = [
    "SITUATIONS",
    "Arrivals",
    "Pair",
    "Server",
    "main",
    "markdown",
    "measured",
    "two_servers",
    "write_message",
]

SITUATIONS = ("well", "killed", "slowed")
_ROOT = Path(__file__).parent.parent
_MODEL = "digits"
_PICTURE = _ROOT / "docs" / "seven.png"
_READY_S = 90.0
_STOPPED_S = 0.5  # of every second
_ALONE_S = 3.0
_CHECKED_S = 1.0  # the first health checks take so long
_Request = message_class("inference.ModelInferRequest")


@dataclass
class Server:
    """One server that can be killed and started again on the same ports.

    Attributes:
        http: its port.
        grpc: its port for gRPC.
        cpu: the CPU it runs on.
    """

    http: int
    grpc: int
    cpu: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` waits until it is ready."""
        words = ["--model-repository", str(_ROOT / "ir_models"), "--model-name", _MODEL, "--workers", "1"]
        words += ["--port", str(self.http), "--grpc-port", str(self.grpc), "--preset", "off"]
        command = die_with_parent(
            "taskset", "-c", str(self.cpu), sys.executable, "-m", "cpuserve", "serve", *words
        )
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            CpuserveError: It does not become ready.
        """
        until = time.monotonic() + _READY_S
        ready = ["curl", "-sf", "-m", "1", "-o", "/dev/null", f"http://127.0.0.1:{self.http}/v2/health/ready"]
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > until:
                raise CpuserveError(f"the server on port {self.http} does not become ready")
            time.sleep(0.05)

    def counted(self) -> Counter[str]:
        """Requests ``answered`` and ``refused`` since its start; none while it does not answer."""
        command = ["curl", "-sf", "-m", "1", f"http://127.0.0.1:{self.http}/metrics"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found: Counter[str] = Counter()
        for line in done.stdout.splitlines():
            if line.startswith("ovms_requests_success{") and "ModelInfer" in line:
                found["answered"] += int(float(line.rpartition(" ")[2]))
            elif line.startswith("cpuserve_refused_total{"):
                found["refused"] += int(float(line.rpartition(" ")[2]))
        return found

    def tree(self) -> list[psutil.Process]:
        """All of its processes."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid) if self.process else None
            return [*own.children(recursive=True), own] if own else []
        return []

    def send(self, which: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        for one in self.tree():
            with suppress(psutil.NoSuchProcess):
                one.send_signal(which)

    def kill(self) -> None:
        """Kill all of its processes at once."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


@dataclass(frozen=True)
class Pair:
    """Two servers and the requests that they have answered."""

    servers: tuple[Server, Server]

    @property
    def ports(self) -> Ports:
        """Their ports."""
        first, second = self.servers
        return Ports((first.http, second.http), (first.grpc, second.grpc))


@contextmanager
def two_servers() -> Iterator[Pair]:
    """Two servers, each on a CPU of its own where there are two."""
    cpus = sorted(psutil.Process().cpu_affinity() or [0])
    pair = Pair(
        (
            Server(free_port(), free_port(), cpus[0]),
            Server(free_port(), free_port(), cpus[-1]),
        )
    )
    try:
        for server in pair.servers:
            server.start()
        for server in pair.servers:
            server.wait()
        yield pair
    finally:
        for server in pair.servers:
            server.send(signal.SIGCONT)
            server.kill()


def _killed(server: Server, seconds: float, kept: list[Counter[str]]) -> None:
    time.sleep(seconds / 3)
    kept.append(server.counted())
    server.kill()
    time.sleep(seconds / 3)
    server.start()
    server.wait()


def _slowed(server: Server, seconds: float, _kept: list[Counter[str]]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        server.send(signal.SIGSTOP)
        time.sleep(_STOPPED_S)
        server.send(signal.SIGCONT)
        time.sleep(1 - _STOPPED_S)


def _nothing(_server: Server, _seconds: float, _kept: list[Counter[str]]) -> None:
    return


_TROUBLES: Mapping[str, Callable[[Server, float, list[Counter[str]]], None]] = {
    "well": _nothing,
    "killed": _killed,
    "slowed": _slowed,
}


@dataclass(frozen=True)
class Arrivals:
    """What arrives.

    Attributes:
        protocol: ``http`` or ``grpc``.
        rate: requests a second; None: one at a time.
        seconds: how long.
        message: the file of a ModelInferRequest.
    """

    protocol: str
    rate: float | None
    seconds: float
    message: Path

    def words(self, at: Listening) -> list[str]:
        """The command line of the client."""
        terms = ["--seconds", str(self.seconds)]
        terms += ["--rate", str(self.rate)] if self.rate else []
        if self.protocol == "http":
            terms += [] if self.rate else ["--connections", "1"]
            words = ["cpuserve.measuring.http_load", str(at.http), f"/predictions/{_MODEL}", str(_PICTURE)]
            return [*words, *terms, "--header", "Content-Type", "image/png"]
        words = ["benchmarks.grpc_load", f"127.0.0.1:{at.grpc}", str(self.message), "--channels", "1"]
        return [*words, *terms]


def measured(pair: Pair, at: Listening, situation: str, arrivals: Arrivals) -> dict[str, Any]:
    """Load the servers through a balancer while the second one has trouble.

    Args:
        pair: the servers.
        at: the balancer.
        situation: one of `SITUATIONS`.
        arrivals: the load.

    Returns:
        requests, errors by status, refused (by the servers), p50_ms, p99_ms, max_ms, and of_second, the
        second server's share of the answers.
    """
    before = [server.counted() for server in pair.servers]
    kept: list[Counter[str]] = []
    words = arrivals.words(at)
    load = subprocess.Popen(die_with_parent(sys.executable, "-m", *words), stdout=subprocess.PIPE)
    # in this thread, since a server ends with the thread that started it
    _TROUBLES[situation](pair.servers[1], arrivals.seconds, kept)
    output, _ = load.communicate()
    found = json.loads(output)
    for server in pair.servers:
        server.wait()
    after = [server.counted() for server in pair.servers]
    if kept:  # a new server counts from 0
        after[1] += kept[0]
    changes = [{key: now[key] - then[key] for key in now} for now, then in zip(after, before, strict=True)]
    shares = [change.get("answered", 0) for change in changes]
    good = {"200", "OK"}
    latencies = found["latencies_ms"]
    return {
        "requests": found["requests"],
        "errors": {name: many for name, many in found["statuses"].items() if name not in good},
        "refused": sum(change.get("refused", 0) for change in changes),
        "p50_ms": round(statistics.median(latencies), 2),
        "p99_ms": round(latencies[int(0.99 * (len(latencies) - 1))], 2),
        "max_ms": round(latencies[-1], 2),
        "of_second": round(shares[1] / max(1, sum(shares)), 3),
    }


def write_message(file: Path) -> None:
    """Write a ModelInferRequest with a picture, as a client would send it."""
    request = _Request(model_name=_MODEL)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(_PICTURE.read_bytes())
    file.write_bytes(request.SerializeToString())


def _installed() -> list[Balancer]:
    found = []
    for balancer in BALANCERS:
        with suppress(CpuserveError):
            balancer.program()
            found.append(balancer)
    return found


def _version(balancer: Balancer) -> str:
    words = {"nginx": ["-v"], "haproxy": ["-v"], "envoy": ["--version"]}[balancer.name]
    done = subprocess.run([balancer.program(), *words], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "not known"


def _show(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None)
    for name in (
        "balancer",
        "protocol",
        "situation",
        "requests",
        "errors",
        "p50 ms",
        "p99 ms",
        "max ms",
        "second",
    ):
        table.add_column(name, no_wrap=True)
    for row in rows:
        errors = ", ".join(f"{many} {name}" for name, many in row["errors"].items()) or "none"
        figures = [f"{row[key]:g}" for key in ("refused", "p50_ms", "p99_ms", "max_ms", "of_second")]
        table.add_row(
            row["balancer"], row["protocol"], row["situation"], str(row["requests"]), errors, *figures
        )
    console.print(table)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of a page: errors of all rounds together, the median of their latencies and shares.

    Args:
        result: a result file.
    """
    lines = ["| | " + " | ".join(f"{one}: errors, p99, second" for one in SITUATIONS) + " |"]
    lines.append("|---" * (1 + len(SITUATIONS)) + "|")
    for name, protocol in dict.fromkeys((row["balancer"], row["protocol"]) for row in result["rows"]):
        cells = []
        for situation in SITUATIONS:
            rows = [
                row
                for row in result["rows"]
                if (row["balancer"], row["protocol"], row["situation"]) == (name, protocol, situation)
            ]
            errors = sum(sum(row["errors"].values()) for row in rows)
            p99 = statistics.median(row["p99_ms"] for row in rows)
            share = statistics.median(row["of_second"] for row in rows)
            asked = sum(row["requests"] for row in rows)
            cells.append(f"{errors} of {asked}, {p99:.0f} ms, {share:.2f}")
        lines.append(f"| {name}, {protocol} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Measure all that are installed, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each situation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0, help="arrivals a second")
    parser.add_argument("--quick", action="store_true", help="one round of 6 seconds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of a result, and end")
    given = parser.parse_args(words)
    if given.show:
        sys.stdout.write(markdown(json.loads(given.show.read_text())))
        return
    seconds, rounds = (6.0, 1) if given.quick else (given.seconds, given.rounds)
    console = Console()
    balancers = _installed()
    rows = _rows(console, balancers, given.rate, seconds, rounds)
    console.print()
    _show(console, rows)
    if given.out:
        content = {
            "versions": {balancer.name: _version(balancer) for balancer in balancers},
            "rate_per_s": given.rate,
            "seconds": seconds,
            "rounds": rounds,
            "rows": rows,
        }
        write_result(given.out, ["python", "-m", "benchmarks.balancers", *sys.argv[1:]], content)


def _alone(at: Listening, protocol: str, message: Path) -> list[float]:
    """Latencies in milliseconds of requests that come one at a time: the least, the quantiles, the most."""
    words = Arrivals(protocol, None, _ALONE_S, message).words(at)
    done = subprocess.run([sys.executable, "-m", *words], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)["latencies_ms"]
    return [round(found[round(place / 100 * (len(found) - 1))], 3) for place in range(101)]


def _rows(
    console: Console, balancers: Sequence[Balancer], rate: float, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cases = [
        (balancer, protocol, situation)
        for _ in range(rounds)
        for balancer in balancers
        for protocol in ("http", "grpc")
        for situation in SITUATIONS
    ]
    with tempfile.TemporaryDirectory(prefix="cpuserve-balancers-") as place, two_servers() as pair:
        message = Path(place) / "message"
        write_message(message)
        for balancer, protocol, situation in cases:
            with running(balancer, pair.ports, Path(place)) as at:
                time.sleep(_CHECKED_S)
                alone = _alone(at, protocol, message) if situation == SITUATIONS[0] else None
                row = measured(pair, at, situation, Arrivals(protocol, rate, seconds, message))
                row |= {"alone_ms": alone} if alone else {}
            named = {"balancer": balancer.name, "protocol": protocol, "situation": situation}
            rows.append({**named, **row})
            _show(console, rows[-1:])
    return rows


if __name__ == "__main__":
    main()
