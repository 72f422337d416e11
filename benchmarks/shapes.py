"""Compares several gunicorn workers under the same application.

Run as ``python -m benchmarks.shapes --model-repository DIR --model NAME --image FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger
from rich.console import Console
from rich.table import Table

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, Target, measure_window
from cpuserve.measuring.local_server import free_port
from cpuserve.measuring.results import write_result
from cpuserve.protocols.call import Call, Reply
from cpuserve.server.gunicorn_server import Server
from cpuserve.settings import Settings

__all__ = ["SHAPES", "Shape", "main", "running"]

SHAPES: dict[str, tuple[str, int, int]] = {  # worker class, workers, threads
    "shared epoll, 1 worker x 3 threads": ("cpuserve.http.worker.SeatWorker", 1, 3),
    "shared epoll, 1 worker x 2 threads": ("cpuserve.http.worker.SeatWorker", 1, 2),
    "shared epoll, 2 workers x 1 thread": ("cpuserve.http.worker.SeatWorker", 2, 1),
    "shared epoll, 2 workers x 2 threads": ("cpuserve.http.worker.SeatWorker", 2, 2),
    "gthread, 1 worker x 4 threads": ("gthread", 1, 4),
    "gthread, 2 workers x 2 threads": ("gthread", 2, 2),
    "asgi, 2 workers, inline": ("asgi", 2, 1),
}


class Shape(Server):
    """The server with another worker class of gunicorn.

    Args:
        settings: the settings in force.
        worker_class: ours, ``gthread`` or ``asgi``.
    """

    def __init__(self, settings: Settings, worker_class: str) -> None:
        self._worker_class = worker_class
        super().__init__(settings)

    def load_config(self) -> None:
        """As the server's, with that worker."""
        super().load_config()
        self.cfg.set("worker_class", self._worker_class)
        self.cfg.set("logger_class", _NoAccessLog)
        if self._worker_class == "gthread":
            self.cfg.set("threads", self.settings.threads)

    def load(self) -> Any:
        """The application, as the worker wants it."""
        adapter = {"asgi": _Inline, "gthread": _Wsgi}.get(self._worker_class)
        return self.application() if adapter is None else adapter(self.application())

    def application(self) -> Any:
        """The application of one worker."""
        return super().load()


class _NoAccessLog(Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's log without a line a request, which ours does not write either."""

    def access(self, *_: Any) -> None:
        """Write nothing."""


class _Wsgi:
    """A WSGI application that makes a call of each request."""

    def __init__(self, application: Callable[[Call], Reply]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith(("HTTP_", "CONTENT_")) and value
        }
        body = environ["wsgi.input"].read(int(headers.get("content-length", 0)))
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        reply = self._application(Call(method, path, query, headers, body))
        length = ("Content-Length", str(len(reply.body)))
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", [*reply.headers, length])
        return [reply.body]


class _Inline:
    """An ASGI callable that runs the application on the event loop itself."""

    def __init__(self, application: Callable[[Call], Reply]) -> None:
        self._application = application

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        reply = self._application(Call(scope["method"], scope["path"], query, sent, b"".join(parts)))
        length = ("content-length", str(len(reply.body)))
        headers = [(name.lower().encode(), value.encode()) for name, value in (*reply.headers, length)]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        await asyncio.sleep(0)


def main() -> None:
    """Measure every shape in turn, several rounds over, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--model", default="digits")
    parser.add_argument("--image", type=Path, default=Path("docs/seven.png"))
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    windows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for _ in range(given.rounds):
        for name, (worker_class, workers, threads) in SHAPES.items():
            settings = Settings(
                model_repository=given.model_repository, port=free_port(), workers=workers, threads=threads
            )
            measured = _measure(settings, worker_class, given)
            for label, window in measured.items():
                windows.setdefault(name, {}).setdefault(label, []).append(window)
    _show(windows)
    if given.out:
        client = "cpuserve.measuring.http_load on the same CPUs as the server"
        command = ["python", "-m", "benchmarks.shapes", *sys.argv[1:]]
        write_result(given.out, command, {"client": client, "windows": windows})


def _measure(settings: Settings, worker_class: str, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    with running(lambda: Shape(settings, worker_class), settings) as pid:
        target = Target("127.0.0.1", settings.port, f"/predictions/{given.model}", pid=pid)
        measure_window(target, [given.image], Load(connections=8), seconds=1)
        return {
            f"c{connections}": measure_window(
                target, [given.image], Load(connections=connections), seconds=given.seconds
            ).figures()
            for connections in given.connections
        }


@contextmanager
def running(make: Callable[[], Shape], settings: Settings) -> Iterator[int]:
    """A server in a process of its own as long as the context lasts.

    Args:
        make: the server, called in that process.
        settings: its own.

    Yields:
        Its process id.

    Raises:
        CpuserveError: it ended, or was not ready within a minute; the message has its last words.
    """
    with tempfile.TemporaryFile("w+") as log:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(log.fileno(), 2)
            code = 1
            try:
                make().run()
            except SystemExit as end:  # gunicorn's way out, of the workers too
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except CpuserveError as error:
                os.write(2, f"{error}\n".encode())
            finally:
                os._exit(code)  # nothing of the caller's is unwound in the child
        try:
            if not _becomes_ready(settings.port, settings.workers or 1, pid):
                log.seek(0)
                words = "".join(log.readlines()[-1:]).strip()
                raise CpuserveError(f"the server did not become ready: {words}")
            yield pid
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def _becomes_ready(port: int, workers: int, pid: int) -> bool:
    """Wait until that many ready answers came in a row, so that every worker is likely among them."""
    in_a_row, deadline = 0, time.monotonic() + 60
    while in_a_row < 20 * workers:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended or time.monotonic() > deadline:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                in_a_row += 1
        except (urllib.error.URLError, OSError):
            in_a_row = 0
            time.sleep(0.05)
    return True


def _show(windows: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    table = Table("shape", "load", "img/s", "CPU-ms", "p50", "p95", "p99 ms", "USS MiB", "foreign cores")
    for name, loads in windows.items():
        for label, rows in loads.items():
            keys = ("images_per_s", "cpu_ms", "p50_ms", "p95_ms", "p99_ms", "rss_mib", "foreign_cores")
            values = [f"{statistics.median(row[key] for row in rows):.2f}" for key in keys]
            table.add_row(name, label, *values)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
