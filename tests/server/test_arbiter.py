"""The arbiter clears the row of a worker that ends before it has written anything."""

from __future__ import annotations

import os
from types import SimpleNamespace

from gunicorn.arbiter import Arbiter

from cpuserve.server.arbiter import PauseTolerantArbiter
from cpuserve.serving.worker_table import EMPTY, LOADING, WorkerTable


def test_the_row_of_a_worker_that_ends_right_after_the_fork_is_cleared(monkeypatch):
    """It would be taken for one that loads, and its predecessor would serve on for ever."""
    table = WorkerTable(1)
    old = table.assign(0)

    def spawn(self):
        row = table.assign(0)  # as before each fork
        pid = os.fork()
        if pid == 0:
            os._exit(1)
        self.WORKERS[pid] = SimpleNamespace(row=row)
        return pid

    monkeypatch.setattr(Arbiter, "spawn_worker", spawn)
    arbiter = PauseTolerantArbiter.__new__(PauseTolerantArbiter)
    arbiter.WORKERS = {}
    pid = arbiter.spawn_worker()
    os.waitpid(pid, 0)
    row = arbiter.WORKERS[pid].row
    assert (row.pid, row.state) == (pid, LOADING)
    assert table.is_replaced(old)
    table.forget(pid)
    assert row.state == EMPTY
    assert not table.is_replaced(old)
