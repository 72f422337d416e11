"""The thread that loads models: it marks the worker ready, and says when it ends by an error."""

from __future__ import annotations

import logging
import os
import threading
from types import SimpleNamespace

import pytest

from cpuserve.server.model_thread import ModelThread
from cpuserve.serving.statistics import Statistics
from cpuserve.serving.worker_table import LOADING, READY, STOPPING, WorkerTable


class Pool(SimpleNamespace):
    """Stands for the models of a worker: ``first`` are there after the load, ``later`` after a change.

    It is ready with models, or where ``none`` are asked for.
    """

    @property
    def ready(self):
        return self.none or bool(self.models)

    def start(self, _ending):
        self.models = self.first
        if self.fails:
            raise RuntimeError("broken")

    def watch(self, _ending, changed):
        self.states = [self.row.state]
        self.models = self.later
        changed()
        self.states.append(self.row.state)


def run(first=("a",), later=("a",), *, fails=False, state=LOADING, pid=None, none=False):
    row = WorkerTable(1).assign(0)
    row.pid, row.state = pid or os.getpid(), state
    pool = Pool(first=first, later=later, fails=fails, row=row, none=none, dead=False, states=[])
    statistics = Statistics(rows=1)
    thread = ModelThread(pool, row, statistics, statistics.claim(0), "host:1", threading.Event())
    thread.start()
    thread.join()
    return pool


@pytest.mark.parametrize(
    ("wishes", "states"),
    [
        ({}, [READY, READY]),
        ({"first": ()}, [LOADING, READY]),
        ({"first": (), "later": ()}, [LOADING, LOADING]),
        ({"first": (), "later": (), "none": True}, [READY, READY]),
        ({"state": STOPPING}, [STOPPING, STOPPING]),
        ({"pid": 1}, [LOADING, LOADING]),  # the row is another worker's by now
    ],
)
def test_the_worker_is_ready_once_it_has_a_model(wishes, states):
    pool = run(**wishes)
    assert pool.states == states
    assert pool.dead


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_is_logged_and_the_worker_is_not_ready(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("cpuserve"), "propagate", True)
    pool = run(fails=True)
    assert pool.dead
    assert (pool.row.state, pool.states) == (LOADING, [])
    assert "this worker is not ready" in caplog.text
