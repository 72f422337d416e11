"""How a worker stops accepting: clients that came at the last moment have time to ask."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.http import acceptor as module
from cpuserve.http.acceptor import Acceptor
from cpuserve.http.connection import Connection
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.request_loop import RequestLoop
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.admission import Admission
from cpuserve.serving.worker_table import LOADING, READY, STOPPING, WorkerTable
from tests.http.clients import WAIT_S, answer, ask, wait_until


class Worker:
    """A worker beside another that loads all the time, so that it has to take connections to the end."""

    def __init__(self):
        self.worker_table = WorkerTable(2)
        self.row, _ = self.worker_table.assign(0), self.worker_table.assign(1)
        self.row.state, self.row.pid = READY, os.getpid()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        log = logging.getLogger("test")
        self.loop = RequestLoop(*(1, Admission(10, 1)), deadline_s=10.0, with_priorities=False, log=log)
        self.loop.runner.app = lambda call: Reply(200, call.path.encode(), [])
        more = (ClientLimits(1000, 10.0, 10.0), None, BodyBudget(10_000))
        self.acceptor = Acceptor(
            *([self.listener], lambda sock, peer: Connection(sock, peer, *more), self.loop),
            *(ConnectionLimit(100, self.loop.connections, log), self.worker_table, self.row, log),
        )


@pytest.fixture
def worker():
    made = Worker()
    made.loop.start()
    yield made
    made.loop.end(WAIT_S)
    made.listener.close()
    for connection in list(made.loop.connections.values()):  # whose client left while the threads ended
        connection.close()


def test_a_connection_taken_at_the_last_moment_is_not_closed_at_once(worker, monkeypatch):
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=time.perf_counter, sleep=time.sleep)
    monkeypatch.setattr(module, "time", clock)
    end = threading.Thread(target=worker.acceptor.stop, args=(10, lambda: None))
    end.start()
    with socket.create_connection(worker.address, timeout=0.3) as client:
        wait_until(lambda: worker.loop.connections)
        now += 1.5 * module._LINGER_S  # it has waited long enough for others, and listens no more
        wait_until(lambda: worker.row.state == STOPPING)
        with pytest.raises(TimeoutError):
            client.recv(1)  # open: it could still ask
        now += 2 * module._LINGER_S
        client.settimeout(60)
        assert client.recv(1) == b""  # it did not
    end.join(60)
    assert not end.is_alive()
    assert not worker.loop.connections


def test_connections_are_taken_when_it_is_this_workers_turn(worker, monkeypatch):
    turns = iter([False, True])
    monkeypatch.setattr(worker.worker_table, "may_accept", lambda _line: next(turns, False))
    with socket.create_connection(worker.address, timeout=WAIT_S) as client:
        worker.row.state = LOADING
        worker.acceptor.accept(worker.acceptor.descriptors())
        assert not worker.loop.connections  # another worker's turn
        worker.acceptor.accept(worker.acceptor.descriptors())
        ask(client, "/x")
        assert answer(client).endswith(b"\r\n\r\n/x")
