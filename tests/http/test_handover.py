"""Requests that wait in a busy worker are answered by an idle one, which then has the connection."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import ExitStack

import pytest

from cpuserve.http.connection import Connection
from cpuserve.http.handover import Handover
from cpuserve.http.mailbox import Mailboxes
from cpuserve.http.request_loop import RequestLoop
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.admission import Admission
from cpuserve.serving.worker_table import READY, STOPPING, WorkerTable
from tests.http.clients import WAIT_S, answer_body, ask, wait_until


class App:
    """Answers with its name and the body; /stuck waits until it is let go."""

    def __init__(self, name):
        self.name = name
        self.go, self.inside = threading.Event(), threading.Event()

    def __call__(self, call):
        if call.path == "/stuck":
            self.inside.set()
            assert self.go.wait(WAIT_S)
        text = f"{self.name} {call.address} {call.client} {call.limits.max_pictures} "
        return Reply(200, text.encode() + call.body(), [])


class Pair:
    """Two workers of one thread each, A and B."""

    def __init__(self, running):
        self.worker_table = WorkerTable(2)
        self.mailboxes = Mailboxes(len(self.worker_table.rows))
        running.callback(self.mailboxes.close)
        self.listener = running.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.rows = [self.worker_table.assign(seat) for seat in range(2)]
        self.a, self.b = (self._worker(name, row, running) for name, row in zip("AB", self.rows, strict=True))
        for row in self.rows:
            row.state = READY
        wait_until(lambda: all(row.idle_threads == 1 for row in self.rows))

    def _worker(self, name, row, running):
        loop = RequestLoop(
            *(1, Admission(64, 1)), deadline_s=60.0, with_priorities=False, log=logging.getLogger("test")
        )
        limits = ClientLimits(1 << 20, 60.0, 60.0, max_pictures=ord(name))
        more = (limits, lambda call: setattr(call, "client", f"checked-by-{name}"), BodyBudget(1 << 20))
        loop.runner.app = App(name)
        loop.handover = Handover(self.worker_table, row, self.mailboxes)
        loop.make = lambda sock, peer: Connection(sock, peer, *more)
        loop.take_over = lambda request: Connection.taken_over(request, *more)
        loop.start()
        running.callback(lambda: [connection.close() for connection in loop.connections.values()])
        running.callback(loop.end, WAIT_S)
        running.callback(loop.runner.app.go.set)
        return loop

    def client(self, loop, running):
        ours = running.enter_context(socket.create_connection(self.listener.getsockname()))
        ours.settimeout(WAIT_S)
        loop.add(loop.make(*self.listener.accept()))
        return ours


@pytest.fixture
def running():
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("size", [1, 100_000])
def test_an_idle_worker_answers_what_waits_in_one_that_is_stuck(running, size):
    pair = Pair(running)
    stuck, waits = pair.client(pair.a, running), pair.client(pair.a, running)
    ask(stuck, "/stuck")
    assert pair.a.runner.app.inside.wait(WAIT_S)
    ask(waits, "/other", b"y" * size)
    wait_until(lambda: pair.a.help_out() or len(pair.a.connections) == 1)
    # what the first worker checked and where it listens stay; what is each worker's own does not come along
    assert answer_body(waits) == b"B 127.0.0.1 checked-by-A 66 " + b"y" * size
    ask(waits, "/again", b"z")  # the connection is the other worker's from here on
    assert answer_body(waits) == b"B 127.0.0.1 checked-by-B 66 z"
    pair.a.runner.app.go.set()
    assert answer_body(stuck) == b"A 127.0.0.1 checked-by-A 65 x"
    assert len(pair.b.connections) == 1


def test_of_two_requests_that_are_found_together_one_goes_to_the_idle_worker(running):
    pair = Pair(running)
    stuck, *both = (pair.client(pair.a, running) for _ in range(3))
    pair.rows[1].state = STOPPING  # so that nothing is passed before both are queued
    ask(stuck, "/stuck")
    assert pair.a.runner.app.inside.wait(WAIT_S)
    for sock in both:
        ask(sock, "/stuck")
    pair.a.runner.app.inside.clear()
    wait_until(lambda: pair.a.help_out() or pair.a.waiting == 2)
    pair.rows[1].state = READY
    pair.b.runner.app.go.set()
    pair.a.runner.app.go.set()
    assert answer_body(stuck)[:1] == b"A"
    assert sorted(answer_body(sock)[:1] for sock in both) == [b"A", b"B"]


@pytest.mark.parametrize("change", [{"state": STOPPING}, {"idle_threads": 0}, {"seen_ms": 1}])
def test_nothing_goes_to_a_worker_that_ends_is_busy_or_does_not_run(running, change):
    pair = Pair(running)
    for name, value in change.items():
        setattr(pair.rows[1], name, value)
    stuck, waits = pair.client(pair.a, running), pair.client(pair.a, running)
    ask(stuck, "/stuck")
    assert pair.a.runner.app.inside.wait(WAIT_S)
    ask(waits, "/other")
    wait_until(lambda: pair.a.help_out() or pair.a.waiting == 1)
    for _ in range(10):
        pair.a.help_out()
    pair.a.runner.app.go.set()
    assert answer_body(waits)[:1] == b"A"
    assert answer_body(stuck)[:1] == b"A"


def test_what_was_left_for_a_worker_that_ended_is_passed_on(running):
    pair = Pair(running)
    stuck, waits = pair.client(pair.a, running), pair.client(pair.a, running)
    ask(stuck, "/stuck")
    assert pair.a.runner.app.inside.wait(WAIT_S)
    pair.b.end(WAIT_S)  # its row still tells an idle thread: it has just begun to stop
    pair.rows[1].idle_threads = 1
    ask(waits, "/other")
    wait_until(lambda: pair.a.help_out() or len(pair.a.connections) == 1)
    pair.b.handover.pass_on()
    pair.a.runner.app.go.set()
    assert answer_body(waits) == b"A 127.0.0.1 checked-by-A 65 x"
    assert answer_body(stuck)[:1] == b"A"


def test_a_client_whose_request_nobody_can_take_sees_its_connection_end(running):
    pair = Pair(running)
    stuck, waits = pair.client(pair.a, running), pair.client(pair.a, running)
    ask(stuck, "/stuck")
    assert pair.a.runner.app.inside.wait(WAIT_S)
    pair.b.end(WAIT_S)
    pair.rows[1].idle_threads = 1
    ask(waits, "/other")
    wait_until(lambda: pair.a.help_out() or len(pair.a.connections) == 1)
    number = next(at for at, row in enumerate(pair.worker_table.rows) if row is pair.rows[1])
    assert pair.mailboxes.empty(number) == 1  # as the arbiter does when a worker was killed
    assert waits.recv(1) == b""
    pair.a.runner.app.go.set()
    assert answer_body(stuck)[:1] == b"A"


def test_a_request_may_be_passed_back_to_where_it_came_from(running):
    pair = Pair(running)
    stuck = [pair.client(loop, running) for loop in (pair.a, pair.b)]
    waits = pair.client(pair.a, running)
    for loop, sock in zip((pair.a, pair.b), stuck, strict=True):
        ask(sock, "/stuck")
        assert loop.runner.app.inside.wait(WAIT_S)
    pair.rows[1].idle_threads = 1  # as of a moment ago
    ask(waits, "/other")
    wait_until(lambda: pair.a.help_out() or len(pair.a.connections) == 1)
    pair.b.take_waiting()
    pair.a.runner.app.go.set()
    wait_until(lambda: pair.rows[0].idle_threads == 1)
    wait_until(lambda: pair.b.help_out() or len(pair.b.connections) == 1)
    assert answer_body(waits) == b"A 127.0.0.1 checked-by-A 65 x"
    ask(waits, "/again", b"z")
    assert answer_body(waits) == b"A 127.0.0.1 checked-by-A 65 z"
    pair.b.runner.app.go.set()
    assert [answer_body(sock)[:1] for sock in stuck] == [b"A", b"B"]
