"""Compressed bodies are inflated whole or refused, and never beyond a limit."""

from __future__ import annotations

import gzip
import random
import socket
import zlib

import pytest

from cpuserve.errors import BodiesTooLarge, BodyTooLarge, CpuserveError, RequestError
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Reply, answer
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.inflate import inflate
from tests.http.test_connection import make

MIB = 1 << 20
NOISE = random.Random(1).randbytes(300_000)  # noqa: S311  # the same on every run


def inflated(data, coding="gzip", limit=MIB):
    return bytes(inflate(memoryview(data), coding, limit, lambda _count: None))


@pytest.mark.parametrize("text", [b"", b"x", bytes(MIB), NOISE])
def test_a_body_is_inflated_whole(text):
    assert inflated(gzip.compress(text)) == text
    assert inflated(zlib.compress(text), "deflate") == text


def test_every_member_of_gzip_is_read():
    parts = [b"one", b"", NOISE, b"two" * 50_000, b""]
    assert inflated(b"".join(gzip.compress(part) for part in parts)) == b"".join(parts)


def zipped(data: bytes) -> bytes:
    """The same bytes at any time: they name the test."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "coding", "words"),
    [
        (zipped(b"x") + b"more", "gzip", "is not gzip: .* byte 21"),
        (zipped(b"x") + b"\0", "gzip", "ends too early"),
        (zipped(b"x") + b"\0" * 30, "gzip", "is not gzip"),
        (zipped(b"x") + zipped(b"y")[:-1], "gzip", "ends too early"),
        (zipped(b"x")[:-8] + b"\0" * 8, "gzip", "is not gzip"),
        (zlib.compress(b"x") + b"more", "deflate", "4 bytes behind its end"),
        (zlib.compress(b"x") * 2, "deflate", "bytes behind its end"),
        (zlib.compress(NOISE)[:-1], "deflate", "ends too early"),
        (b"", "gzip", "ends too early"),
        (b"text", "gzip", "is not gzip"),
        (zipped(b"") * 1001, "gzip", "more than 1000 members"),
        (b"text", "br", "'br' is not understood"),
    ],
)
def test_what_is_not_whole_or_not_alone_is_refused(data, coding, words):
    with pytest.raises(RequestError, match=words) as caught:
        inflated(data, coding)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "data",
    [
        zipped(bytes(MIB + 1)),
        zipped(bytes(MIB)) + zipped(b"x"),
        zipped(bytes(99 * MIB)),
    ],
)
def test_more_than_a_body_may_have_is_refused(data):
    with pytest.raises(BodyTooLarge, match="max_body_bytes"):
        inflated(data)


def test_memory_is_asked_for_before_it_is_taken():
    asked = []

    def take(count):
        asked.append(count)
        if sum(asked) > MIB:
            raise BodiesTooLarge("full", 1)

    with pytest.raises(BodiesTooLarge):
        inflate(memoryview(zipped(bytes(99 * MIB))), "gzip", 99 * MIB, take)
    assert sum(asked) <= MIB + (1 << 18)


@pytest.mark.parametrize(("text", "status"), [(bytes(400_000), 200), (bytes(900_000), 503)])
def test_what_a_body_inflates_to_counts_until_the_answer(text, status):
    ours, client = socket.socketpair()
    budget = BodyBudget(600_000)
    limits = ClientLimits(max_body_bytes=MIB, request_timeout_s=5, keep_alive_s=9)
    connection = make(ours, limits, budget=budget)
    data = zipped(text)
    held = []

    def handler(call):
        try:
            size = call.body().nbytes
        finally:
            held.append(budget.held)
        return Reply(200, str(size).encode(), [])

    with client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
            + data
        )
        assert connection.receive()
        reply = answer(handler, connection.call)
        assert reply.status == status
        assert held[0] >= 250_000
        connection.answer(reply)
    assert budget.held == 0
    connection.close()


def test_a_damaged_body_is_inflated_or_refused_and_nothing_else():
    random_ = random.Random(2)  # noqa: S311  # the same on every run
    whole = zipped(NOISE[:3000]) + zipped(b"two" * 1000)
    taken = 0
    for _ in range(2000):
        damaged = bytearray(whole)
        at = random_.randrange(len(damaged))
        damaged[at : at + random_.randint(0, 3)] = random_.randbytes(random_.randint(0, 3))
        try:
            taken += bool(inflated(damaged))
        except CpuserveError:
            continue
    assert taken < 200  # the checksums see to that
