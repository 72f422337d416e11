"""A server whose model comes later waits for it where KServe says so, and nowhere else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from cpuserve.models.late_models import wait_for_models
from tests.conftest import ROOT
from tests.servers import Server, free_port

LATE = {"MODEL_INIT_MODE": "async"}


@pytest.mark.parametrize("environ", [{}, {"MODEL_INIT_MODE": "sync"}])
def test_nobody_waits_elsewhere(tmp_path, environ):
    wait_for_models(tmp_path / "none", environ, pytest.fail)


def test_nobody_waits_for_what_is_there(tmp_path):
    (tmp_path / "model.onnx").touch()
    wait_for_models(tmp_path, LATE, pytest.fail)
    wait_for_models(tmp_path / "model.onnx", LATE, pytest.fail)


@pytest.mark.parametrize("first", ["nothing", "empty", "dangling"])
def test_what_is_not_there_yet_is_waited_for(tmp_path, first):
    place, car = tmp_path / "models", tmp_path / "car"
    if first == "empty":
        place.mkdir()
    elif first == "dangling":
        place.symlink_to(car)
    said, told = [], threading.Event()

    def come():
        told.wait(30)
        (car / "1").mkdir(parents=True)
        if first == "empty":
            (place / "1").mkdir()
        elif first == "nothing":
            place.symlink_to(car)

    with_model = threading.Thread(target=come)
    with_model.start()
    wait_for_models(place, LATE, lambda line: (said.append(line), told.set()))
    with_model.join()
    why = "it is empty" if first == "empty" else "no such file or directory"
    assert said == [f"waiting for models in {place} ({why}), which come later by MODEL_INIT_MODE=async"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_place_that_may_not_be_read_is_said_with_whose_it_is(tmp_path, monkeypatch):
    """As root a test can read everything, so the kernel's answer is made."""
    place = tmp_path / "models"
    said = []

    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    def allow(line):
        said.append(line)
        monkeypatch.undo()
        place.mkdir()
        (place / "1").mkdir()

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    wait_for_models(place, LATE, allow)
    assert f"user {os.geteuid()} may not read it; KServe's setting uidModelcar" in said[0]


@pytest.fixture
def waiting(tmp_path):
    """A server as KServe starts it, whose model is a link to nowhere."""
    (tmp_path / "models").symlink_to(tmp_path / "car")
    log, port = tmp_path / "log", free_port()
    words = ["--model_name=digits", f"--model_path={tmp_path / 'models'}", f"--rest_port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpuserve", *words, "--workers", "1"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **LATE, "CPUSERVE_PRESET": "off"},
        )
    server = Server(process, port, log)
    server.wait_until(lambda: "waiting for models" in server.text(), "waiting")
    yield server
    if process.poll() is None:
        server.stop()


def test_a_server_serves_once_its_model_is_there(waiting, tmp_path):
    shutil.copytree(ROOT / "ir_models" / "digits" / "1", tmp_path / "beside" / "1")
    (tmp_path / "beside").rename(tmp_path / "car")
    waiting.wait_until(waiting.ready_workers, "ready")
    assert waiting.get("/v2/models/digits/ready").status == 200
    got = waiting.post("/predictions/digits", (ROOT / "docs" / "seven.png").read_bytes())
    assert got.json()["predictions"][0]["label"] == "7"
    assert waiting.stop() == 0


def test_a_server_that_waits_ends_at_sigterm(waiting):
    assert waiting.stop() == 0
