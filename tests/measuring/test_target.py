"""Who listens at a URL, what it is asked, and what is said where that cannot be seen."""

import os
import socket
import subprocess
import sys

import pytest

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.measuring.target import ask_once, listening_pid, target_at
from tests.measuring.conftest import Handler
from tests.servers import free_port

FORKED = """
import os, socket, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
pids = []
for _ in range(2):
    pids.append(os.fork())
    if not pids[-1]:
        time.sleep(60)
print(listener.getsockname()[1], *pids, flush=True)
sys.stdin.read()
for pid in pids:
    os.kill(pid, 9)
"""


def test_the_arbiter_is_found_above_the_workers_that_share_its_socket():
    with subprocess.Popen(
        [sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        port = int(process.stdout.readline().split()[0])
        assert listening_pid("127.0.0.1", port) == (process.pid, "")
        process.stdin.close()


def test_what_cannot_be_seen_is_said():
    assert listening_pid("192.0.2.1", 80) == (None, "192.0.2.1 is another machine")
    port = free_port()
    pid, why = listening_pid("127.0.0.1", port)
    assert pid is None
    assert f"port {port}" in why


def test_the_only_model_need_not_be_named(plain):
    url = f"http://127.0.0.1:{plain.server_port}"
    target = target_at(url, None, "predictions")
    assert (target.path, target.pid) == ("/predictions/only", os.getpid())
    target = target_at(url, "other", "v2")
    assert target.path == "/v2/models/other/infer"
    assert target.headers["Inference-Header-Content-Length"] == "0"


def test_a_model_that_must_be_named(plain, monkeypatch):
    monkeypatch.setattr(Handler, "statuses", {b"{}": 404})
    with pytest.raises(UsageError, match="--model"):
        target_at(f"http://127.0.0.1:{plain.server_port}", None, "predictions")


def test_a_refusal_is_said_before_anything_is_measured(plain, monkeypatch, tmp_path):
    picture = tmp_path / "p.jpg"
    picture.write_bytes(b"no picture")
    target = target_at(f"http://127.0.0.1:{plain.server_port}", "m", "predictions")
    ask_once(target, picture)
    monkeypatch.setattr(Handler, "statuses", {b"no picture": 400})
    with pytest.raises(CpuserveError, match=r"p\.jpg with 400: xxx"):
        ask_once(target, picture)


@pytest.mark.parametrize("url", ["https://h:1", "http://h:1/path", "http://:80", "http://h:99999"])
def test_what_is_no_url_of_a_server(url):
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        target_at(url, "m", "predictions")


def test_nobody_there():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(CpuserveError, match="does not answer"):
            target_at(f"http://127.0.0.1:{sock.getsockname()[1]}", None, "predictions")
