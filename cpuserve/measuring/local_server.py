"""A server started for a benchmark and stopped after it; it measures nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import die_with_parent

__all__ = ["LocalServer", "free_port", "local_server", "started_server"]

_START_S = 120.0


@dataclass(frozen=True)
class LocalServer:
    """A server that runs here.

    Attributes:
        port: of this machine.
        pid: of its arbiter.
        log: what it says.
    """

    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def local_server(
    model: str, flags: Mapping[str, Any], config: Path | None, environ: Mapping[str, str] | None = None
) -> Iterator[LocalServer]:
    """Serve one model on a free port as long as the context lasts, by ``cpuserve serve``.

    Args:
        model: its name in the repository; empty for all of it.
        flags: settings by name; those that are None are left to the environment and the defaults, but for
            ``preset``, which is off.
        config: a settings file.
        environ: its environment; None is that of this process.

    Raises:
        CpuserveError: the server does not start; the message has its last words.
    """
    words = ["--model-name", model]
    words += [] if config is None else ["--config", str(config)]
    # what somebody keeps in tuning/ decides nothing here unless it is asked for
    for name, value in {**flags, "preset": flags.get("preset") or "off"}.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    with (
        tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as folder,
        started_server(Path(folder) / "log", *words, environ=environ) as local,
    ):
        yield local


@contextmanager
def started_server(log: Path, *words: str, environ: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    """Run ``cpuserve serve`` on a free port as long as the context, and this process, last.

    Args:
        log: where the server's words go.
        words: of its command line.
        environ: its environment; None is that of this process.

    Raises:
        CpuserveError: the server does not start; the message has its last words.
    """
    port = free_port()
    with log.open("wb") as output:
        server = subprocess.Popen(
            die_with_parent(sys.executable, "-m", "cpuserve", "serve", "--port", str(port), *words),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environ is None else dict(environ),
        )
    try:
        _wait_ready(port, server, log)
        yield LocalServer(port, server.pid, log)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _wait_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server's log says that the workers of all its seats are ready.

    Raises:
        CpuserveError: it ended, or took too long.
    """
    deadline = time.monotonic() + _START_S
    while not _all_ready(text := log.read_text(errors="replace")):
        if " up, with models that are not ready," in text:
            why = re.findall(r"model \S+ version \d+ is not served: .*", text)
            raise CpuserveError(f"the server on port {port} does not answer: {' '.join(why[:1])}")
        if server.poll() is not None or time.monotonic() > deadline:
            last = text.strip().splitlines()[-1:]
            raise CpuserveError(f"the server on port {port} did not start: {' '.join(last)}")
        time.sleep(0.05)


def _all_ready(text: str) -> bool:
    """Whether a log tells of a ready worker for each seat that it tells of."""
    seats = set(re.findall(r"seat (\d+): CPUs", text))
    ready = set(re.findall(r"worker in seat (\d+) \(CPUs \S+\) ready at http", text))
    return bool(ready) and seats <= ready


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
