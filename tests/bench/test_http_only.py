"""HTTP without a model: both shapes answer, and the file says what a request cost."""

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_a_small_run(tmp_path):
    out = tmp_path / "http-only.json"
    servers = ("shared epoll, the application", "gthread, a stub")
    words = ["--seconds", "0.3", "--rounds", "1", "--workers", "1", "--connections", "2", "--out", str(out)]
    subprocess.run(
        [sys.executable, "-m", "cpuserve.bench.http_only", *words, "--servers", *servers],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    found = json.loads(out.read_text())
    assert (found["body_bytes"], found["connections"]) == (70_000, 2)
    assert tuple(found["servers"]) == servers
    for row in found["servers"].values():
        assert row["errors"] == {}
        assert row["requests_per_s"] > 10
        assert 10 < row["cpu_us"] < 100_000
