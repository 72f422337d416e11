"""Clients that take all they can get, a worker that is stopped: whoever asks politely is answered."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers import Server, serving

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ("--model-repository", str(ROOT / "ir_models"))
SEVEN = (ROOT / "docs" / "seven.png").read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers of one thread, with few connections and a short queue; anyone may set priorities."""
    log = tmp_path_factory.mktemp("crowds") / "log"
    words = ("--workers", "2", "--threads", "1", "--max-connections", "60", "--queue-size", "16")
    with serving(log, *MODELS, *words, "--priority-from", "anyone", ready=2) as running:
        yield running


@contextmanager
def crowd(count: int, ask: Callable[[], None]) -> Iterator[None]:
    """So many clients that do nothing but ask, until the context ends."""
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            try:
                ask()
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)  # refused: it tries again

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def polite(server: Server, times: int = 20) -> None:
    """Ask for a prediction and for health, each over a connection of its own."""
    for _ in range(times):
        # another address: else it would be one client with those who crowd
        with closing(
            http.client.HTTPConnection("127.0.0.1", server.port, 60, source_address=("127.0.0.2", 0))
        ) as connection:
            connection.request("POST", "/predictions/digits", SEVEN)
            assert connection.getresponse().status == 200
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            connection.request("GET", "/v2/health/live")
            assert connection.getresponse().status == 200


@pytest.mark.parametrize(
    ("count", "ask"),
    [
        (16, lambda server: server.get("/metrics")),
        (
            40,
            lambda server: server.request("POST", "/predictions/digits", SEVEN, {"X-Request-Priority": "1"}),
        ),
        (40, lambda server: server.post("/predictions/digits", SEVEN)),
        (8, lambda server: server.post("/v2/repository/models/digits/load", b"")),
    ],
    ids=["metrics", "priority", "predictions", "load"],
)
def test_a_crowd_keeps_nobody_waiting(server, count, ask):
    workers = server.workers()
    with crowd(count, lambda: ask(server)):
        polite(server)
    assert server.workers() == workers


def test_idle_connections_give_way_and_the_log_says_so(server):
    workers = server.workers()
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(200)]
        polite(server)
        closed = 0
        for sock in idle:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                closed += not sock.recv(1)
        assert closed >= 200 - 2 * 60
    assert "the limit of a worker is reached (setting max_connections, 60)" in server.text()
    assert server.workers() == workers


def test_a_stopped_worker_is_told_and_others_take_its_connections(server):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two seats need two CPUs")
    stopped, other = server.workers()
    os.kill(stopped, signal.SIGSTOP)
    try:
        text = f"(pid {stopped}) does not run: others take new connections in its place"
        server.wait_until(lambda: text in server.text(), "told that a worker is stopped")
        polite(server)
        findings = server.get("/v2/placement").json()["findings"]
        (found,) = [one for one in findings if f"(pid {stopped}): the worker does not run" in one["text"]]
        assert found["level"] == "red"
        assert f"kill -CONT {stopped}" in found["advice"]
    finally:
        os.kill(stopped, signal.SIGCONT)
    server.wait_until(
        lambda: (
            not [
                one for one in server.get("/v2/placement").json()["findings"] if "does not run" in one["text"]
            ]
        ),
        "told that it goes on",
    )
    assert server.workers() == [stopped, other]
