"""How a worker ends: clients that came at the last moment have time to ask."""

from __future__ import annotations

import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.http import worker as module
from cpuserve.http.body_budget import BodyBudget
from cpuserve.http.client_limits import ClientLimits
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.request_loop import RequestLoop
from cpuserve.http.worker import SeatWorker
from cpuserve.serving.admission import Admission
from cpuserve.serving.worker_table import READY, STOPPING, WorkerTable


@pytest.fixture
def worker():
    """A worker that stops while another loads all the time, so that it has to take connections to the end."""
    worker_table = WorkerTable(2)
    mine, _ = worker_table.assign(0), worker_table.assign(1)
    mine.state, mine.pid = READY, 1
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    log = logging.getLogger("test")
    loop = RequestLoop(
        *(1, Admission(10, 1)),
        deadline_s=10.0,
        with_priorities=False,
        log=log,
    )
    made = SeatWorker.__new__(SeatWorker)
    vars(made).update(
        worker_table=worker_table,
        row=mine,
        pid=1,
        log=log,
        sockets=[listener],
        limits=ClientLimits(1000, 10.0, 10.0),
        check=lambda _environ: None,
        body_budget=BodyBudget(10_000),
        cfg=SimpleNamespace(graceful_timeout=10),
        notify=lambda: None,
        _loop=loop,
        _limit=ConnectionLimit(100, loop.connections, log),
    )
    loop.start()
    yield made
    loop.end(5)
    listener.close()


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_connection_taken_at_the_last_moment_is_not_closed_at_once(worker, monkeypatch):
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=time.perf_counter, sleep=time.sleep)
    monkeypatch.setattr(module, "time", clock)
    end = threading.Thread(target=worker._stop, args=({worker.sockets[0].fileno(): {}},))
    end.start()
    with socket.create_connection(worker.sockets[0].getsockname(), timeout=0.3) as client:
        wait_until(lambda: worker._loop.connections)
        now += 1.5 * module._LINGER_S  # it has waited long enough for others, and listens no more
        wait_until(lambda: worker.row.state == STOPPING)
        with pytest.raises(TimeoutError):
            client.recv(1)  # open: it could still ask
        now += 2 * module._LINGER_S
        client.settimeout(60)
        assert client.recv(1) == b""  # it did not
    end.join(60)
    assert not end.is_alive()
    assert not worker._loop.connections
