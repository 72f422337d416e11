"""Several servers under one load: how it is shared, what is added up, and what happens to a lost one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.measuring.load_window import Load, LoadWindow, Target
from cpuserve.measuring.local_server import free_port
from cpuserve.measuring.several_servers import at_once, measure_servers, shares
from tests.conftest import ROOT
from tests.measuring.conftest import Handler, Server, plain  # noqa: F401  # a fixture


@pytest.fixture
def other():
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def target(port, path):
    return Target("127.0.0.1", port, path)


def never(at, reason):
    raise AssertionError((at, reason))


def test_clients_and_rates_are_shared_evenly():
    assert [one.connections for one in shares(Load(connections=7), 3)] == [3, 2, 2]
    assert [one.connections for one in shares(Load(connections=2), 3)] == [1, 1]
    assert [one.rate for one in shares(Load(rate=90.0), 3)] == [30.0] * 3


@pytest.mark.parametrize("load", [Load(connections=4), Load(rate=200.0)])
def test_each_server_gets_its_part(plain, other, tmp_path, load):  # noqa: F811
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"a")
    both = [target(plain.server_port, "/first"), target(other.server_port, "/second")]
    window = measure_servers(both, [picture], load, seconds=0.3, lost=never)
    asked = [path for path, _ in Handler.seen]
    assert min(asked.count("/first"), asked.count("/second")) >= 10
    assert window.statuses["200"] == len(window.latencies_ms) == window.requests
    assert window.latencies_ms == sorted(window.latencies_ms)
    assert window.server_cpu_s is None


def test_a_server_that_is_gone_is_named_and_the_others_count(plain, tmp_path):  # noqa: F811
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"a")
    gone, told = target(free_port(), "/gone"), []
    there = target(plain.server_port, "/there")
    load = Load(connections=2)
    window = measure_servers(
        [gone, there], [picture], load, seconds=0.2, lost=lambda *words: told.append(words)
    )
    assert window.statuses["200"] == window.requests > 0
    assert told[0][0] is gone
    assert f"127.0.0.1:{gone.port}" in told[0][1]
    with pytest.raises(CpuserveError, match=f"127.0.0.1:{gone.port}"):
        measure_servers([gone, gone], [picture], load, seconds=0.2, lost=lambda *_: None)


DYING = """
import os
from tests.measuring.conftest import Handler, Server
class Dying(Handler):
    def do_POST(self):
        super().do_POST()
        if len(self.seen) == 20:
            os._exit(9)
server = Server(("127.0.0.1", 0), Dying)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_requests_that_a_dying_server_loses_are_counted(plain, tmp_path):  # noqa: F811
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"a")
    dying = subprocess.Popen([sys.executable, "-c", DYING], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    waiting = threading.Thread(target=dying.wait)
    waiting.start()
    port = int(dying.stdout.readline())
    both = [
        target(plain.server_port, "/there"),
        dataclasses.replace(target(port, "/dying"), pid=dying.pid),
    ]
    window = measure_servers(both, [picture], Load(connections=2), seconds=1.0, lost=never)
    waiting.join()
    dying.stdout.close()
    assert window.errors.keys() == {"closed"}
    assert window.statuses["200"] >= 20


def test_what_one_window_calls_foreign_is_the_other_server():
    def window(server_cpu_s, foreign_cpu_s):
        return LoadWindow(
            requests=10,
            offered_s=1.0,
            seconds=1.0,
            statuses={"200": 9, "503": 1},
            latencies_ms=[server_cpu_s],
            client_cpu_s=0.1,
            foreign_cpu_s=foreign_cpu_s,
            wall_s=1.2,
            server_cpu_s=server_cpu_s,
            unique_mib=5.0,
        )

    found = at_once([window(0.6, 0.5), window(0.4, 0.7)])
    assert found.server_cpu_s == pytest.approx(1.0)
    assert found.foreign_cpu_s == pytest.approx(0.1)
    assert (found.requests, found.statuses, found.unique_mib) == (20, {"200": 18, "503": 2}, 10.0)
    assert found.latencies_ms == [0.4, 0.6]
