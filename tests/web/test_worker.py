"""How a worker ends: clients that came at the last moment have time to ask."""

from __future__ import annotations

import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from cpuserve.serving.admission import Admission
from cpuserve.web import worker as module
from cpuserve.web.board import READY, Board
from cpuserve.web.body_budget import BodyBudget
from cpuserve.web.connection import Limits
from cpuserve.web.connection_limit import ConnectionLimit
from cpuserve.web.request_loop import RequestLoop
from cpuserve.web.worker import SeatWorker


@pytest.fixture
def worker(monkeypatch):
    """A worker that stops while another loads all the time, so that it has to take connections to the end."""
    monkeypatch.setattr(module, "_LINGER_S", 0.5)
    board = Board(2)
    mine, _ = board.assign(0), board.assign(1)
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
        board=board,
        line=mine,
        pid=1,
        log=log,
        sockets=[listener],
        limits=Limits(1000, 10.0, 10.0),
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


def test_a_connection_taken_at_the_last_moment_is_not_closed_at_once(worker):
    address = worker.sockets[0].getsockname()
    end = threading.Thread(target=worker._stop, args=({worker.sockets[0].fileno(): {}},))
    end.start()
    time.sleep(0.45)
    with socket.create_connection(address, timeout=0.3) as client:
        with pytest.raises(TimeoutError):
            client.recv(1)  # open: it could still ask
        client.settimeout(5)
        assert client.recv(1) == b""  # it did not
    end.join(10)
    assert not end.is_alive()
    assert not worker._loop.connections
