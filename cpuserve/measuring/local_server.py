"""Starts ``cpuserve serve`` on a free port of this machine, waits until it is ready, and stops it."""

from __future__ import annotations

import http.client
import json
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
from cpuserve.serving.find_servers import find_servers

__all__ = ["LocalServer", "free_port", "local_server", "started_server"]

_START_S = 120.0
_HEALTH_S = 60.0


@dataclass(frozen=True)
class LocalServer:
    """A server that runs on this machine.

    Attributes:
        port: the TCP port it listens on.
        pid: the process id of its arbiter.
    """

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def get_json(self, path: str) -> tuple[int, Any]:
        """GET a path.

        Returns:
            The HTTP status and the decoded JSON.

        Raises:
            CpuserveError: the server does not answer, or not with JSON.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_HEALTH_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CpuserveError(f"{self.url}{path} does not answer: {error}") from None
        finally:
            connection.close()


@contextmanager
def local_server(
    model: str, flags: Mapping[str, Any], config: Path | None, environ: Mapping[str, str] | None = None
) -> Iterator[LocalServer]:
    """Serve one model while the context lasts.

    Args:
        model: its name in the repository; empty for all models.
        flags: settings by name; None leaves one to the environment and the default. The default of
            ``preset`` is off here, so that a preset kept in ``tuning/`` does not decide what is measured.
        config: a settings file.
        environ: the server's environment; None is that of this process.

    Raises:
        CpuserveError: the server does not start; the message says why.
    """
    words = ["--model-name", model]
    words += [] if config is None else ["--config", str(config)]
    for name, value in {**flags, "preset": flags.get("preset") or "off"}.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    with started_server(*words, environ=environ) as server:
        yield server


@contextmanager
def started_server(
    *words: str, environ: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[LocalServer]:
    """Run ``cpuserve serve`` while the context, and this process, last.

    Args:
        words: of its command line.
        environ: its environment; None is that of this process.
        log: the file that its output goes to; None keeps it only to say why the server does not start.

    Raises:
        CpuserveError: the server does not start; the message says why.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cpuserve-server-") as folder:
        log = log or Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                die_with_parent(sys.executable, "-m", "cpuserve", "serve", "--port", str(port), *words),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environ is None else dict(environ),
                process_group=0,  # Ctrl-C is for the command
            )
        server = LocalServer(port, process.pid)
        try:
            _wait_ready(server, process, log)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_ready(server: LocalServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server's worker table has a ready worker for each seat, then ask for its health.

    Raises:
        CpuserveError: the server ended, took too long, or serves no model.
    """
    deadline = time.monotonic() + _START_S
    while not _all_ready(server.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise CpuserveError(f"the server on port {server.port} did not start: {' '.join(last)}")
        time.sleep(0.05)
    status, health = server.get_json("/v2/health/ready")
    if status != 200:
        missing = "; ".join(f"model {name}: {why}" for name, why in health.get("models", {}).items())
        raise CpuserveError(f"the server on port {server.port} is not ready: {missing or health['reason']}")


def _all_ready(pid: int) -> bool:
    """Whether the server has published its worker table, with a ready worker in each seat."""
    return any(all(one.state == "ready" for one in server.workers) for server in find_servers(pids=[pid]))


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
