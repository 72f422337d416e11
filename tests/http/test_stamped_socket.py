"""A traced connection knows when the kernel had a request."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest

from cpuserve.http.stamped_socket import StampedSocket, kernel_arrival_ns


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    yield ours, theirs
    ours.close(), theirs.close()


def test_the_wait_in_the_kernel_is_seen_from_the_second_request_on(pair):
    there = SimpleNamespace(sock=pair[0], open=True)
    now = time.perf_counter_ns()
    assert kernel_arrival_ns(there, now) == now
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
        arrived = time.perf_counter_ns()
        if kernel_arrival_ns(there, arrived) <= sent + 20_000_000 < arrived:
            break
    else:
        pytest.fail("no request waited from when its bytes came")
    stamped.close()
