"""A real server for the end-to-end tests: started as a user starts it, stopped as init stops it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

START_TIMEOUT_S = float(os.environ.get("CPUSERVE_TEST_START_TIMEOUT_S", "90"))
# A child process that loads every model first doubles the time of a start: tests of it ask for it.
_QUICK = {"CPUSERVE_CHECK_MODELS_IN_CHILD": "false"}


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def masks(pid: int) -> set[frozenset[int]]:
    """CPUs each thread of a process may run on, by the kernel."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has just ended
            found.add(frozenset(os.sched_getaffinity(int(task.name))))
    return found


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running `cpuserve serve`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.grpc_port = 0  # of those that answer gRPC
        self.log = log

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            chunked = "Transfer-Encoding" in (headers or {})
            connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return self.request("POST", path, body, headers)

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Process ids of the workers, as the kernel tells."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return sorted(int(pid) for pid in children.split())

    def wait_until(self, true: Any, what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            asked = time.monotonic()
            if true():
                return
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.text()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} after {timeout_s} s:\n{self.text()}")
            # where asking is slow it must not take the time of what is waited for
            time.sleep(max(0.02, 4 * (time.monotonic() - asked)))

    def seats(self) -> dict[int, int]:
        """Worker that said it is ready, and still lives, to its seat."""
        said = re.findall(r"\[(\d+)\] cpuserve.server: worker in seat (\d+) .* ready", self.text())
        alive = set(self.workers())
        return {int(pid): int(seat) for pid, seat in said if int(pid) in alive}

    def ready_workers(self) -> int:
        """How many workers said they are ready and still live."""
        return len(self.seats())

    def settle(self, workers: int, gone: Collection[int] = ()) -> None:
        """Wait until there are so many workers, all of them ready, and those ``gone`` have left."""
        self.wait_until(
            lambda: (
                len(self.workers()) == workers == self.ready_workers() and not {*gone} & {*self.workers()}
            ),
            f"settled with {workers} workers",
        )

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def serving(log: Path, *arguments: str, ready: int = 1, **environment: str) -> Iterator[Server]:
    """Start `cpuserve serve ARGUMENTS` and wait until ``ready`` workers are."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpuserve", "serve", "--port", str(port), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            # a preset that somebody keeps in tuning/ must not decide what tests see
            env={**_QUICK, **os.environ, "CPUSERVE_PRESET": "off", **environment},
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        server.wait_until(lambda: server.ready_workers() >= ready, f"ready with {ready} workers")
        yield server
    finally:
        try:
            server.stop()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
