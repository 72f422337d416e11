"""A server that was started here is ready when the workers of all its seats are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.measuring import local_server
from tests.conftest import ROOT

PLAN = "[1] cpuserve.server: seat 0: CPUs 0, node 0\n[1] cpuserve.server: seat 1: CPUs 1-2,4, node 0\n"
READY = "INFO [{}] cpuserve.server: worker in seat {} (CPUs {}) ready at http://127.0.0.1:1\n"


def test_a_worker_that_is_slower_than_the_first_is_waited_for(tmp_path):
    log = tmp_path / "log"
    log.write_text(PLAN + READY.format(2, 0, "0"))
    waited = []
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:

        def second():
            time.sleep(0.2)
            waited.append("second")
            log.write_text(log.read_text() + READY.format(3, 1, "1-2,4"))

        thread = threading.Thread(target=second)
        thread.start()
        local_server._wait_ready(1, server, log)
        assert waited == ["second"]
        thread.join()


def test_a_server_that_ends_before_says_its_last_words(tmp_path):
    log = tmp_path / "log"
    log.write_text(PLAN + READY.format(2, 0, "0") + "the end\n")
    with subprocess.Popen([sys.executable, "-c", ""]) as server:
        server.wait()
        with pytest.raises(CpuserveError, match="did not start: the end"):
            local_server._wait_ready(1, server, log)


def test_both_workers_serve_when_it_is_yielded(tmp_path):
    words = ("--model-repository", str(ROOT / "ir_models"), "--workers", "2")
    with local_server.started_server(tmp_path / "log", *words) as server:
        assert local_server._all_ready(server.log.read_text())
