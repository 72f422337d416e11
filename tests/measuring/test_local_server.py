"""A server that was started here is ready when the workers of all its seats are, and says why it is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.measuring import local_server
from cpuserve.serving.find_servers import find_servers
from tests.conftest import ROOT

MODELS = str(ROOT / "ir_models")


@pytest.mark.parametrize(
    ("states", "ready"),
    [
        (None, False),
        (["ready"], True),
        (["ready", "loading"], False),
        (["ready", "empty"], False),
        (["ready", "ready"], True),
    ],
)
def test_a_worker_that_is_slower_than_the_first_is_waited_for(monkeypatch, states, ready):
    def find_only(pids):
        assert pids == [7]
        workers = [SimpleNamespace(state=state) for state in states or ()]
        return [SimpleNamespace(workers=workers)] if states else []

    monkeypatch.setattr(local_server, "find_servers", find_only)
    assert local_server._all_ready(7) is ready


def test_a_server_that_ends_before_says_its_last_words(tmp_path):
    words = ("--model-repository", str(tmp_path))
    with (
        pytest.raises(CpuserveError, match=r"on port \d+ did not start: cpuserve: error: no model in"),
        local_server.started_server(*words),
    ):
        pass


def test_a_server_without_a_model_that_works_says_why(tmp_path):
    (tmp_path / "bad" / "1").mkdir(parents=True)
    for ending in ("xml", "bin"):
        (tmp_path / "bad" / "1" / f"model.{ending}").write_text("no model")
    words = ("--model-repository", str(tmp_path), "--workers", "1")
    with (
        pytest.raises(CpuserveError, match=r"is not ready: model bad: .*model\.xml cannot be read"),
        local_server.started_server(*words),
    ):
        pass


def test_both_workers_serve_when_it_is_yielded(tmp_path):
    log = tmp_path / "log"
    words = ("--model-repository", MODELS, "--workers", "2")
    with local_server.started_server(*words, log=log) as server:
        (found,) = find_servers(pids=[server.pid])
        assert [worker.state for worker in found.workers] == ["ready", "ready"]
        assert found.address == f"127.0.0.1:{server.port}"
        assert server.get_json("/v2/health/ready") == (200, {"ready": True})
        assert server.get_json("/v2/nothing")[0] == 404
    assert find_servers(pids=[server.pid]) == ()
    assert "Listening at" in log.read_text()
    with pytest.raises(CpuserveError, match="does not answer"):
        server.get_json("/v2/health/ready")
