"""Locks between the processes of a server: reloads under load hang nobody, and the arbiter waits for none."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.test_reload import SEVEN, put
from tests.servers import serving


def test_reloads_beside_requests_that_are_counted_by_client(tmp_path):
    """A loader waits for another worker's turn while requests there wait for the counts of this one."""
    repository = tmp_path / "models"
    repository.mkdir()
    put(repository, "digits", 1)
    arguments = ("--model-repository", str(repository), "--workers", "2", "--threads", "4")
    limits = ("--rate-limit", "1000000", "--rate-burst", "1000000")
    with serving(tmp_path / "log", *arguments, *limits, ready=2) as server:
        statuses, stop = [], threading.Event()

        def client():
            while not stop.is_set():
                statuses.append(server.post("/predictions/digits", SEVEN).status)

        with ThreadPoolExecutor(8) as clients:
            running = [clients.submit(client) for _ in range(8)]
            try:
                for version in (2, 3, 4, 5):
                    put(repository, "digits", version)
                    reloaded = server.post("/v1/config/reload", b"")
                    assert reloaded.status in (200, 201), reloaded.body
                    said = server.post("/predictions/digits", SEVEN).json()
                    assert said["version"] == str(version)
            finally:
                stop.set()
            for each in running:
                each.result()
        assert set(statuses) == {200}
        assert "Errno 35" not in server.text()
        assert len(server.workers()) == server.ready_workers() == 2


def opened_locks(pid):
    """How often a process has opened each lock: once where it inherits it, twice once it has been inside."""
    links = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]
    return Counter(link for link in links if link.startswith("/memfd:cpuserve-") and "-lock " in link)


def test_the_arbiter_enters_no_lock_of_its_workers(digits, tmp_path):
    """A worker that a signal stops inside would stop the arbiter too, which is to end such a worker."""
    arguments = ("--model-repository", str(digits), "--workers", "2", "--threads", "1", "--rate-limit", "99")
    with serving(tmp_path / "log", *arguments, ready=2) as server:
        (victim, other) = server.workers()
        os.kill(victim, signal.SIGKILL)
        server.settle(2, gone=[victim])
        assert server.post("/v1/config/reload", b"").status in (200, 201)
        assert set(opened_locks(other).values()) == {1, 2}  # it has been inside some
        os.kill(server.process.pid, signal.SIGHUP)
        server.settle(2, gone=[other])
        assert server.get("/metrics").status == 200
        assert set(opened_locks(server.process.pid).values()) == {1}
