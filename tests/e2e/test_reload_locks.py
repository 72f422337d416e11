"""Workers of several threads reload under load with the rate limit on, and none hangs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

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
