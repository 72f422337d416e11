"""The shared memory of a server: sizes, and what is left of a worker that has ended."""

from __future__ import annotations

import logging
import os
from contextlib import closing

from cpuserve.server.shared_state import SharedState
from cpuserve.serving.worker_table import EMPTY, LOADING
from cpuserve.settings import Settings


def test_there_is_room_for_three_generations_of_workers_and_the_description_is_kept():
    shared = SharedState.make(Settings(log_level="error"), 2, {"pid": 1})
    with closing(shared.mailboxes):
        assert shared.worker_table.description == {"pid": 1}
        assert len(shared.worker_table.rows) == 6
        assert len(shared.trace_ring.heads()) == 7
    assert not shared.log_switches.filter(logging.LogRecord("x", logging.WARNING, "", 0, "", (), None))


def test_an_ended_worker_leaves_no_row():
    shared = SharedState.make(Settings(), 2, {})
    mine, other = shared.worker_table.assign(0), shared.worker_table.assign(1)
    mine.pid, other.pid = os.getpid(), 1
    with closing(shared.mailboxes):
        shared.forget(os.getpid())
    assert (mine.state, other.state) == (EMPTY, LOADING)
