"""A worker traces what it is asked to, from when the kernel had the request; and nothing else."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest

from cpuserve.protocols.tracing import SPANS, StampedSocket, Tracer
from cpuserve.serving.trace_ring import Timeline


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    yield ours, theirs
    ours.close(), theirs.close()


@pytest.fixture
def timeline():
    return Timeline(rows=1)


@pytest.fixture
def tracer(timeline):
    return Tracer(timeline, timeline.row(0))


def connection(sock):
    return SimpleNamespace(sock=sock, open=True, arrived_ns=time.perf_counter_ns())


def test_nothing_is_traced_unless_asked(tracer, timeline, pair):
    environ = {}
    there = connection(pair[0])
    assert tracer.begin(environ, there) is None
    assert environ == {}
    assert there.sock is pair[0]


@pytest.mark.parametrize("by", ["switch", "header"])
def test_what_is_asked_for_is_kept(tracer, timeline, pair, by):
    timeline.tracing = by == "switch"
    environ = {} if by == "switch" else {"HTTP_X_CPUSERVE_TRACE": "1"}
    there = connection(pair[0])
    spans = tracer.begin(environ, there)
    assert environ[SPANS] is spans
    tracer.end(environ, spans, "404 Not Found")
    (record,) = timeline.records(0, 0)
    assert record.status == 404
    assert [stage for stage, _, _ in record.entries] == [0, 6]
    headers = tracer.headers(environ, spans)
    assert headers == ([] if by == "switch" else [("X-Cpuserve-Trace", record.name)])
    there.sock.close()


def test_the_wait_in_the_kernel_is_part_of_the_queue(tracer, timeline, pair):
    timeline.tracing = True
    there = connection(pair[0])
    tracer.begin({}, there)
    assert isinstance(there.sock, StampedSocket)
    stamped = there.sock
    for _ in range(50):  # the kernel begins to stamp a while after it was asked to, on a busy machine
        pair[1].sendall(b"x" * 100)
        sent = time.perf_counter_ns()
        time.sleep(0.05)
        assert stamped.recv(10) == b"x" * 10
        rest = bytearray(90)
        assert stamped.recv_into(memoryview(rest)) == 90
        assert rest == b"x" * 90
        there.arrived_ns = time.perf_counter_ns()
        spans = tracer.begin({}, there)
        if spans.entries[0][1] <= sent + 20_000_000 < there.arrived_ns:
            break
    else:
        pytest.fail("no request waited from when its bytes came")
    stamped.close()
