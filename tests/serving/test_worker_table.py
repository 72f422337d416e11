"""The board: what one process writes another reads, and connections go where there are few."""

import os
import time

from cpuserve.serving.worker_table import EMPTY, LOADING, READY, STOPPING, Board


def test_another_process_sees_what_a_worker_writes():
    board = Board(2)
    child = os.fork()
    if child == 0:
        board.lines[1].pid, board.lines[1].state, board.lines[1].connections = os.getpid(), READY, 7
        os._exit(0)
    os.waitpid(child, 0)
    assert (board.lines[1].pid, board.lines[1].state, board.lines[1].connections) == (child, READY, 7)
    assert (board.lines[0].pid, board.lines[0].state) == (0, EMPTY)
    board.lines[1].clear()
    assert (board.lines[1].pid, board.lines[1].state, board.lines[1].connections) == (0, EMPTY, 0)


def put(board, *lines):
    for seat, (line, (state, connections)) in enumerate(zip(board.lines, lines, strict=False)):
        line.begin(seat)
        line.state, line.connections = state, connections
    return [board.may_accept(line) for line in board.lines[: len(lines)]]


def test_connections_go_to_the_ready_worker_that_has_the_fewest():
    board = Board(3)
    assert put(board, (READY, 2), (READY, 1), (READY, 1)) == [False, True, True]
    assert put(board, (READY, 9), (LOADING, 0), (STOPPING, 0)) == [True, False, False]
    assert put(board, (READY, 90), (READY, 80), (READY, 70)) == [False, False, True]
    assert put(board, (READY, 90), (READY, 81), (READY, 80)) == [True, True, True]  # about as many


def test_a_worker_that_does_not_run_is_passed_by(monkeypatch):
    board = Board(2)
    assert put(board, (READY, 3), (READY, 1)) == [False, True]
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for line in board.lines[:2]:
        line.seen_ms = int(1000 * now)
    assert (board.may_accept(board.lines[0]), board.silent()) == (False, [])
    now += 2
    board.lines[0].seen_ms = int(1000 * now)
    assert (board.may_accept(board.lines[0]), board.silent()) == (True, [board.lines[1]])
    board.lines[1].seen_ms = int(1000 * now)  # it goes on
    assert (board.may_accept(board.lines[0]), board.silent()) == (False, [])
    board.lines[1].state = STOPPING
    now += 9
    assert board.silent() == [board.lines[0]]


def test_the_last_to_close_stays_until_all_others_have():
    board = Board(3)
    put(board, (READY, 0), (READY, 0), (LOADING, 0))
    assert [board.must_stay(board.lines[0]), board.must_stay(board.lines[1])] == [True, True]
    put(board, (READY, 0), (READY, 0), (STOPPING, 0))
    assert [board.must_stay(board.lines[0]), board.must_stay(board.lines[1])] == [True, False]
    put(board, (READY, 0), (STOPPING, 0), (EMPTY, 0))
    assert not board.must_stay(board.lines[0])


def test_a_worker_that_loads_takes_nothing_while_others_stop():
    assert put(Board(2), (STOPPING, 3), (LOADING, 0))[1] is False


def test_while_none_is_ready_anyone_may_say_so():
    assert put(Board(2), (LOADING, 5), (LOADING, 0)) == [True, True]


def test_a_seat_has_two_workers_while_one_replaces_the_other():
    board = Board(2)
    old = [board.assign(seat) for seat in (0, 1)]
    for pid, line in enumerate(old, 1):
        line.pid, line.state = pid, READY
    new = board.assign(1)
    assert [board.is_replaced(line) for line in (*old, new)] == [False, True, False]
    assert [board.may_accept(line) for line in (*old, new)] == [True, True, False]
    assert board.of_seat(1) is old[1]
    new.pid, new.state = 3, READY
    assert not board.is_replaced(old[1])
    board.forget(2)
    assert board.of_seat(1) is new
    assert old[1].state == EMPTY


def test_lines_are_used_again_and_those_of_workers_that_leave_before_others():
    board = Board(1)
    lines = [board.assign(0) for _ in board.lines]
    assert len(set(map(id, lines))) == len(board.lines)
    lines[1].state = STOPPING
    assert board.assign(0) is lines[1]
    assert Board(2).of_seat(1) is None
