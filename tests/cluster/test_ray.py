"""Servers on a real Ray cluster of two nodes: up, killed, moved, down (make test-ray)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from cpuserve.client import Client
from tests.conftest import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def nodes():
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def cpuserve(nodes, *words):
    command = [sys.executable, "-m", "cpuserve", "cluster", words[0], "--ray", nodes.address, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)


def status(nodes, wanted):
    due = time.monotonic() + 120
    while True:
        ended = cpuserve(nodes, "status", "--json")
        if ended.stdout:
            found = json.loads(ended.stdout)
            if wanted(found["endpoints"]):
                return found
        assert time.monotonic() < due, (ended.stdout, ended.stderr)
        time.sleep(1)


def all_ready(count):
    return lambda rows: len(rows) == count and all(row["ready"] for row in rows)


def test_servers_are_kept_where_they_belong(nodes):
    assert cpuserve(nodes, "status").returncode == 1
    up = ("up", "--registry-port", "0", "digits", "--model-repository", "ir_models", "--workers", "1")
    started = cpuserve(nodes, *up, "--json")
    assert started.returncode == 0, started.stderr
    found = json.loads(started.stdout)
    assert len({row["node_id"] for row in found["endpoints"]}) == 2
    assert all(row["model"] == ["digits"] for row in found["endpoints"])
    assert cpuserve(nodes, *up).returncode == 0  # the same again changes nothing
    other = cpuserve(nodes, "up", "digits", "--precision", "f32")
    assert other.returncode == 1
    assert "cluster down" in other.stderr
    picture = (ROOT / "docs" / "seven.png").read_bytes()
    with Client(f"@{found['registry']}") as client:
        os.kill(found["endpoints"][0]["pid"], signal.SIGKILL)
        for _ in range(300):
            assert client.predict("digits", picture)["predictions"][0]["label"] == "7"
        status(nodes, lambda rows: all_ready(2)(rows) and sum(row["restarts"] for row in rows) == 1)
        worker = next(node for node in nodes.list_all_nodes() if node is not nodes.head_node)
        nodes.remove_node(worker, allow_graceful=False)
        for _ in range(300):
            assert client.predict("digits", picture)["predictions"][0]["label"] == "7"
        status(nodes, all_ready(1))
        nodes.add_node(num_cpus=1)
        pids = [row["pid"] for row in status(nodes, all_ready(2))["endpoints"]]
    ended = cpuserve(nodes, "down")
    assert ended.stdout.strip() == "2 servers ended"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert cpuserve(nodes, "status").returncode == 1
