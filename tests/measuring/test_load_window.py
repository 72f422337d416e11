"""A window on a server: whose CPU is whose, and what happens when it goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, Target, measure_window, percentile, tree_cpu_s
from tests.measuring.conftest import Handler
from tests.servers import free_port

BURN = """
import os, sys
if os.fork():
    os.wait()
else:
    while sum(os.times()[:2]) < 0.3: pass
    os._exit(0)
"""


def test_the_tree_keeps_the_time_of_children_that_have_ended():
    code = BURN + "print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        assert tree_cpu_s(process.pid) >= 0.3
        process.stdin.close()
    with pytest.raises(CpuserveError, match="has ended"):
        tree_cpu_s(process.pid)


@pytest.mark.parametrize("load", [Load(connections=2), Load(rate=100.0)])
def test_good_answers_refusals_and_lost_connections_are_told_apart(plain, tmp_path, monkeypatch, load):
    monkeypatch.setattr(Handler, "statuses", {b"bad": 503, b"rude": 0})
    files = []
    for name in ("good", "bad", "rude"):
        files.append(tmp_path / name)
        files[-1].write_bytes(name.encode())
    target = Target("127.0.0.1", plain.server_port, "/p", pid=os.getpid())
    window = measure_window(target, files, load, seconds=0.4)
    assert set(window.errors) == {"503", "closed"}
    assert len(window.latencies_ms) == window.statuses["200"] > 3
    assert window.requests == sum(window.statuses.values())
    assert window.server_cpu_s is not None
    figures = window.figures()
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert figures["cpu_ms"] > 0
    assert figures["rss_mib"] > 1


def test_a_server_that_is_not_there():
    target = Target("127.0.0.1", free_port(), "/p")
    with pytest.raises(CpuserveError, match=r"failed: ConnectionRefusedError"):
        measure_window(target, [Path(__file__)], Load(connections=1), seconds=0.1)


def test_percentiles():
    assert [percentile(list(range(100)), share) for share in (50, 99)] == [50, 99]
    assert percentile([], 50) is None
