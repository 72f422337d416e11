"""Counters between two looks at a server's metrics; a server without them has none."""

import pytest

from cpuserve.measuring.load_window import Target
from cpuserve.measuring.server_batches import ServerBatches
from tests.measuring.conftest import Handler, plain  # noqa: F401  # a fixture

METRICS = """\
# HELP cpuserve_batches_total ServerBatches.
cpuserve_batches_total{name="m",version="1",released="idle"} 5
cpuserve_batches_total{name="m",version="1",released="timeout"} 1
cpuserve_batches_total{name="m",version="2",released="idle"} 2
cpuserve_batches_total{name="other",version="1",released="idle"} 100
cpuserve_batch_size_total{name="m",version="1",size="1"} 4
cpuserve_batch_size_total{name="m",version="2",size="8"} 2
cpuserve_cache_hits_total{name="m",version="1"} 3
cpuserve_cache_misses_total{name="m",version="1"} 7
"""


@pytest.fixture
def target(plain, monkeypatch):  # noqa: F811  # the fixture
    def do_GET(self):  # noqa: N802  # http.server's name
        self.send_response(200)
        self.send_header("Content-Length", str(len(METRICS)))
        self.end_headers()
        self.wfile.write(METRICS.encode())

    monkeypatch.setattr(Handler, "do_GET", do_GET, raising=False)
    return Target("127.0.0.1", plain.server_port, "/predictions/m", model="m")


def test_versions_add_up_and_other_models_do_not_count(target):
    found = ServerBatches.read(target)
    assert found == ServerBatches({"idle": 7, "timeout": 1}, {1: 4, 8: 2}, 3, 7)
    assert found.rows == (4 + 16) / 8
    assert found.figures()["compiled_batches_by_size"] == {"1": 4, "8": 2}


def test_what_was_counted_between_two_looks(target):
    now = ServerBatches.read(target)
    then = ServerBatches({"idle": 3}, {1: 4}, 3, 1)
    assert now.since(then) == ServerBatches({"idle": 4, "timeout": 1}, {1: 0, 8: 2}, 0, 6)
    assert now.since(now).rows is None


def test_a_server_without_them_has_none(plain):  # noqa: F811  # the fixture
    assert ServerBatches.read(Target("127.0.0.1", plain.server_port, "/", model="m")) is None
    assert ServerBatches.read(Target("127.0.0.1", 1, "/", model="m")) is None
