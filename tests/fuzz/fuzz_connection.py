"""HTTP in random cuts is HTTP in one piece: `python -m tests.fuzz connection -max_total_time=600`.

An input is eight bytes that say how long the pieces are, and what the client sends. What the server makes of
it must not depend on the pieces.
"""

from __future__ import annotations

import socket
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.http.connection import Connection
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Reply
from cpuserve.protocols.client_limits import ClientLimits

_LIMITS = ClientLimits(max_body_bytes=1000, request_timeout_s=5, keep_alive_s=9)


class _Pair(socket.socket):
    """One end of a socket pair, which is no TCP."""

    def setsockopt(self, *_: Any) -> None:
        pass


def one(data: bytes) -> None:
    cuts, stream = data[:8], data[8:]
    whole = served([stream])
    if cuts and stream:
        pieces, at, turn = [], 0, 0
        while at < len(stream):
            size = 1 + cuts[turn % len(cuts)]
            pieces.append(stream[at : at + size])
            at, turn = at + size, turn + 1
        assert served(pieces) == whole


def served(pieces: list[bytes]) -> list[Any]:
    """What the server understands: requests, refusals, whether it keeps the connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        budget = BodyBudget(2000)
        pair = _Pair(fileno=ours.detach())
        connection = Connection(pair, ("10.0.0.1", 5), _LIMITS, lambda _call: None, budget)
        found: list[Any] = []
        try:
            for piece in pieces:
                if not connection.open:
                    break
                theirs.send(piece)
                _take(connection, found)
                _drain(theirs)
            found.append(connection.open)
        finally:
            connection.close()
        assert not budget.held
    return found


def _take(connection: Connection, found: list[Any]) -> None:
    while connection.open:
        try:
            if not connection.receive():
                if not connection.wants_write:
                    return
                continue
        except CpuserveError as error:
            found.append(error.status)
            connection.refuse(error)
        else:
            connection.urgency(10)
            call = connection.call
            body = bytes(call.data)
            assert len(body) <= _LIMITS.max_body_bytes
            if "transfer-encoding" not in call.headers:
                assert len(body) == int(call.headers.get("content-length", 0))
            found.append((call.method, call.path, call.query, body))
            connection.answer(Reply(200, b"", []))
        connection.settle()  # the worker's epoll tells of bytes that are in the socket still


def _drain(client: socket.socket) -> None:
    try:
        while client.recv(1 << 16):
            pass
    except (BlockingIOError, ConnectionError):
        return


def seeds() -> list[bytes]:
    post = b"POST /predictions/a%20b?topk=1 HTTP/1.1\r\nHost: h\r\n"
    last = b"GET / HTTP/1.0\r\n\r\n"
    streams = [
        b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n" * 2,
        post + b"Content-Length: 5\r\n\r\nhello" + post + b"Content-Length: 2\r\n\r\nhi",
        post + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n" + last,
        post + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        post + b"Content-Length: 2000\r\n\r\nabc",
        post + b"Content-Length: 1001\r\n\r\n" + b"1\r\nx\r\n" * 400,
        b"GET http://h/x HTTP/1.0\r\nConnection: keep-alive\r\nX_Y: 1\r\nX-Y: 2\r\n\r\n",
        b"HEAD / HTTP/9.9\r\n\r\n",
        b"HEAD http://h:80?x=/v2/repository/models HTTP/1.1\r\nHost: H\r\n\r\n" + last,
        b"GET http://g/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n" + (b"X: " + b"y" * 8000 + b"\r\n") * 9,
        post + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 900 + b"00\r\n\r\n" + last,
        post + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001,
        post + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"\r\n" * 500 + b'\r\n0;a="\\""\r\n\r\n',
    ]
    return [bytes([2, 0, 40, 7, 255, 1, 90, 3]) + stream for stream in streams]
