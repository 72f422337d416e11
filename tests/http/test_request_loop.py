"""Threads that share an epoll: turns, health while all are busy, failures that end none, and the end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from cpuserve.http import request_loop as module
from cpuserve.http import request_runner
from cpuserve.http.connection import Connection
from cpuserve.http.connection_limit import ConnectionLimit
from cpuserve.http.request_loop import RequestLoop
from cpuserve.http.slow_requests import SlowRequests
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.serving.admission import Admission
from tests.http.clients import WAIT_S, answer, ask, wait_until


class App:
    """Answers the path; /stuck waits until it is let go, /exit and /error raise."""

    def __init__(self):
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)
        self.seen = []

    def __call__(self, call):
        path = call.path
        self.seen.append(path)
        if path.startswith("/stuck"):
            self.inside.release()
            assert self.go.wait(WAIT_S)
        if path == "/exit":
            raise SystemExit(3)
        if path == "/error":
            raise KeyError("a model's own code")
        return Reply(200, path.encode(), [])


class Gauge:
    """Remembers what was put."""

    def __init__(self):
        self.put_values, self.added = [], []

    def put_count(self, name, queue):
        assert name == "queue_depth"
        self.put_values.append(queue.count)

    def add(self, name):
        self.added.append(name)


@contextmanager
def running(threads=1, queue_size=64, slow=(), with_priorities=False):
    loop = RequestLoop(
        *(threads, Admission(queue_size, threads)),
        deadline_s=60.0,
        with_priorities=with_priorities,
        log=logging.getLogger("test.loop"),
    )
    loop.runner.app, loop.slow_paths, loop.runner.recorder = App(), slow, Gauge()
    loop.clients = []
    loop.start()
    try:
        yield loop
    finally:
        loop.runner.app.go.set()
        loop.end(WAIT_S)
        assert not loop.running_threads
        for connection in (*loop.connections.values(), *loop.clients):
            connection.close()


def client(loop, address="10.0.0.1"):
    ours, theirs = socket.socketpair()
    theirs.settimeout(WAIT_S)
    loop.clients.append(theirs)
    # TCP_NODELAY is no option of these
    loop.add(
        Connection(
            Socket(ours),
            (address, 1),
            ClientLimits(1000, 60.0, 60.0),
            lambda _call: None,
            BodyBudget(10_000),
        )
    )
    return theirs


class Socket:
    """A socket of a pair that takes TCP's options."""

    def __init__(self, sock):
        self._sock = sock

    def setsockopt(self, *_):
        pass

    def __getattr__(self, name):
        return getattr(self._sock, name)


def stick(loop, count=1):
    stuck = [client(loop, f"10.9.9.{number}") for number in range(count)]
    for sock in stuck:
        ask(sock, "/stuck")
        assert loop.runner.app.inside.acquire(timeout=WAIT_S)
    return stuck


def queue_up(loop, sock, path, **given):
    """Ask while all threads are stuck, and wait until the request is in the queue."""
    before = loop.waiting
    ask(sock, path, **given)

    def queued():
        loop.help_out()
        return loop.waiting > before

    wait_until(queued)


def test_health_is_told_while_every_thread_is_stuck_and_the_rest_is_queued():
    with running(threads=2) as loop:
        stuck = stick(loop, 2)
        for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
            sock = client(loop)
            ask(sock, path, b"")
            wait_until(lambda path=path: loop.help_out() or path in loop.runner.app.seen)
            assert answer(sock).startswith(b"HTTP/1.1 200")
        other = client(loop)
        queue_up(loop, other, "/other")
        assert "/other" not in loop.runner.app.seen
        loop.runner.app.go.set()
        for sock in (other, *stuck):
            assert answer(sock).startswith(b"HTTP/1.1 200")


def test_health_checks_without_end_do_not_keep_a_request_waiting(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE_A_TURN", 2)
    with running() as loop:
        (stuck,) = stick(loop)
        flood = [client(loop, "10.0.0.2") for _ in range(20)]
        polite = client(loop)
        for sock in flood:
            ask(sock, "/ping", b"")
        ask(polite, "/polite")
        loop.runner.app.go.set()
        assert answer(polite).startswith(b"HTTP/1.1 200")
        place = loop.runner.app.seen.index("/polite")
        assert place <= 1 + 2 * 3  # behind the stuck one and a few turns with two checks each and one request
        assert [answer(sock)[:12] for sock in (*flood, stuck)] == [b"HTTP/1.1 200"] * 21


def test_requests_without_a_body_take_turns_and_count():
    with running(queue_size=5) as loop:
        (stuck,) = stick(loop)
        readers = [client(loop, "10.0.0.2") for _ in range(5)]
        for sock in readers:
            queue_up(loop, sock, "/metrics", body=b"")
        one_more = client(loop, "10.0.0.2")
        ask(one_more, "/metrics", b"")
        wait_until(lambda: loop.help_out() or loop.runner.recorder.added)
        assert answer(one_more).startswith(b"HTTP/1.1 503")  # a full queue holds for them too
        polite = client(loop)
        ask(polite, "/polite")
        wait_until(lambda: loop.help_out() or len(loop.runner.recorder.added) == 2)
        assert answer(readers[-1]).startswith(b"HTTP/1.1 503")  # and the client that has most gives way
        loop.runner.app.go.set()
        for sock in (polite, stuck, *readers[:-1]):
            assert answer(sock).startswith(b"HTTP/1.1 200")
        assert loop.runner.app.seen.index("/polite") <= 2


def test_a_priority_counts_only_where_clients_may_set_it():
    for allowed, order in ((True, ["/b", "/a"]), (False, ["/a", "/b"])):
        with running(with_priorities=allowed) as loop:
            (stuck,) = stick(loop)
            first, second = client(loop), client(loop)
            queue_up(loop, first, "/a")
            queue_up(loop, second, "/b", X_Request_Priority=1)
            loop.runner.app.go.set()
            for sock in (stuck, first, second):
                answer(sock)
            assert loop.runner.app.seen[1:] == order


def test_the_gauge_of_waiting_requests_falls_too():
    with running() as loop:
        (stuck,) = stick(loop)
        first, second = client(loop), client(loop)
        queue_up(loop, first, "/a")
        queue_up(loop, second, "/b")
        assert loop.runner.recorder.put_values[-1] == 2
        loop.runner.app.go.set()
        for sock in (stuck, first, second):
            answer(sock)
        assert loop.runner.recorder.put_values[-1] == 0


@pytest.mark.parametrize("path", ["/exit", "/error"])
def test_what_the_application_raises_is_a_500_and_ends_no_thread(path):
    with running() as loop:
        sock = client(loop)
        ask(sock, path)
        assert answer(sock).startswith(b"HTTP/1.1 500")
        ask(sock, "/after")
        assert answer(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("method", ["answer", "settle", "urgency"])
def test_what_is_raised_beside_the_application_ends_a_connection_and_no_thread(method, monkeypatch):
    with running() as loop:
        broken, whole = client(loop), client(loop)
        first = next(iter(loop.connections.values()))

        def fail(*_args, **_more):
            raise KeyError(method)

        monkeypatch.setattr(first, method, fail)
        ask(broken, "/broken")
        assert answer(broken)[:12] in (b"", b"HTTP/1.1 200")
        ask(whole, "/whole")
        assert answer(whole).startswith(b"HTTP/1.1 200")
        wait_until(lambda: len(loop.connections) == 1)


def test_a_turn_that_fails_as_a_whole_is_not_the_last(monkeypatch):
    with running() as loop:
        take, failed = loop._queue.take, threading.Event()

        def fail_once():
            if failed.is_set():
                return take()
            failed.set()
            raise MemoryError

        monkeypatch.setattr(loop._queue, "take", fail_once)
        sock = client(loop)
        ask(sock, "/a")
        assert answer(sock).startswith(b"HTTP/1.1 200")
        assert failed.is_set()


def test_no_other_event_takes_the_end_away(monkeypatch):
    """A thread that is about to take a wake-up when the end comes must leave the end to the others."""
    read = os.eventfd_read
    with running(threads=3) as loop:

        def late(descriptor):
            loop._end_now()
            return read(descriptor)

        loop._end_now = lambda: os.eventfd_write(loop._end, 1)
        monkeypatch.setattr(module.os, "eventfd_read", late)
        os.eventfd_write(loop._wake, 1)
        for thread in loop._threads:
            thread.join(WAIT_S)
        assert not loop.running_threads


def test_slow_requests_run_in_a_bounded_number_of_threads():
    with running(slow=("/stuck",)) as loop:
        slow = [client(loop) for _ in range(40)]
        for sock in slow:
            ask(sock, "/stuck/load")
        for _ in range(4):
            assert loop.runner.app.inside.acquire(timeout=WAIT_S)
        quick = client(loop, "10.0.0.2")
        ask(quick, "/quick")
        assert answer(quick).startswith(b"HTTP/1.1 200")
        wait_until(lambda: len(loop.runner.recorder.added) == 4)  # 40 less 4 that run and 32 that wait
        assert sum(thread.name == "admin" for thread in threading.enumerate()) == 4
        loop.runner.app.go.set()
        statuses = sorted(answer(sock)[9:12] for sock in slow)
        assert statuses == [b"200"] * 36 + [b"503"] * 4


def test_threads_for_slow_requests_end():
    ran = []
    slow = SlowRequests(ran.append)
    for number in range(10):
        slow.put(number)
    wait_until(lambda: len(ran) == 10 and not slow._threads)
    slow.put(10)
    wait_until(lambda: ran[-1] == 10)


def test_the_connection_that_is_idle_longest_gives_way(caplog):
    with running() as loop:
        limit = ConnectionLimit(3, loop.connections, logging.getLogger("test.limit"))
        idle = [client(loop) for _ in range(3)]
        ask(idle[0], "/a")
        answer(idle[0])  # its time runs from now: the second is idle longest
        for connection in loop.connections.values():
            wait_until(lambda connection=connection: connection.idle)
        assert limit.has_room()
        assert idle[1].recv(1) == b""
        wait_until(lambda: len(loop.connections) == 2)
        idle.append(client(loop))
        assert limit.has_room()
        assert idle[2].recv(1) == b""
        ask(idle[0], "/b")
        assert answer(idle[0]).startswith(b"HTTP/1.1 200")
    assert [record.message for record in caplog.records] == [
        "3 connections are open, 3 of them idle: the limit of a worker is reached "
        "(setting max_connections, 3); those idle longest are closed"
    ]


def test_where_none_is_idle_a_new_connection_gets_503(caplog):
    with running() as loop:
        limit = ConnectionLimit(1, loop.connections, logging.getLogger("test.limit"))
        stick(loop)
        assert not limit.has_room()
        ours, theirs = socket.socketpair()
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        limit.refuse(ours)
        text = answer(theirs)
        assert text.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1\r\n" in text
        theirs.close()
    assert "max_connections, 1); new ones are answered 503" in caplog.text


def test_a_request_that_holds_its_thread_beyond_its_deadline_is_told_once_in_a_while(monkeypatch, caplog):
    with running() as loop:
        sock = client(loop)
        ask(sock, "/soon")
        assert answer(sock).startswith(b"HTTP/1.1 200")
        wait_until(lambda: loop.idle_threads == 1)  # it has looked at the time after it answered
        assert not caplog.records
        monkeypatch.setattr(request_runner, "_LATE_S", -60.0)  # the deadline of these requests is a minute
        for turn in range(3):
            ask(sock, f"/late{turn}")
            assert answer(sock).startswith(b"HTTP/1.1 200")
        wait_until(lambda: caplog.records)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("'/late0' was answered after ")
    assert "its deadline was 60.0 s" in line


@pytest.mark.parametrize("more", [b"", b"half of the next request"])
def test_a_request_whose_client_left_while_it_waited_is_not_run(more):
    with running() as loop:
        (stuck,) = stick(loop)
        left, stayed = client(loop, "10.0.0.2"), client(loop, "10.0.0.3")
        queue_up(loop, left, "/left")
        queue_up(loop, stayed, "/stayed")
        left.sendall(more)
        left.close()
        time.sleep(2 * request_runner._WAITED_S)
        loop.runner.app.go.set()
        assert answer(stayed).startswith(b"HTTP/1.1 200")
        # behind the next request its end is not seen
        assert loop.runner.app.seen == (["/stuck", "/left", "/stayed"] if more else ["/stuck", "/stayed"])
        assert loop.runner.recorder.added == ([] if more else ["refused_client_left"])
        assert answer(stuck).startswith(b"HTTP/1.1 200")
        wait_until(lambda: len(loop.connections) == 2)


def test_a_client_that_only_stopped_to_send_is_told_why_it_gets_no_answer():
    with running() as loop:
        stick(loop)
        sock = client(loop, "10.0.0.2")
        queue_up(loop, sock, "/waits")
        sock.shutdown(socket.SHUT_WR)
        time.sleep(2 * request_runner._WAITED_S)
        loop.runner.app.go.set()
        said = answer(sock)
        assert said.startswith(b"HTTP/1.1 499 Client Closed Request")
        assert b"left while its request waited" in said
