"""Compares libraries that gRPC could be served by: CPU of a message, and what they do with hostile clients.

Run as ``python -m benchmarks.grpc_transports [--out FILE]`` with ``pip install pygrpc-native h2``. The server
of each library only answers. ``grpcio core`` is what cpuserve is served by, and what `benchmarks.grpc_cpu`
compares it with; ``grpcio`` is the same library by its interface for asyncio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from benchmarks.grpc_load import OPTIONS, SERVICE
from cpuserve.measuring.load_window import tree_cpu_s
from cpuserve.measuring.results import write_result
from cpuserve.measuring.stable_windows import spread

__all__ = ["main"]

_STUBS = {
    "grpcio": "grpc_stub",
    "grpcio core": "core_grpc_stub",
    "pygrpc-native": "native_grpc_stub",
    "h2": "h2_grpc_stub",
}
_BYTES = (300, 84_000, 602_112)
_HUGE_MIB = 300
_WAIT_S = 60.0


@contextmanager
def _stub(name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    answer = folder / "answer"
    answer.write_bytes(bytes(100))
    command = (sys.executable, "-m", f"benchmarks.fixtures.{_STUBS[name]}", str(answer))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.communicate("")


def _said(process: subprocess.Popen[str]) -> int:
    if process.stdout is None:
        raise ValueError("the stub has no output")
    return int(process.stdout.readline())


def _cpu_us(port: int, pid: int, message: Path, seconds: float) -> float:
    command = (sys.executable, "-m", "benchmarks.grpc_load", f"127.0.0.1:{port}", str(message))
    before = tree_cpu_s(pid)
    words = ("--channels", "4", "--seconds", str(seconds))
    found = json.loads(subprocess.run((*command, *words), capture_output=True, text=True, check=True).stdout)
    if found["statuses"].keys() != {"OK"}:
        raise ValueError(f"{message.name}: {found['statuses']}")
    return 1e6 * (tree_cpu_s(pid) - before) / int(found["requests"])


def _hostile(process: subprocess.Popen[str], port: int) -> dict[str, object]:
    """What pygrpc-native does with a message beyond any limit, and with a call inside at its end."""
    if process.stdin is None:
        raise ValueError("the stub has no input")
    with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        process.stdin.write("memory\n")
        process.stdin.flush()
        before = _said(process)
        code = _code(ask, bytes(_HUGE_MIB << 20))
        process.stdin.write("memory\n")
        process.stdin.flush()
        taken = _said(process) - before
        inside = ask.future(bytes(5), timeout=_WAIT_S)
        ask(b"", timeout=_WAIT_S)  # so it is there
        process.stdin.write("close\n")
        process.stdin.flush()
        _said(process)
        lost = inside.code().name
    return {"message_mib": _HUGE_MIB, "answer": code, "memory_mib": taken, "call_inside_at_its_end": lost}


def _code(ask: grpc.UnaryUnaryMultiCallable, message: bytes) -> str:
    try:
        ask(message, timeout=_WAIT_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def main() -> None:
    """Measure every library in turn, several rounds over, and print or write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", nargs="+", choices=_STUBS, default=list(_STUBS))
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rounds: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in _BYTES} for name in given.libraries
    }
    hostile: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as place:
        folder = Path(place)
        for size in _BYTES:
            (folder / str(size)).write_bytes(bytes(size))
        for _ in range(given.rounds):
            for name in given.libraries:
                with _stub(name, folder) as process:
                    port = _said(process)
                    for size in _BYTES:
                        cpu_us = _cpu_us(port, process.pid, folder / str(size), given.seconds)
                        rounds[name][size].append(cpu_us)
                    if name == "pygrpc-native":
                        hostile[name] = _hostile(process, port)
    figures = {
        name: {
            str(size): {"cpu_us": statistics.median(found), "noise": spread(found)}
            for size, found in sizes.items()
        }
        for name, sizes in rounds.items()
    }
    table = Table("library", *(f"CPU us, {size} bytes" for size in _BYTES))
    for name, row in figures.items():
        table.add_row(name, *(f"{row[str(size)]['cpu_us']:.0f}" for size in _BYTES))
    Console().print(table)
    Console().print(hostile)
    if given.out:
        command = ["python", "-m", "benchmarks.grpc_transports", *sys.argv[1:]]
        write_result(given.out, command, {"libraries": figures, "hostile": hostile})


if __name__ == "__main__":
    main()
