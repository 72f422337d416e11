"""SIGTERM and Ctrl-C under load: what was begun is finished, no client sees a reset, the code says which."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from tests.e2e.test_reload import SEVEN, repository  # noqa: F401  # a fixture
from tests.servers import serving


def end(server, sign):
    """Send a signal as init does, or Ctrl-C as a terminal does: to every process."""
    for pid in [server.process.pid, *server.workers()] if sign == signal.SIGINT else [server.process.pid]:
        os.kill(pid, sign)


@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_no_client_sees_a_reset(repository, tmp_path, sign, code):  # noqa: F811
    with serving(tmp_path / "log", "--model-repository", str(repository)) as server:
        answered, refused, broken = [], [], []
        begun = threading.Barrier(9)

        def client():
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
                ask(connection)

        def ask(connection):
            begun.wait()
            while not refused and len(answered) < 100_000:
                try:
                    connection.request("POST", "/predictions/digits", SEVEN)
                    answer = connection.getresponse()
                    text = answer.read()
                    answered.append((answer.status, answer.headers["Connection"], text))
                except ConnectionRefusedError as error:
                    refused.append(error)
                except (OSError, http.client.HTTPException) as error:
                    broken.append(error)
                    return

        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(client) for _ in range(8)]
            begun.wait()
            server.wait_until(lambda: len(answered) > 50, "answering")
            end(server, sign)
            for each in clients:
                each.result()
        assert not broken
        assert refused
        assert {status for status, _, _ in answered} == {200}, [a for a in answered if a[0] != 200][:3]
        assert "close" in {word for _, word, _ in answered}
        assert server.process.wait(timeout=30) == code
        assert "cut off" not in server.text()


def test_a_second_ctrl_c_waits_for_nobody(repository, tmp_path):  # noqa: F811
    arguments = ("--model-repository", str(repository), "--workers", "1", "--shutdown-timeout-s", "60")
    with (
        serving(tmp_path / "log", *arguments) as server,
        closing(socket.create_connection(("127.0.0.1", server.port))) as half,
    ):
        half.sendall(b"POST /predictions/digits HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n1234")
        end(server, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(timeout=3)
        end(server, signal.SIGINT)
        assert server.process.wait(timeout=20) == 130


def test_a_request_that_is_half_sent_is_still_answered_and_readiness_ends_at_once(repository, tmp_path):  # noqa: F811
    with (
        serving(tmp_path / "log", "--model-repository", str(repository), "--workers", "1") as server,
        ExitStack() as stack,
    ):
        half = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        asking = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        head = b"POST /predictions/digits HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SEVEN)
        half.sendall(head + SEVEN[:100])
        asking.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in asking.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        answer = b"200 OK"
        while b"200 OK" in answer:  # until the worker has heard of it
            asking.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = asking.recv(1000)
        assert b"503" in answer.splitlines()[0]
        assert b"stopping" in answer
        half.sendall(SEVEN[100:])
        answer = half.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in answer
        assert server.process.wait(timeout=30) == 0


def test_hup_hands_over_without_a_refusal(repository, tmp_path):  # noqa: F811
    """Each old worker serves until the new one in its seat is ready, also when HUP comes twice."""
    with serving(tmp_path / "log", "--model-repository", str(repository)) as server:
        found, ready, end = [], [], threading.Event()

        def client():
            while not end.is_set():
                with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
                    for _ in range(20):
                        try:
                            connection.request("POST", "/predictions/digits", SEVEN)
                            found.append(connection.getresponse().read())
                            connection.request("GET", "/v2/health/ready")
                            ready.append(connection.getresponse().read())
                        except (OSError, http.client.HTTPException) as error:
                            found.append(error)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client) for _ in range(4)]
            before = set(server.workers())
            for times in (1, 2):
                for _ in range(times):
                    server.process.send_signal(signal.SIGHUP)
                    time.sleep(0.3)
                server.settle(len(before), before)
                before = set(server.workers())
            end.set()
            for each in clients:
                each.result()
        wrong = [answer for answer in found if not (isinstance(answer, bytes) and b'"label":"7"' in answer)]
        assert not wrong, wrong[:3]
        assert found
        assert set(ready) == {b'{"ready":true}'}, set(ready)
        assert server.stop() == 0
