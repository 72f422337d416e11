"""The worker table: what one process writes another reads, and connections go where there are few."""

import os
import time

import pytest

from cpuserve.errors import UsageError
from cpuserve.serving.worker_table import EMPTY, LOADING, READY, STOPPING, WorkerTable


def test_another_process_sees_what_a_worker_writes():
    table = WorkerTable(2)
    child = os.fork()
    if child == 0:
        table.rows[1].pid, table.rows[1].state, table.rows[1].connections = os.getpid(), READY, 7
        os._exit(0)
    os.waitpid(child, 0)
    assert (table.rows[1].pid, table.rows[1].state, table.rows[1].connections) == (child, READY, 7)
    assert (table.rows[0].pid, table.rows[0].state) == (0, EMPTY)
    table.rows[1].clear()
    assert (table.rows[1].pid, table.rows[1].state, table.rows[1].connections) == (0, EMPTY, 0)


def put(table, *rows):
    for seat, (row, (state, connections)) in enumerate(zip(table.rows, rows, strict=False)):
        row.begin(seat)
        row.state, row.connections = state, connections
    return [table.may_accept(row) for row in table.rows[: len(rows)]]


def test_connections_go_to_the_ready_worker_that_has_the_fewest():
    table = WorkerTable(3)
    assert put(table, (READY, 2), (READY, 1), (READY, 1)) == [False, True, True]
    assert put(table, (READY, 9), (LOADING, 0), (STOPPING, 0)) == [True, False, False]
    assert put(table, (READY, 90), (READY, 80), (READY, 70)) == [False, False, True]
    assert put(table, (READY, 90), (READY, 81), (READY, 80)) == [True, True, True]  # about as many


def test_a_worker_that_does_not_run_is_passed_by(monkeypatch):
    table = WorkerTable(2)
    assert put(table, (READY, 3), (READY, 1)) == [False, True]
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for row in table.rows[:2]:
        row.seen_ms = int(1000 * now)
    assert (table.may_accept(table.rows[0]), table.hanging()) == (False, [])
    now += 2
    table.rows[0].seen_ms = int(1000 * now)
    assert (table.may_accept(table.rows[0]), table.hanging()) == (True, [table.rows[1]])
    table.rows[1].seen_ms = int(1000 * now)  # it goes on
    assert (table.may_accept(table.rows[0]), table.hanging()) == (False, [])
    table.rows[1].state = STOPPING
    now += 9
    assert table.hanging() == [table.rows[0]]


def test_the_last_to_close_stays_until_all_others_have():
    table = WorkerTable(3)
    put(table, (READY, 0), (READY, 0), (LOADING, 0))
    assert [table.must_stay(table.rows[0]), table.must_stay(table.rows[1])] == [True, True]
    put(table, (READY, 0), (READY, 0), (STOPPING, 0))
    assert [table.must_stay(table.rows[0]), table.must_stay(table.rows[1])] == [True, False]
    put(table, (READY, 0), (STOPPING, 0), (EMPTY, 0))
    assert not table.must_stay(table.rows[0])


def test_a_worker_that_loads_takes_nothing_while_others_stop():
    assert put(WorkerTable(2), (STOPPING, 3), (LOADING, 0))[1] is False


def test_while_none_is_ready_anyone_may_say_so():
    assert put(WorkerTable(2), (LOADING, 5), (LOADING, 0)) == [True, True]


def test_a_seat_has_two_workers_while_one_replaces_the_other():
    table = WorkerTable(2)
    old = [table.assign(seat) for seat in (0, 1)]
    for pid, row in enumerate(old, 1):
        row.pid, row.state = pid, READY
    new = table.assign(1)
    assert [table.is_replaced(row) for row in (*old, new)] == [False, True, False]
    assert [table.may_accept(row) for row in (*old, new)] == [True, True, False]
    assert table.of_seat(1) is old[1]
    new.pid, new.state = 3, READY
    assert not table.is_replaced(old[1])
    table.forget(2)
    assert table.of_seat(1) is new
    assert old[1].state == EMPTY


def test_lines_are_used_again_and_those_of_workers_that_leave_before_others():
    table = WorkerTable(1)
    rows = [table.assign(0) for _ in table.rows]
    assert len(set(map(id, rows))) == len(table.rows)
    rows[1].state = STOPPING
    assert table.assign(0) is rows[1]
    assert WorkerTable(2).of_seat(1) is None


def test_settings_that_are_too_long_are_refused():
    with pytest.raises(UsageError, match=r"more than 16777216: shorten \[models.NAME\]"):
        WorkerTable(1, {"settings": {"models": "m" * (16 << 20)}})
