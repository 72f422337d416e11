"""What the arbiter itself knows of a worker that has said nothing yet."""

from __future__ import annotations

import os
from types import SimpleNamespace

from gunicorn.arbiter import Arbiter

from cpuserve.server.arbiter import SparingArbiter
from cpuserve.serving.worker_table import EMPTY, LOADING, Board


def test_the_line_of_a_worker_that_ends_right_after_the_fork_is_cleared(monkeypatch):
    """It would be taken for one that loads, and its predecessor would serve on for ever."""
    board = Board(1)
    old = board.assign(0)

    def spawn(self):
        line = board.assign(0)  # as before each fork
        pid = os.fork()
        if pid == 0:
            os._exit(1)
        self.WORKERS[pid] = SimpleNamespace(line=line)
        return pid

    monkeypatch.setattr(Arbiter, "spawn_worker", spawn)
    arbiter = SparingArbiter.__new__(SparingArbiter)
    arbiter.WORKERS = {}
    pid = arbiter.spawn_worker()
    os.waitpid(pid, 0)
    line = arbiter.WORKERS[pid].line
    assert (line.pid, line.state) == (pid, LOADING)
    assert board.is_replaced(old)
    board.forget(pid)
    assert line.state == EMPTY
    assert not board.is_replaced(old)
