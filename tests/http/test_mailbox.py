"""Requests that one process leaves for another, with the client's connection."""

from __future__ import annotations

import gc
import os
import socket
import time
from pathlib import Path

import pytest

from cpuserve.http.head import Head
from cpuserve.http.mailbox import Mailboxes, WaitingRequest


@pytest.fixture
def client():
    near, far = socket.socketpair()
    near.settimeout(10)
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def boxes():
    made = Mailboxes(3)
    yield made
    while (left := made.receive(0)) is not None:
        left.sock.close()
    made.close()


def open_files():
    """What the descriptors of this process are of; each socket and each anonymous file has a number."""
    gc.collect()
    found = {os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()}
    return {name for name in found if not name.startswith("/proc")}  # that of the look itself


def waiting(sock, body=b"", **changes):
    fields = {
        "sock": sock,
        "peer": ("10.0.0.1", 5),
        "head": Head("POST", "/x?y", "/x", "y", "1.1", {"host": "h"}),
        "address": "10.0.0.9",
        "client": "key a",
        "answer_headers": [("Vary", "Origin")],
        "body": body,
        "has_body": bool(body),
        "behind": b"GET ",
        "arrived_ns": time.perf_counter_ns(),
        "due": 5.5,
    }
    return WaitingRequest(**{**fields, **changes})


@pytest.mark.parametrize("body", [b"", b"x", bytearray(b"ab" * 70_000), memoryview(bytes(3 << 20))])
def test_another_process_answers_what_was_left_for_it(client, boxes, body):
    near, far = client
    sent = waiting(far, body)
    child = os.fork()
    if not child:
        deadline = time.monotonic() + 20
        while (found := boxes.receive(2)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        same = found is not None and bytes(found.body) == bytes(body)
        same = same and found.head.fields() == sent.head.fields()
        names = ("peer", "client", "answer_headers", "has_body", "behind", "arrived_ns", "due")
        same = same and all(getattr(found, name) == getattr(sent, name) for name in names)
        if found is not None:
            found.sock.sendall(b"same" if same else b"else")
        os._exit(0)
    assert boxes.send(2, sent)
    far.close()
    assert near.recv(10) == b"same"
    assert near.recv(10) == b""  # the process that took it was the last to hold the connection
    assert os.waitpid(child, 0)[1] == 0
    assert boxes.receive(0) is None
    assert boxes.receive(2) is None


def test_a_full_mailbox_and_a_large_head_leave_the_request_with_the_sender(client, boxes):
    near, far = client
    assert not boxes.send(0, waiting(far, head=Head("POST", "/x", "/x", "", "1.1", {"x": "x" * (1 << 18)})))
    sent = 0
    while boxes.send(0, waiting(far)):
        sent += 1
        assert sent < 100_000
    assert sent > 0
    far.sendall(b"still here")
    assert near.recv(20) == b"still here"


def test_emptying_ends_the_connections_and_closes_every_descriptor(client, boxes):
    near, far = client
    before = open_files()
    for _ in range(3):
        assert boxes.send(0, waiting(far, b"body"))
    far.close()
    assert boxes.empty(0) == 3
    assert near.recv(10) == b""
    assert open_files() - before == set()
