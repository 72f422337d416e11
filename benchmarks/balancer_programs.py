"""Runs nginx, HAProxy and Envoy with the files of deploy/balancers, on ports of this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.measuring.local_server import free_port

__all__ = ["BALANCERS", "Balancer", "Listening", "Ports", "running"]

_FILES = Path(__file__).parent.parent / "deploy" / "balancers"
_START_S = 20.0


@dataclass(frozen=True)
class Ports:
    """Of the servers that requests are handed to: over HTTP and over gRPC, the first server first."""

    http: tuple[int, int]
    grpc: tuple[int, int]


@dataclass(frozen=True)
class Listening:
    """A balancer that runs: its ports and its process."""

    http: int
    grpc: int
    pid: int


@dataclass(frozen=True)
class Balancer:
    """A balancer.

    Attributes:
        name: what its results are called.
        file: its file in deploy/balancers.
        words: its command line, from the program's path and the file to use.
        more: what the file needs to run without the rights of root, from the directory to use.
    """

    name: str
    file: str
    words: Callable[[str, Path], list[str]]
    more: Callable[[str, Path], str] = lambda text, _: text

    def program(self) -> str:
        """The path of its program.

        Raises:
            CpuserveError: It is not installed.
        """
        found = (
            shutil.which(self.name) or shutil.which(self.name, path="/usr/sbin:/sbin") or _packaged(self.name)
        )
        if found is None:
            raise CpuserveError(f"{self.name} is not installed")
        return found

    def text(self, folder: Path, ports: Ports, listening: tuple[int, int]) -> str:
        """Its file with other ports, on the loopback address."""
        moved = dict(zip(("8001", "8002", "9001", "9002"), (*ports.http, *ports.grpc), strict=True))
        moved |= dict(zip(("8080", "9080"), listening, strict=True))
        text = (_FILES / self.file).read_text().replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # replaced
        text = re.sub(r"(listen |bind )(?=:?\d)", r"\g<1>127.0.0.1:", text).replace(
            "127.0.0.1::", "127.0.0.1:"
        )
        return self.more(
            re.sub(rf"\b({'|'.join(moved)})\b", lambda found: str(moved[found[1]]), text), folder
        )


def _nginx(text: str, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f" {kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root; " if os.geteuid() == 0 else ""
    return user + re.sub(r"pid \S+;", f"pid {folder}/pid;", text).replace("http {", f"http {{{places}", 1)


BALANCERS = (
    Balancer(
        "nginx",
        "nginx.conf",
        lambda program, file: [program, "-e", "stderr", "-g", "daemon off;", "-c", str(file)],
        _nginx,
    ),
    Balancer("haproxy", "haproxy.cfg", lambda program, file: [program, "-db", "-f", str(file)]),
    Balancer(
        "envoy",
        "envoy.yaml",
        lambda program, file: [program, "-c", str(file), "--disable-hot-restart", "--log-level", "error"],
    ),
)
"""All that have a file."""


@contextmanager
def running(
    balancer: Balancer, ports: Ports, folder: Path, change: Callable[[str], str] = lambda text: text
) -> Iterator[Listening]:
    """Run a balancer while the context, and this process, last.

    Args:
        balancer: which.
        ports: of the servers.
        folder: for its file and its log.
        change: made to its file's text.

    Raises:
        CpuserveError: It is not installed, or does not start; the message says why.
    """
    listening = (free_port(), free_port())
    file, log = folder / balancer.file, folder / f"{balancer.name}.log"
    file.write_text(change(balancer.text(folder, ports, listening)))
    with log.open("wb") as output:
        process = subprocess.Popen(
            die_with_parent(*balancer.words(balancer.program(), file)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(listening, process, log)
        yield Listening(*listening, process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def _wait_for(ports: tuple[int, int], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    for port in ports:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise CpuserveError(f"{process.args!r} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)


def _packaged(name: str) -> str | None:
    """The program inside a package of this environment, as Envoy's is."""
    found = importlib.util.find_spec(name) if name == "envoy" else None
    if found is None or not found.submodule_search_locations:
        return None
    program = Path(found.submodule_search_locations[0]) / "_bin" / name
    if program.exists() and not os.access(program, os.X_OK):
        program.chmod(0o755)  # pip gives only scripts their mode
    return str(program)
