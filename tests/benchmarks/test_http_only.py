"""HTTP without a model: both shapes answer, and the file says what a request cost."""

import pytest

from benchmarks.shapes import Shape, running
from cpuserve.errors import CpuserveError
from cpuserve.measuring.local_server import free_port
from cpuserve.settings import Settings
from tests.benchmarks.running import run


def test_a_small_run(tmp_path):
    servers = ("shared epoll, the application", "gthread, a stub")
    words = ("--seconds", "0.3", "--rounds", "1", "--workers", "1", "--connections", "2")
    found = run("http_only", tmp_path / "http-only.json", *words, "--servers", *servers)
    assert (found["body_bytes"], found["connections"]) == (70_000, 2)
    assert tuple(found["servers"]) == servers
    for row in found["servers"].values():
        assert row["errors"] == {}
        assert row["requests_per_s"] > 0
        assert row["cpu_us"] > 0


def test_a_server_that_cannot_start_says_why_at_once(tmp_path):
    settings = Settings(model_repository=tmp_path / "none", port=free_port(), workers=1)
    with (
        pytest.raises(CpuserveError, match=r"did not become ready: .*none"),
        running(lambda: Shape(settings, "gthread"), settings),
    ):
        pass
