"""A server that is stopped while it loads, or stands still as a whole, ends and goes on as it should."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.test_reload import SEVEN, put, version_of
from tests.servers import Server, free_port, serving

UNCHECKED = {"CPUSERVE_CHECK_MODELS_IN_CHILD": "false"}  # the models are loaded once: by the workers
QUICKER = ("vww_96_int8", "deeplabv3_257_mv_gpu")  # two models, of which the second compiles for longer


@pytest.fixture
def loading(tmp_path):
    """Starts a server with real models and returns while some of them compile."""
    started = []

    def start(models, *arguments, **environment):
        log = tmp_path / f"log{len(started)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cpuserve", "serve", "--port", str(free_port())),
                    *("--model-repository", str(models), *arguments),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CPUSERVE_PRESET": "off", **environment},
                start_new_session=True,
            )
        started.append(process)
        return Server(process, 0, log)

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def assert_ended_well(server, code=0):
    assert server.process.wait(timeout=60) == code
    text = server.text()
    assert "terminate called" not in text
    assert "was sent SIG" not in text, text
    assert not re.findall(r"Worker \(pid:\d+\) exited with code [^0]", text), text


@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_server_that_is_stopped_while_it_compiles_ends_in_order(repository, loading, sign, code):
    for delay_s, environment in ((0, {}), (0.5, {}), (None, {}), (None, UNCHECKED)):
        server = loading(repository, *([] if delay_s is None else QUICKER), **environment)
        if delay_s is None:
            server.wait_until(lambda server=server: "ready after" in server.text(), "loading")
        else:
            server.wait_until(lambda server=server: "Booting worker" in server.text(), "starting")
            time.sleep(delay_s)  # while modules are imported
        # Ctrl-C in a terminal reaches every process
        os.killpg(server.process.pid, sign) if sign == signal.SIGINT else server.process.send_signal(sign)
        assert_ended_well(server, code)


def test_a_server_that_is_stopped_while_a_reload_compiles_ends_with_0(repository, loading):
    for turn, environment in enumerate(({}, UNCHECKED)):
        server = loading(repository, *QUICKER, "--file-system-poll-wait-seconds", "0.1", **environment)
        server.wait_until(lambda server=server: server.ready_workers(), "ready")
        loaded = server.text().count("ready after")
        if turn % 2:
            server.process.send_signal(signal.SIGHUP)
            said = server.text().count("Booting worker")
            server.wait_until(
                lambda server=server, said=said: server.text().count("Booting worker") > said, "replacing"
            )
        else:
            for file in repository.glob("*/*/model.xml"):
                os.utime(file)
        server.wait_until(
            lambda server=server, loaded=loaded: server.text().count("ready after") > loaded, "reloading"
        )
        server.process.send_signal(signal.SIGTERM)
        assert_ended_well(server)


def test_a_signal_that_comes_right_after_the_fork_is_not_lost(tmp_path):
    models, marker = tmp_path / "models", tmp_path / "marker"
    models.mkdir()
    put(models, "digits", 1)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, signal\n"
        "import cpuserve.server.gunicorn_server as server\n"
        "def sit(seat, sit=server.numa.bind_to_seat):\n"
        f"    marker = pathlib.Path({str(marker)!r})\n"
        "    if not marker.exists():\n"
        "        marker.write_text(str(os.getpid()))\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return sit(seat)\n"
        "server.numa.bind_to_seat = sit\n"
    )
    arguments = ("--model-repository", str(models), "--workers", "1")
    with serving(tmp_path / "log", *arguments, PYTHONPATH=str(tmp_path)) as server:
        (worker,) = server.workers()
        assert worker != int(marker.read_text())
        assert server.stop() == 0
        assert f"Worker exiting (pid: {worker})" in server.text()  # it waited for no successor


PATIENCE_S = 6


@pytest.fixture
def hasty(tmp_path):
    """A server whose arbiter kills a worker that is silent for a few seconds."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import cpuserve.server.gunicorn_server as server\nserver._HEARTBEAT_S = {PATIENCE_S}\n"
    )
    models = tmp_path / "models"
    models.mkdir()
    put(models, "digits", 1)
    arguments = ("--model-repository", str(models), "--workers", "1")
    with serving(tmp_path / "log", *arguments, PYTHONPATH=str(tmp_path)) as server:
        yield server


def test_nobody_is_killed_because_the_whole_machine_stood_still(hasty):
    everybody = [hasty.process.pid, *hasty.workers()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(PATIENCE_S + 4)
    for pid in everybody:  # the arbiter first: it finds heartbeats that are old
        os.kill(pid, signal.SIGCONT)
    hasty.wait_until(lambda: "stood still" in hasty.text(), "going on")
    assert version_of(hasty) == "1"
    time.sleep(3)  # looks of the arbiter, of which none may be a kill
    assert "WORKER TIMEOUT" not in hasty.text()
    assert hasty.workers() == everybody[1:]
    assert hasty.post("/predictions/digits", SEVEN).status == 200


def test_a_worker_that_stands_still_alone_is_replaced(hasty):
    (worker,) = hasty.workers()
    os.kill(worker, signal.SIGSTOP)
    hasty.settle(1, [worker])
    assert "WORKER TIMEOUT" in hasty.text()
    assert version_of(hasty) == "1"
