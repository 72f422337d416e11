"""Keeps one server running: starts it on its NUMA node, looks whether it is ready, and starts it again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.machine.process_controls import die_with_parent
from cpuserve.measuring.local_server import free_port

__all__ = ["KeptServer", "ServerKeeper", "ServerSpec", "server_environment"]

_LOOK_S = 0.2
_ANSWER_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SETTLED_S = 60.0  # a server that ran for so long starts again at once
_STOP_S = 60.0
_KEPT_LINES = 20


@dataclass(frozen=True)
class ServerSpec:
    """What every server is started with.

    Attributes:
        words: of ``cpuserve serve``.
        folder: the working directory, where it exists.
        port: of the first NUMA node of a node, the next ones follow; 0 takes free ones.
    """

    words: tuple[str, ...] = ()
    folder: str = ""
    port: int = 0


@dataclass(frozen=True)
class KeptServer:
    """What is known of a server.

    Attributes:
        numa_node: that it runs on; None where the machine has one.
        url: of it; empty before its first start.
        ready: whether it says so.
        models: that it has ready.
        restarts: how often it was started again.
        pid: of its first process; 0 while there is none.
        reason: why it is not ready.
    """

    numa_node: int | None
    url: str = ""
    ready: bool = False
    models: Sequence[str] = field(default=())
    restarts: int = 0
    pid: int = 0
    reason: str = ""


class ServerKeeper:
    """Runs ``cpuserve serve`` until `stop`. It ends with this process.

    The server plans its seats on the CPUs of its NUMA node, and its workers bind themselves to these before
    they load anything.

    Args:
        spec: what it is started with.
        host: the address to listen on.
        numa_node: its NUMA node; None for all CPUs.
        place: among the NUMA nodes of its node, for the port.
        environ: of the server.
        first_pause_s: before the second start; each one in a row doubles it.
    """

    def __init__(
        self,
        spec: ServerSpec,
        host: str,
        numa_node: int | None,
        place: int = 0,
        environ: Mapping[str, str] = os.environ,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._spec, self._host, self._numa_node, self._place = spec, host, numa_node, place
        self._environ, self._first_pause_s = dict(environ), first_pause_s
        self._known = KeptServer(numa_node, reason="it starts")
        self._process: subprocess.Popen[str] | None = None
        self._last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._restarts = 0
        self._stopped = threading.Event()
        # the kernel ends the server with the thread that has started it
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def status(self) -> KeptServer:
        """What is known of the server now."""
        return self._known

    def stop(self) -> None:
        """Let the server finish its requests, and end it."""
        self._stopped.set()
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        self._thread.join(_STOP_S)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def _keep(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            began, was_ready = time.monotonic(), False
            port = self._spec.port + self._place if self._spec.port else free_port()
            process = self._process = self._start(port)
            reader = threading.Thread(target=self._read, args=(process,), name="output", daemon=True)
            reader.start()
            while process.poll() is None:
                self._look(process, port)
                was_ready = was_ready or self._known.ready
                time.sleep(_LOOK_S)
            reader.join()
            self._restarts += 1
            ending = f"it ended with status {process.returncode}: {' '.join([*self._last_lines][-1:])}"
            self._known = KeptServer(self._numa_node, self._url(port), restarts=self._restarts, reason=ending)
            failures = 0 if was_ready and time.monotonic() - began >= _SETTLED_S else failures + 1
            pause_s = (
                min(_LONGEST_PAUSE_S, self._first_pause_s * 2 ** min(16, failures - 1)) if failures else 0
            )
            self._stopped.wait(pause_s)

    def _start(self, port: int) -> subprocess.Popen[str]:
        seat = [] if self._numa_node is None else ["--node-id", str(self._numa_node)]
        address = ["--host", self._host, "--port", str(port)]
        folder = Path(self._spec.folder)
        self._last_lines.clear()
        return subprocess.Popen(
            die_with_parent(sys.executable, "-m", "cpuserve", "serve", *self._spec.words, *address, *seat),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environ,
            cwd=folder if self._spec.folder and folder.is_dir() else None,
            process_group=0,  # Ctrl-C is for who keeps it
        )

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Pass the server's output on, to the log of this process."""
        if process.stdout is None:
            return
        with process.stdout:
            for line in process.stdout:
                self._last_lines.append(line.strip())
                sys.stdout.write(line)
        sys.stdout.flush()

    def _look(self, process: subprocess.Popen[str], port: int) -> None:
        try:
            status, said = self._ask("GET", "/v2/health/ready", port)
            models: Sequence[str] = ()
            if ready := status == http.client.OK:
                _, index = self._ask("POST", "/v2/repository/index", port)
                models = sorted({one["name"] for one in index if one.get("state") == "READY"})
            reason = "" if ready else str(said.get("reason") or said.get("error") or f"it answers {status}")
        except (OSError, http.client.HTTPException, ValueError, TypeError, AttributeError) as error:
            ready, models, reason = False, (), f"it does not answer: {error}"
        self._known = KeptServer(
            self._numa_node, self._url(port), ready, models, self._restarts, process.pid, reason
        )

    def _ask(self, method: str, path: str, port: int) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._host, port, timeout=_ANSWER_S)
        try:
            connection.request(method, path, b"{}" if method == "POST" else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def _url(self, port: int) -> str:
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{port}"


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server below a Ray actor: without the numbers of threads that Ray sets there."""
    return {
        name: value
        for name, value in environ.items()
        if name != "OMP_NUM_THREADS" and not name.startswith("RAY_")
    }
