"""Versions come and go under load: nothing is lost, nothing is mixed, nothing broken is served."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.servers import serving

ROOT = Path(__file__).resolve().parent.parent.parent
SEVEN = (ROOT / "docs" / "seven.png").read_bytes()


def put(repository, name, version, source=ROOT / "ir_models" / "digits" / "1"):
    """Publish a version as users' scripts do: beside, then renamed."""
    beside = repository / f".{name}-{version}"
    shutil.copytree(source, beside)
    (repository / name).mkdir(exist_ok=True)
    beside.rename(repository / name / str(version))


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    put(root, "digits", 1)
    return root


def version_of(server, path="/predictions/digits"):
    got = server.post(path, SEVEN)
    assert got.status == 200, got.body
    assert got.json()["predictions"][0]["label"] == "7"
    return got.json()["version"]


def test_a_new_version_takes_over_and_an_old_one_leaves_without_a_lost_request(repository, tmp_path):
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0.2")
    with serving(tmp_path / "log", *arguments, ready=min(2, len(os.sched_getaffinity(0)))) as server:
        seen, stop = [], threading.Event()

        def client():
            while not stop.is_set():
                got = server.post("/predictions/digits", SEVEN)
                seen.append((got.status, got.json().get("version")))

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client) for _ in range(4)]
            for version in (2, 3, 4):
                put(repository, "digits", version)
                wanted = {str(version)}
                server.wait_until(lambda wanted=wanted: {v for _, v in seen[-8:]} == wanted, f"at {wanted}")
                shutil.rmtree(repository / "digits" / str(version - 1))
            stop.set()
            for each in clients:
                each.result()
        assert {status for status, _ in seen} == {200}
        assert {version for _, version in seen} == {"1", "2", "3", "4"}
        assert server.post("/predictions/digits/1", SEVEN).status == 404


def test_a_broken_version_never_takes_the_place_of_a_good_one_and_says_why(repository, tmp_path):
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0.2")
    with serving(tmp_path / "log", *arguments) as server:
        broken = tmp_path / "broken"
        shutil.copytree(repository / "digits" / "1", broken)
        (broken / "model.bin").write_bytes((broken / "model.bin").read_bytes()[:1000])
        put(repository, "digits", 2, broken)
        refusals, workers = "version 2 is not served", len(server.workers())
        server.wait_until(lambda: server.text().count(refusals) == workers, "told of the broken version")
        assert version_of(server) == "1"
        index = server.post("/v2/repository/index", b"").json()
        states = {row["version"]: row for row in index}
        assert states["1"]["state"] == "READY"
        assert states["2"]["state"] == "UNAVAILABLE"
        assert states["2"]["reason"]
        assert server.get("/v2/health/ready").status == 200
        got = server.post("/predictions/digits/2", SEVEN)
        assert got.status == 503
        assert states["2"]["reason"] in got.json()["error"]
        shutil.rmtree(repository / "digits" / "2")
        put(repository, "digits", 3)
        server.wait_until(lambda: version_of(server) == "3", "at the repaired version")


def test_a_server_that_starts_with_a_broken_newest_version_serves_the_newest_that_loads(repository, tmp_path):
    put(repository, "digits", 2)
    (repository / "digits" / "2" / "model.xml").write_text("<net>")
    with serving(tmp_path / "log", "--model-repository", str(repository), "--workers", "1") as server:
        assert version_of(server) == "1"


@pytest.mark.parametrize(
    ("policy", "served"),
    [("all", {1, 2, 3}), ("latest:2", {2, 3}), ("specific:1,3", {1, 3}), ("latest", {3})],
)
def test_version_policies(repository, tmp_path, policy, served):
    put(repository, "digits", 2)
    put(repository, "digits", 3)
    arguments = ("--model-repository", str(repository), "--model-version-policy", policy, "--workers", "1")
    with serving(tmp_path / "log", *arguments) as server:
        for version in (1, 2, 3):
            status = server.post(f"/predictions/digits/{version}", SEVEN).status
            assert status == (200 if version in served else 404)
        assert version_of(server) == "3"
        metadata = server.get("/v2/models/digits").json()
        assert metadata["versions"] == [str(version) for version in sorted(served)]


def test_load_unload_and_index_by_the_triton_client_reach_every_worker(repository, tmp_path):
    put(repository, "other", 1)
    workers = min(2, len(os.sched_getaffinity(0)))
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0")
    with serving(tmp_path / "log", *arguments, ready=workers) as server:
        client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")

        def statuses():  # many connections: every worker answers some
            return {server.post("/predictions/other", SEVEN).status for _ in range(12)}

        assert statuses() == {200}
        client.unload_model("other")
        assert statuses() == {404}
        assert not client.is_model_ready("other")
        index = {row["name"]: row for row in client.get_model_repository_index()}
        assert (index["other"]["state"], index["other"]["reason"]) == ("UNAVAILABLE", "unloaded")
        assert version_of(server) == "1"
        client.load_model("other")
        assert statuses() == {200}
        with pytest.raises(InferenceServerException, match="nothing"):
            client.load_model("nothing")
        with pytest.raises(InferenceServerException, match="unknown key"):
            client.load_model("other", config='{"max_batch_size": 1}')
        client.close()


def test_reload_says_whether_something_changed(repository, tmp_path):
    arguments = ("--model-repository", str(repository), "--file-system-poll-wait-seconds", "0")
    with serving(tmp_path / "log", *arguments) as server:
        assert server.post("/v1/config/reload", b"").status == 200
        put(repository, "digits", 2)
        assert version_of(server) == "1"
        got = server.post("/v1/config/reload", b"")
        assert got.status == 201
        (status,) = got.json()["digits"]["model_version_status"]
        assert (status["version"], status["state"]) == ("2", "AVAILABLE")
        assert version_of(server) == "2"
