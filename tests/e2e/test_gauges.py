"""Every gauge of a real server rises and falls again, whichever worker answers."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_reload import SEVEN, put
from tests.servers import serving


def samples(server, name):
    """Values of a metric by its labels."""
    text = server.get("/metrics").body.decode()
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.removesuffix("_total") == name.removesuffix("_total")
    }


def total(server, name):
    return sum(samples(server, name).values())


@pytest.fixture(scope="module")
def picture():
    grey = np.full((1500, 2000, 3), 99, np.uint8)
    return cv2.imencode(".jpg", grey)[1].tobytes()


@contextmanager
def clients(server, picture, count):
    """So many clients that send one request after the other."""
    stop = threading.Event()

    def client():
        while not stop.is_set():
            assert server.post("/predictions/digits", picture).status == 200

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(client) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
        for each in running:
            each.result()


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    log = tmp_path_factory.mktemp("gauges") / "log"
    with serving(log, "--model-repository", str(digits), "--workers", "2", "--threads", "1", ready=2) as one:
        yield one


@pytest.mark.parametrize("gauge", ["cpuserve_queue_depth", "ovms_current_requests"])
def test_what_counts_requests_rises_under_load_and_falls_without(server, picture, gauge):
    with clients(server, picture, 8):
        server.wait_until(lambda: total(server, gauge) > 0, f"any {gauge}")
    for _ in range(10):  # whichever worker answers
        assert total(server, gauge) == 0


def test_streams_leave_with_the_model_and_come_back(server):
    assert samples(server, "ovms_streams") == {("digits", "1"): 1.0}
    assert server.post("/v2/repository/models/digits/unload", b"").status == 200
    server.wait_until(lambda: samples(server, "ovms_streams") == {}, "without streams")
    assert server.post("/v2/repository/models/digits/load", b"").status == 200
    assert samples(server, "ovms_streams") == {("digits", "1"): 1.0}


def test_resident_memory_is_that_of_every_worker(server):
    def shown():
        return {int(pid): value for (pid,), value in samples(server, "process_resident_memory_bytes").items()}

    before = server.workers()
    for _ in range(10):
        assert sorted(shown()) == before
    assert min(shown().values()) > 10 << 20
    os.kill(before[0], signal.SIGKILL)
    server.settle(2, gone=before[:1])
    for _ in range(10):
        assert sorted(shown()) == server.workers() != before


def test_versions_that_are_no_longer_served_give_their_places_back(tmp_path):
    """`tests/serving/test_statistics.py` shows it for hundreds; nothing may keep a recorder of a version."""
    repository = tmp_path / "models"
    repository.mkdir()
    put(repository, "digits", 1)
    arguments = ("--model-repository", str(repository), "--workers", "2", "--threads", "1")
    with serving(tmp_path / "log", *arguments, ready=2) as server:
        for version in (2, 3, 4):
            put(repository, "digits", version)
            reloaded = server.post("/v1/config/reload", b"")
            assert reloaded.status == 201, reloaded.body
            assert server.post("/predictions/digits", SEVEN).json()["version"] == str(version)
        for metric in ("ovms_requests_success", "ovms_streams"):
            server.wait_until(
                lambda metric=metric: {labels[-1] for labels in samples(server, metric)} == {"4"},
                f"at one version in {metric}",
            )
        seen = server.get("/v2/models/stats").json()["model_stats"]
        assert [model["version"] for model in seen] == ["4"]
        assert server.get("/v2/models/digits/versions/3/stats").status == 404
