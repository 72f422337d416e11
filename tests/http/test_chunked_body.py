"""Chunked bodies: understood however they are cut, and bounded in bytes, pieces and memory."""

from __future__ import annotations

import random
import socket

import pytest
from httptools import HttpParserError, HttpRequestParser

from cpuserve.errors import BodiesTooLarge, BodyTooLarge, CpuserveError
from cpuserve.http import chunked_body as module
from cpuserve.http.chunked_body import ChunkedBody
from cpuserve.http.head import HttpError
from cpuserve.protocols.body_budget import BodyBudget, BodyShare
from cpuserve.protocols.client_limits import ClientLimits
from tests.http.test_connection import make

MIB = 1 << 20
LAST = b"0\r\n\r\n"


def reader(most=MIB, budget=None):
    return ChunkedBody(BodyShare(budget or BodyBudget(2 * MIB)), most)


def read(message, cut=None):
    """Body and what came behind it, or the status of the refusal, or None where it is not whole."""
    made, behind = reader(), None
    size = len(message) if cut is None else cut
    try:
        for at in range(0, len(message), size):
            if behind is not None:
                behind += message[at : at + size]
                continue
            found = made.feed(memoryview(message[at : at + size]))
            while found is None and made.unread:
                found = made.feed(made.unread)
            behind = None if found is None else bytes(found)
    except CpuserveError as error:
        return error.status
    return None if behind is None else (bytes(made.body), behind)


def chunked(parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + LAST


def test_the_data_of_a_chunk_pass_whatever_they_are():
    body = b"\r\n0\r\n\r\n" * 100_000
    message = chunked([body]) + b"GET"
    for cut in (None, 1 << 16, 4093):
        assert read(message, cut) == (body, b"GET")


def test_the_data_of_a_chunk_are_not_searched(monkeypatch):
    sizes = []

    class Size:
        def match(self, line):
            sizes.append(len(line))
            return real.match(line)

    real = module._SIZE
    monkeypatch.setattr(module, "_SIZE", Size())
    made = reader()
    message = chunked([b"\r\n" * 200_000])
    for at in range(0, len(message), 4096):
        made.feed(memoryview(message[at : at + 4096]))
    assert len(made.body) == 400_000
    assert len(sizes) == 2  # of the chunk and of the last one
    assert sum(sizes) <= 2 * module._LINE_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_random_chunks_are_read_as_by_llhttp_and_however_they_are_cut(seed):
    random_ = random.Random(seed)  # noqa: S311  # the same on every run
    extensions = (b"", b"", b";a", b";a=b", b';a="b\\"c;"')
    parts = [random_.randbytes(random_.randint(1, 300)) for _ in range(random_.randint(0, 30))]
    message = b"".join(
        b"%x%b\r\n%b\r\n" % (len(part), random_.choice(extensions), part) for part in parts
    ) + random_.choice((LAST, b"00\r\nX: y\r\nZ: 1\r\n\r\n"))
    assert read(message + b"GET /", None) == (b"".join(parts), b"GET /")
    damaged = bytearray(message)
    for _ in range(random_.randint(0, 2)):
        at = random_.randrange(len(damaged))
        damaged[at : at + random_.randint(0, 2)] = random_.choice(
            (b"", b"\r", b"\n", b"0", b" ", b";", b"\r\n")
        )
    whole = read(bytes(damaged))
    for cut in (1, 2, 3, 7, 64):
        assert read(bytes(damaged), cut) == whole
    if isinstance(whole, tuple):
        assert whole[0] == by_llhttp(bytes(damaged)[: len(damaged) - len(whole[1])])


def by_llhttp(message):
    body = bytearray()

    class Protocol:
        def on_body(self, part):
            body.extend(part)

    parser = HttpRequestParser(Protocol())
    try:
        parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + message)
    except HttpParserError:
        return None
    return bytes(body)


def test_many_small_chunks_are_refused_with_the_limit_named():
    made = reader()
    with pytest.raises(
        HttpError, match=r"10\d+ chunks in \d+ bytes, the limit is 10000 .* 256 bytes"
    ) as caught:
        for _ in range(100):
            made.feed(memoryview(b"1\r\nx\r\n" * 500))
    assert caught.value.status == 400
    assert made.count <= 10_100


def test_as_many_chunks_as_their_bytes_allow_are_taken(monkeypatch):
    monkeypatch.setattr(module, "_ANY_SIZE", 10)
    parts = [b"x" * 256] * 1000 + [b"y"] * 5
    assert read(chunked(parts)) == (b"".join(parts), b"")


def test_after_many_chunks_others_have_their_turn():
    made = reader()
    data = b"1\r\nx\r\n" * 2000 + LAST
    turns, unread, found = 0, memoryview(data), None
    while found is None:
        found = made.feed(unread)
        unread = made.unread
        turns += 1
    assert turns == 4
    assert made.body == b"x" * 2000


def test_small_chunks_that_came_are_read_on_without_more_bytes():
    ours, client = socket.socketpair()
    limits = ClientLimits(max_body_bytes=10_000, request_timeout_s=5, keep_alive_s=9)
    connection = make(ours, limits, budget=BodyBudget(MIB))
    with client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"1\r\nx\r\n" * 2000 + LAST)
        turns = 0
        while not connection.receive():
            deadline = connection.deadline
            turns += connection.wants_write
            assert connection.settle() == connection.wants_write
            assert connection.deadline == deadline  # a turn gives no more time
        assert turns >= 3
        assert connection.call.body() == b"x" * 2000
    connection.close()


def test_a_chunk_that_is_too_large_is_refused_by_its_size():
    made = reader(most=1000)
    made.feed(memoryview(b"3e0\r\n" + b"x" * 992 + b"\r\n"))
    with pytest.raises(BodyTooLarge, match=r"1001 bytes or more.*1000 bytes.*max_body_bytes"):
        made.feed(memoryview(b"9\r\n"))


def test_chunks_take_memory_as_they_come():
    budget = BodyBudget(100_000)
    one, two = reader(budget=budget), reader(budget=budget)
    one.feed(memoryview(b"fffff\r\n"))
    assert budget.held == 0
    one.feed(memoryview(b"x" * 50_000))
    assert 50_000 <= budget.held <= 70_000
    with pytest.raises(BodiesTooLarge, match="max_unfinished_body_bytes"):
        two.feed(memoryview(b"fffff\r\n" + b"x" * 50_000))
