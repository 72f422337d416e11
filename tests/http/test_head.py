"""Heads and chunks are judged as strictly as gunicorn's own parser does, and understood the same."""

from __future__ import annotations

import random

import pytest
from gunicorn.asgi.parser import ParseError, PythonProtocol

from cpuserve.errors import CpuserveError
from cpuserve.http.chunked_body import ChunkedBody
from cpuserve.http.head import HeadReader, HttpError, head_ends
from cpuserve.protocols.body_budget import BodyBudget, BodyShare

POST = b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LONG = b"a" * 8190


def read(message):
    """What we make of a message: its request, or the status of its refusal; None while it is not whole."""
    try:
        found = HeadReader().feed(message)
        if found is None:
            return None
        head, rest = found
        body = bytearray()
        if head.chunked:
            chunks = ChunkedBody(BodyShare(BodyBudget(1 << 20)), 1 << 20)
            rest, body = chunks.feed(rest), chunks.body
        elif len(rest) < head.length:
            return None
        else:
            body += rest[: head.length]
            rest = rest[head.length :]
    except CpuserveError as error:
        return error.status
    if rest is None:
        return None
    line = [head.method, head.target, f"HTTP/{head.version}"]
    return line, head.headers, bytes(body), bytes(rest), head.keep


def read_by_gunicorn(message):
    """The same by gunicorn's parser; an exception's name where it refuses."""
    body = bytearray()
    parser = PythonProtocol(on_body=body.extend)
    try:
        parser.feed(message)
    except (ParseError, ValueError) as error:
        return type(error).__name__
    if not parser.is_complete:
        return None
    fields = {}
    for name, value in parser.headers:
        if b"_" not in name:
            key, text = name.decode().lower(), value.decode("latin-1")
            fields[key] = f"{fields[key]},{text}" if key in fields else text
    line = [parser.method.decode(), parser.path.decode(), "HTTP/{}.{}".format(*parser.http_version)]
    return line, fields, bytes(body), parser.remaining(), parser.should_keep_alive


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),  # LF alone
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400),  # CR alone
        (b"GET / HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n(X: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX\x85: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\ncontent-type: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \t\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h:8o\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\xfc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET http:// HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http://u@h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http://g/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /x#y HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET http://h#/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\n\r\n", 400),
        (b"OPTIONS / RTSP/1.0\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\r\n\r\n" + LAST, 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
        (POST + b"Content-Length: +1\r\n\r\na", 400),
        (POST + b"Content-Length: \xb2\r\n\r\na", 400),
        (POST + b"Content-Length: " + b"9" * 20 + b"\r\n\r\na", 400),
        (POST + b"Content-Length:\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"3;;\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"3\r\nabcde0\r\n\r\n", 400),
        (CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
        (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", 400),
        (CHUNKED + b"0\r\nX: \x00\r\n\r\n", 400),
        (CHUNKED + b"1" + b";a" * 5000, 400),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + LONG, 414),
        (b"GET /" + LONG + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + LONG, 431),
        (b"GET / HTTP/1.1\r\nX: " + LONG[4:] + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(message, status):
    assert read(message) == status


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + LONG[5:] + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 99 + b"\r\n",
        b"GET /" + LONG[14:] + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n" + LAST + LAST,
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://h/x?y HTTP/1.0\r\nX: \xff\t \r\n\r\n",
        POST + b"X-Two: 1\r\nX_Two: 2\r\nX-Two: \t3 \r\nContent-Length: 005\r\n\r\nhello" + LAST,
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello" + LAST,
        CHUNKED[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n5\r\n\r\n\r\nX\r\n0\r\n\r\n" + LAST,
        b"OPTIONS / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + LAST,
        POST + b"Expect: 100-continue\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b'3;a=b;c="d\\"e"\r\nabc\r\n00a\r\n0123456789\r\n0;x\r\nX: y\r\n\r\n' + LAST,
    ],
)
def test_what_is_taken_is_understood_as_by_gunicorn(message):
    found = read(message)
    assert isinstance(found, tuple)
    assert found == read_by_gunicorn(message)


@pytest.mark.parametrize("host", ["h", "h:8000", "h:", "a_b.c-d", "[::1]:80", "127.0.0.1", "1"])
def test_hosts_as_clients_send_them_are_taken(host):
    found = HeadReader().feed(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert found is not None
    assert found[0].headers["host"] == host


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://h?x=/v2/repository/models/m/load", "/", "x=/v2/repository/models/m/load"),
        ("http://h", "/", ""),
        ("HTTP://H:80/v2?y", "/v2", "y"),
        ("http://h/a%20b?x=/y", "/a b", "x=/y"),
        ("/x?http://g/y", "/x", "http://g/y"),
        ("//g/x", "//g/x", ""),
    ],
)
def test_path_and_query_of_every_form_of_a_target(target, path, query):
    found = HeadReader().feed(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert found is not None
    assert (found[0].path, found[0].query) == (path, query)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: y\n" + b"\n" * 150, 400),
        (b"\r\n\r\n" + LAST, 400),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"Y\x00", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00" + LONG, 400),
        (b"GET / HTTP/1.1\r\nX: " + LONG + b"\x00", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + (b"X: " + LONG[6:] + b"\r\n") * 8 + b"\x00", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + (b"X: " + LONG[6:] + b"\r\n") * 7 + b"\x00", 400),
        (b"GET /" + LONG + b"\x00", 414),
    ],
)
def test_what_is_wrong_first_counts_however_the_message_is_cut(message, status):
    assert read(message) == status
    reader = HeadReader()
    with pytest.raises(HttpError) as caught:
        for place in range(len(message)):
            assert reader.feed(message[place : place + 1]) is None
    assert caught.value.status == status


def test_an_empty_line_may_come_first_by_itself():
    reader = HeadReader()
    assert reader.feed(b"\r\n") is None
    head, rest = reader.feed(LAST)
    assert (head.target, bytes(rest)) == ("/", b"")


SEEDS = [
    LAST + LAST,
    POST + b"X-Two: 1\r\nX-Two: 2\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello" + LAST,
    CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n" + LAST,
    b"GET http://h/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
PIECES = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"_", b"0", b"\x00", b"\x0b", b"\x85", b"\xb2"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n"),
    *(b"Host: g\r\n", b"Connection: close\r\n", b"HTTP/1.0", b"chunked", b"5\r\nabcde\r\n", b"GET ", b"://"),
]


def damaged(random_):
    message = bytearray(random_.choice(SEEDS))
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(message))
        message[at : at + random_.choice((0, 0, 1, 2))] = random_.choice(PIECES)
    return bytes(message)


def test_a_damaged_message_that_is_taken_is_understood_as_by_gunicorn():
    random_ = random.Random(20_000)  # noqa: S311  # the same on every run
    taken = refused = 0
    for _ in range(20_000):
        message = damaged(random_)
        found = read(message)
        if isinstance(found, tuple):
            by_gunicorn = read_by_gunicorn(message)
            if by_gunicorn == "InvalidChunkExtension":
                continue  # nobody reads the extensions of a chunk here
            *theirs, their_keep = by_gunicorn
            *ours, keep = found
            assert ours == theirs, message
            assert keep <= their_keep, message  # of several words about the connection, "close" counts
            taken += 1
        refused += isinstance(found, int)
    assert taken > 4000
    assert refused > 8000


@pytest.mark.parametrize(
    ("data", "begun", "expected"),
    [
        (b"", False, []),
        (b"abc", False, [3]),
        (b"a\r\n\r\nb", False, [5, 6]),
        (b"\r\n\r\n\r\n", False, [4, 6]),  # the second end begins inside the first
        (b"\r\n\r\n\r\n\r\nab", True, [1, 2, 3, 4, 6, 8, 10]),
        (b"ab", True, [1, 2]),
    ],
)
def test_a_head_may_end_behind_every_two_line_ends(data, begun, expected):
    assert list(head_ends(data, begun=begun)) == expected


@pytest.mark.parametrize("size", [1, 3, 100])
def test_http2_is_told_where_it_is_spoken_however_it_is_cut(size):
    reader, data = HeadReader(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with pytest.raises(HttpError, match="HTTP/2, which is spoken at grpc_port alone") as caught:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
    assert caught.value.status == 505
