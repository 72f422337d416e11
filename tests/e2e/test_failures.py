"""A model that fails, and a repository that is away, take nothing else along."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.e2e.test_reload import SEVEN, put, repository, version_of  # noqa: F401  # a fixture
from tests.servers import serving

WORKERS = min(2, len(os.sched_getaffinity(0)))


def model_states(server):
    """Workers by (name, version, state), and the reasons."""
    text = server.get("/metrics").body.decode()
    (family,) = (one for one in text_string_to_metric_families(text) if one.name == "cpuserve_model_state")
    workers, reasons = {}, {}
    for sample in family.samples:
        key = tuple(sample.labels[name] for name in ("name", "version", "state"))
        workers[key] = workers.get(key, 0) + sample.value
        reasons[key] = sample.labels["reason"]
    return workers, reasons


@pytest.fixture
def tail(tmp_path):
    """A module with a tail, and a version in which digits is cut before its last operation and has it."""
    module = tmp_path / "e2e_tail.py"
    good = (
        "import numpy as np\n\n\ndef softmax(x):\n    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)\n"
    )
    module.write_text(good)
    made = tmp_path / "cut"
    shutil.copytree(ROOT / "ir_models" / "digits", made / "digits")
    words = ("cut", "digits", "--name", "cut", "--output", "254", "--tail", "e2e_tail:softmax", "--quiet")
    subprocess.run(
        [*(sys.executable, "-m", "cpuserve", *words), "--model-repository", str(made), "--allow-callables"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    return module, good, made / "cut" / "1"


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyError('spread')"])
def test_a_tail_that_cannot_be_imported_takes_nothing_along(repository, tmp_path, tail, raised):  # noqa: F811
    module, good, version = tail
    module.write_text(f"raise {raised}  # at the import\n")
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0.2")
    arguments += ("--allow-callables",)
    with serving(tmp_path / "log", *arguments, ready=WORKERS, PYTHONPATH=str(tmp_path)) as server:
        put(repository, "a_cut", 1, version)
        broken, kind = ("a_cut", "1", "UNAVAILABLE"), raised.partition("(")[0]
        server.wait_until(lambda: model_states(server)[0].get(broken) == WORKERS, "told by all workers")
        workers, reasons = model_states(server)
        assert workers["digits", "1", "READY"] == WORKERS
        assert f"e2e_tail:softmax cannot be imported: {kind}" in reasons[broken]
        index = {row["name"]: row for row in server.post("/v2/repository/index", b"").json()}
        assert index["a_cut"]["state"] == "UNAVAILABLE"
        assert kind in index["a_cut"]["reason"]
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json()["ready"]) == (200, True)
        assert kind in ready.json()["models"]["a_cut"]
        assert version_of(server) == "1"
        put(repository, "digits", 2)  # what comes after it in the alphabet is followed
        server.wait_until(lambda: version_of(server) == "2", "at version 2")
        got = server.post("/v2/repository/models/a_cut/load", b"")  # the client itself gives up after 60 s
        assert got.status == 503
        assert kind in got.json()["error"]
        module.write_text(good)
        assert server.post("/v2/repository/models/a_cut/load", b"").status == 200
        assert {version_of(server, "/predictions/a_cut") for _ in range(8)} == {"1"}
        assert server.get("/v2/health/ready").json() == {"ready": True}
        module.write_text(f"raise {raised}  # at the next import")
        assert set(server.workers()) == set(server.seats())
        assert server.stop() == 0


def test_strict_readiness_wants_every_model(repository, tmp_path):  # noqa: F811
    put(repository, "other", 1)
    (repository / "other" / "1" / "model.xml").write_text("<net>")
    arguments = ("--model-repository", str(repository), "--workers", "1", "--strict-readiness")
    with serving(tmp_path / "log", *arguments, ready=0) as server:
        server.wait_until(lambda: "models that are not ready" in server.text(), "up")
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert "cannot be read" in ready.json()["models"]["other"]
        assert str(repository) not in ready.body.decode()
        assert version_of(server) == "1"


def test_a_load_names_the_version_that_failed_and_the_one_that_is_served(repository, tmp_path):  # noqa: F811
    with serving(tmp_path / "log", "--model-repository", str(repository)) as server:
        put(repository, "digits", 2)
        (repository / "digits" / "2" / "model.xml").write_text("<net>")
        got = server.post("/v2/repository/models/digits/load", b"")
        assert got.status == 503
        assert "version 2: " in got.json()["error"]
        assert "served: version 1" in got.json()["error"]
        assert str(repository) not in got.json()["error"]
        assert version_of(server) == "1"


def test_a_repository_that_is_away_for_a_while_stops_nothing(repository, tmp_path):  # noqa: F811
    """Not the workers that are there, nor a replacement for one that is killed, nor those of a reload."""
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0.2")
    with serving(tmp_path / "log", *arguments, "--removal-grace-s", "0", ready=WORKERS) as server:
        before = set(server.workers())
        aside = repository.with_name("aside")
        repository.rename(aside)
        # whichever worker answers
        said = "model repository: "
        server.wait_until(lambda: server.text().count(said) >= WORKERS, "told that it is missing")
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json()["ready"]) == (200, True)
        assert "missing" in ready.json()["models"]["model repository"]
        assert {version_of(server) for _ in range(8)} == {"1"}
        assert server.post("/v2/repository/models/digits/load", b"").status in (404, 503)
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: server.text().count("no model in") >= WORKERS, "new workers waiting")
        assert before <= set(server.workers())  # they go on until their successors can
        assert {version_of(server) for _ in range(8)} == {"1"}
        repository.mkdir()
        assert {version_of(server) for _ in range(8)} == {"1"}
        repository.rmdir()
        aside.rename(repository)
        server.settle(WORKERS, before)
        assert {version_of(server) for _ in range(8)} == {"1"}
        server.wait_until(
            lambda: server.get("/v2/health/ready").json() == {"ready": True}, "without a complaint"
        )
        assert server.stop() == 0


def test_a_removed_model_is_served_on_and_an_unload_acts_at_once(repository, tmp_path):  # noqa: F811
    put(repository, "other", 1)
    put(repository, "third", 1)
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0.2")
    with serving(tmp_path / "log", *arguments, "--removal-grace-s", "100000", ready=WORKERS) as server:
        shutil.rmtree(repository / "other")
        shutil.rmtree(repository / "third")
        server.wait_until(lambda: server.text().count("other was removed") == WORKERS, "seen")
        assert {server.post("/predictions/other", SEVEN).status for _ in range(8)} == {200}
        assert server.post("/v2/repository/models/other/unload", b"").status == 200
        assert {server.post("/predictions/other", SEVEN).status for _ in range(8)} == {404}
        assert {server.post("/predictions/third", SEVEN).status for _ in range(8)} == {200}
    (repository / "second").mkdir()
    arguments = ("--model-repository", str(repository), "--removal-grace-s", "0")
    put(repository, "other", 1)
    with serving(tmp_path / "log", *arguments, ready=WORKERS) as server:
        shutil.rmtree(repository / "other")
        server.wait_until(lambda: server.post("/predictions/other", SEVEN).status == 404, "unloaded")


def test_an_empty_repository_says_what_it_ignores(tmp_path):
    root = tmp_path / "models"
    (root / "m" / "v1").mkdir(parents=True)
    (root / "my model" / "1").mkdir(parents=True)
    (root / "t" / "1").mkdir(parents=True)
    for file in ("model.xml", "t/1/model.pt"):
        (root / file).touch()
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", "serve", "--port", "0", "--model-repository", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    for path, reason in (
        ("m/v1", "whole number from 1"),
        ("my model", "letters, digits"),
        ("t/1", "cpuserve convert"),
        ("model.xml", "NAME/VERSION/"),
    ):
        assert f"{path} (" in done.stderr
        assert reason in done.stderr
