"""A server is started, found ready, started again when it is killed, and ended with its keeper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from cpuserve.client import Client
from cpuserve.cluster.server_keeper import ServerKeeper, ServerSpec, server_environment
from tests.conftest import ROOT

SPEC = ServerSpec(("digits", "--model-repository", "ir_models", "--workers", "1"), str(ROOT))


def wait_for(keeper, wanted):
    due = time.monotonic() + 90
    while not wanted(keeper.status()):
        assert time.monotonic() < due, keeper.status()
        time.sleep(0.05)
    return keeper.status()


def test_a_killed_server_is_started_again_and_ends_with_its_keeper():
    keeper = ServerKeeper(SPEC, "127.0.0.1", None, first_pause_s=0.01)
    try:
        first = wait_for(keeper, lambda known: known.ready)
        assert (first.models, first.restarts) == (["digits"], 0)
        os.kill(first.pid, signal.SIGKILL)
        second = wait_for(keeper, lambda known: known.ready and known.restarts == 1)
        with Client(second.url) as client:
            picture = (ROOT / "docs" / "seven.png").read_bytes()
            assert client.predict("digits", picture)["predictions"][0]["label"] == "7"
    finally:
        keeper.stop()
    assert not psutil.pid_exists(second.pid)


def test_a_server_that_cannot_start_says_why_and_is_tried_again():
    keeper = ServerKeeper(ServerSpec(("no_such_model",), str(ROOT)), "127.0.0.1", None, first_pause_s=0.01)
    try:
        known = wait_for(keeper, lambda known: known.restarts >= 2 and "no_such_model" in known.reason)
        assert not known.ready
    finally:
        keeper.stop()


def test_the_server_of_a_keeper_that_is_killed_ends(tmp_path):
    program = (
        "import sys, time\n"
        "from cpuserve.cluster.server_keeper import ServerKeeper, ServerSpec\n"
        f"keeper = ServerKeeper(ServerSpec({SPEC.words!r}, {SPEC.folder!r}), '127.0.0.1', None)\n"
        "while not keeper.status().ready: time.sleep(0.05)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(keeper.status().pid))\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    try:
        due = time.monotonic() + 90
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < due
            time.sleep(0.05)
        server = psutil.Process(int((tmp_path / "pid").read_text()))
    finally:
        process.kill()
        process.wait()
    psutil.wait_procs([server], timeout=30)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_the_environment_has_nothing_of_ray():
    environ = {"PATH": "x", "OMP_NUM_THREADS": "1", "RAY_JOB_ID": "2", "CPUSERVE_STREAMS": "3"}
    assert server_environment(environ) == {"PATH": "x", "CPUSERVE_STREAMS": "3"}


@pytest.mark.parametrize("host", ["127.0.0.1"])
def test_ports_follow_the_first_one(host):
    keeper = ServerKeeper(ServerSpec(("no_such_model",), "", 18000), host, None, place=1, first_pause_s=0.01)
    try:
        known = wait_for(keeper, lambda known: known.restarts >= 1)
        assert known.url == f"http://{host}:18001"
    finally:
        keeper.stop()
