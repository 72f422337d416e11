"""The board: what one process writes another reads, and connections go where there are few."""

import os

from cpuserve.web.board import EMPTY, LOADING, READY, STOPPING, Board


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
    for line, (state, connections) in zip(board.lines, lines, strict=True):
        line.state, line.connections = state, connections
    return [board.may_accept(seat) for seat in range(len(lines))]


def test_connections_go_to_the_ready_worker_that_has_the_fewest():
    board = Board(3)
    assert put(board, (READY, 2), (READY, 1), (READY, 1)) == [False, True, True]
    assert put(board, (READY, 9), (LOADING, 0), (STOPPING, 0)) == [True, False, False]


def test_the_last_to_close_stays_until_all_others_have():
    board = Board(3)
    put(board, (READY, 0), (READY, 0), (LOADING, 0))
    assert [board.must_stay(0), board.must_stay(1)] == [True, True]
    put(board, (READY, 0), (READY, 0), (STOPPING, 0))
    assert [board.must_stay(0), board.must_stay(1)] == [True, False]
    put(board, (READY, 0), (STOPPING, 0), (EMPTY, 0))
    assert not board.must_stay(0)


def test_a_worker_that_loads_takes_nothing_while_others_stop():
    assert put(Board(2), (STOPPING, 3), (LOADING, 0))[1] is False


def test_while_none_is_ready_anyone_may_say_so():
    assert put(Board(2), (LOADING, 5), (LOADING, 0)) == [True, True]
