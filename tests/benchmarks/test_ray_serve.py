"""What is counted beside Ray Serve: processes by what they are for, lost requests, and a table."""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import lasting_ports, ray_serve
from benchmarks.lasting_ports import ports_for_later
from benchmarks.ray_serve import SIDES, cpu_by_kind, killed_meanwhile, kind_of, markdown, spent
from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, Target
from cpuserve.measuring.local_server import local_server

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = DOCS / "seven.png"


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("ray::ServeReplica:default:Answers", "ray::ServeReplica"),
        ("ray::ServeController.listen_for_change", "ray::ServeController"),
        ("ray::ProxyActor          ", "ray::ProxyActor"),  # over the rest of what was its command line
        ("/a/ray/raylet --raylet_socket_name=/tmp/x", "raylet"),
        ("/a/bin/haproxy -db -f /tmp/haproxy.cfg", "haproxy"),
        ("/a/bin/python3 -u /a/ray/dashboard/dashboard.py --host=x", "dashboard"),
        ("/a/bin/python -m benchmarks.fixtures.ray_serve_app 1 2", "ray_serve_app"),
        ("", "unknown"),
    ],
)
def test_a_process_is_named_by_what_it_is_for(title, kind):
    assert kind_of(title) == kind


def test_a_process_that_used_less_than_a_tick_is_named_too():
    before, after = Counter({"haproxy": 0.01, "gone": 1.0}), Counter({"haproxy": 0.01, "raylet": 0.5})
    assert spent(before, after) == {"haproxy": 0.0, "raylet": 0.5}


def test_ports_are_none_that_an_outgoing_connection_may_get(monkeypatch):
    low, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    *taken, spare = ports_for_later(4)
    assert len({*taken, spare}) == 4
    assert all(1024 < port < int(low) for port in (*taken, spare))
    listeners = [socket.create_server(("", port)) for port in taken]
    monkeypatch.setattr(lasting_ports.random, "sample", lambda *_: [*taken, spare])
    assert ports_for_later(1) == [spare]
    with pytest.raises(CpuserveError, match="fewer than 2 of the ports 10000 to"):
        ports_for_later(2)
    for listener in listeners:
        listener.close()


def test_requests_of_a_killed_worker_are_counted_and_the_server_is_there_again():
    flags = {"model_repository": Path("ir_models"), "workers": 1}
    with local_server("digits", flags, None) as server:
        target = Target("127.0.0.1", server.port, "/predictions/digits", pid=server.pid)
        assert cpu_by_kind(server.pid).keys() == {"cpuserve"}
        found = killed_meanwhile(SIDES[0], target, [PICTURE], Load(rate=30), 6.0)
        assert 0 < found.requests < 400
        assert sum(found.lost.values()) < found.requests  # those before the kill were answered
        assert cpu_by_kind(server.pid).total() > 0


def test_a_server_without_the_process_to_kill_is_no_result(monkeypatch):
    monkeypatch.setattr(ray_serve, "_replicas", lambda _side, _target: [])
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    window = type("Window", (), {"requests": 1, "errors": {}})
    monkeypatch.setattr(ray_serve, "measure_window", lambda *_, **__: window)
    with pytest.raises(CpuserveError, match="no process of ray_serve_fast was killed"):
        killed_meanwhile(SIDES[1], Target("127.0.0.1", 1, "/", pid=1), [PICTURE], Load(rate=1), 0.03)


def test_the_table_of_the_page_is_that_of_the_result():
    result = json.loads((DOCS / "results" / "ray-serve.json").read_text())
    assert result["answers_are_equal"] is True
    assert [row["server"] for row in result["rows"]] == [side.name for side in SIDES]
    assert markdown(result) in (DOCS / "cluster.md").read_text()


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")
def test_ray_serve_answers_what_ours_answers(tmp_path, monkeypatch):
    pytest.importorskip("ray.serve")
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["ray_serve", "--quick", "--rate", "10", "--out", str(out)])
    ray_serve.main()
    result = json.loads(out.read_text())
    assert result["answers_are_equal"] is True
    for row in result["rows"]:
        assert row["busy"]["statuses"].keys() == {"200"}
        assert row["killed"]["requests"] > 0
    fast = result["rows"][1]["steady_cpu_ms_by_process"]
    assert {"haproxy", "ray::ServeReplica"} <= fast.keys()
