"""HTTP/1.1 as clients really send it: in pieces, pipelined, wrong, too large, half closed."""

import collections
import contextlib
import math
import random
import select
import socket
import threading
import time

import pytest

from cpuserve.errors import BodiesTooLarge, BodyTooLarge, CpuserveError, QueueFull
from cpuserve.http import connection as module
from cpuserve.http.connection import Connection
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.client_limits import ClientLimits
from cpuserve.protocols.urgency import DEFAULT_PRIORITY, Urgency, urgency_of

LIMITS = ClientLimits(max_body_bytes=1000, request_timeout_s=5, keep_alive_s=9)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    connection = make(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


def make(sock, limits=LIMITS, check=lambda _environ: None, budget=None, address="10.0.0.1"):
    class Tcp(socket.socket):
        def setsockopt(self, *args):  # a socket pair is no TCP
            pass

    wrapped = Tcp(fileno=sock.detach())
    return Connection(wrapped, (address, 5), limits, check, budget or BodyBudget(2000))


def ok(connection, body=b"fine", **options):
    connection.answer(Reply(200, body, []), **options)
    return connection.settle()


def test_a_request_in_single_bytes_becomes_whole_once(pair):
    connection, client = pair
    message = b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 5\r\n\r\nhello"
    for at in range(len(message)):
        assert not connection.receive()
        client.sendall(message[at : at + 1])
    assert connection.receive()
    call = connection.call
    assert (call.method, call.path, call.query) == ("POST", "/a b", "x=1")
    assert (call.headers["x-two"], call.headers["content-length"]) == ("1,2", "5")
    assert (call.address, call.body()) == ("10.0.0.1", b"hello")
    ok(connection)
    answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert answer.endswith(b"Content-Length: 4\r\nConnection: keep-alive\r\n\r\nfine")


@pytest.mark.parametrize(("address", "client"), [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::/64")])
def test_without_a_check_requests_count_against_their_address(address, client):
    ours, theirs = socket.socketpair()
    with theirs:
        connection = make(ours, check=None, address=address)
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert connection.receive()
        assert connection.call.client == client
        connection.close()


def test_the_absolute_form_names_the_same_path(pair):
    connection, client = pair
    for target in (b"http://h/x?y=1", b"/x?y=1"):
        client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert connection.receive()
        assert (connection.call.path, connection.call.query) == ("/x", "y=1")
        assert connection.target == target.decode()
        ok(connection)


def test_pipelined_requests_are_answered_in_order(pair):
    connection, client = pair
    client.sendall(
        b"".join(b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n%02d" % (i, i) for i in range(5))
    )
    for i in range(5):
        assert connection.receive()
        assert (connection.call.path, connection.call.body()) == (f"/{i}", b"%02d" % i)
        assert ok(connection) == (i < 4)
    assert not connection.receive()
    assert client.recv(10000).count(b"200 OK") == 5


def test_chunked_bodies(pair):
    connection, client = pair
    client.sendall(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert connection.receive()
    assert connection.call.body() == b"abcde"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: rot13\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_refused_is_answered_and_the_connection_ends(pair, message, status):
    connection, client = pair
    client.sendall(message)
    with pytest.raises(CpuserveError) as caught:
        connection.receive()
    connection.refuse(caught.value)
    assert not connection.settle()
    answer = client.recv(10000)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in answer
    assert client.recv(10) == b""  # our side is closed, and what the client still sends is taken
    client.sendall(b"more" * 100)
    connection.receive()
    client.close()
    connection.receive()
    assert not connection.open


def test_a_refusal_names_size_limit_and_setting(pair):
    connection, client = pair
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n")
    with pytest.raises(BodyTooLarge, match=r"99999 bytes.*1000 bytes.*max_body_bytes"):
        connection.receive()


def test_a_whole_request_that_is_refused_keeps_the_connection(pair):
    connection, client = pair
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    assert connection.receive()
    connection.refuse(QueueFull("full", 2.5))
    connection.settle()
    answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 3\r\n" in answer
    assert b"keep-alive" in answer
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nho")
    assert connection.receive()
    assert connection.call.body() == b"ho"


def test_continue_is_said_before_a_body_that_is_wanted(pair):
    connection, client = pair
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert not connection.receive()
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"hi")
    assert connection.receive()


@pytest.mark.parametrize(
    ("line", "header", "kept"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_keep_alive_rules(pair, line, header, kept):
    connection, client = pair
    client.sendall(b"GET / " + line + b"\r\nHost: h\r\n" + header + b"\r\n")
    assert connection.receive()
    ok(connection)
    assert connection.open == kept


def test_a_header_with_an_underscore_cannot_forge_one_with_a_dash(pair):
    connection, client = pair
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Key: real\r\nX_Key: forged\r\n\r\n")
    assert connection.receive()
    assert connection.call.headers["x-key"] == "real"


def test_a_large_answer_goes_out_as_the_client_reads(pair):
    connection, client = pair
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert connection.receive()
    body = bytes(range(256)) * 20_000
    ok(connection, body)
    assert connection.wants_write
    received = b""
    while len(received) < len(body) + 100:
        try:
            client.setblocking(False)
            received += client.recv(1 << 20)
        except BlockingIOError:
            if not connection.wants_write:
                break
            connection.flush()
    assert received.endswith(body)
    connection.settle()
    assert connection.open


def test_deadlines_are_for_clients_and_not_for_the_server(pair):
    connection, client = pair
    began = time.monotonic()
    connection.expire(began)
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nh")
    connection.receive()
    assert began + 5 <= connection.deadline <= time.monotonic() + 5
    client.sendall(b"i")
    assert connection.receive()
    assert connection.deadline is None
    connection.expire(time.monotonic() + 1e6)
    ok(connection)
    assert client.recv(10)
    assert began + 9 <= connection.deadline <= time.monotonic() + 9
    connection.expire(time.monotonic() + 10)
    connection.receive()
    assert not connection.open


def test_a_client_that_leaves_is_noticed(pair):
    connection, client = pair
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\nhalf")
    assert not connection.receive()
    client.close()
    assert not connection.receive()
    assert not connection.open


def refusing(status):
    def check(_environ):
        error = CpuserveError("refused")
        error.status = status
        raise error

    return check


@pytest.mark.parametrize("framing", [b"Content-Length: 900", b"Transfer-Encoding: chunked"])
def test_a_request_that_may_not_is_refused_before_its_body_is_asked_for(framing):
    ours, client = socket.socketpair()
    connection = make(ours, check=refusing(401))
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n" + framing + b"\r\n\r\n")
    with client:
        with pytest.raises(CpuserveError) as caught:
            connection.receive()
        connection.refuse(caught.value)
        connection.settle()
        answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"Connection: close" in answer
        assert b"WWW-Authenticate: Bearer" in answer
    connection.close()


def test_who_may_not_is_told_so_also_of_a_body_that_is_too_large():
    ours, client = socket.socketpair()
    connection = make(ours, check=refusing(429))
    with client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n")
        with pytest.raises(CpuserveError) as caught:
            connection.receive()
    assert caught.value.status == 429
    connection.close()


def test_a_small_request_that_may_not_keeps_its_connection():
    ours, client = socket.socketpair()
    connection = make(ours, check=refusing(401))
    with client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi" * 3)
        for turn in range(3):
            with pytest.raises(CpuserveError) as caught:
                connection.receive()
            connection.refuse(caught.value)
            assert connection.settle() == connection.wants_write == (turn < 2)
        assert client.recv(10_000).count(b"HTTP/1.1 401 ") == 3
    assert connection.open
    connection.close()


@pytest.mark.parametrize(
    ("request_", "check"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", refusing(401)),
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", refusing(429)),
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", None),
        (b"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n", None),
        (b"HEAD / HTTP/9.9\r\n\r\n", None),
        (b"\r\nHEAD / HTTP/1.1\r\nHost : h\r\n\r\n", None),
        (b"HEAD /" + b"a" * 9000, None),
        (b"HEAD / HTTP/1.1\r\nX: " + b"a" * 9000, None),
    ],
)
def test_the_answer_to_head_has_no_body(request_, check):
    ours, client = socket.socketpair()
    connection = make(ours, check=check or (lambda _environ: None))
    with client:
        for byte in request_:
            client.sendall(bytes([byte]))
            try:
                whole = connection.receive()
            except CpuserveError as error:
                connection.refuse(error)
                break
            if whole:
                connection.answer(Reply(404, b"none", []))
        answer = client.recv(10_000)
        assert b"Content-Length: " in answer
        assert answer.endswith(b"\r\n\r\n")
    connection.close()


def test_one_client_gives_way_after_so_many_bytes():
    length = 8 << 20
    ours, client = socket.socketpair()
    limits = ClientLimits(max_body_bytes=length, request_timeout_s=60, keep_alive_s=9)
    connection = make(ours, limits, budget=BodyBudget(2 * length))
    head = f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n".encode()
    sender = threading.Thread(target=client.sendall, args=(head + bytes(length),))
    sender.start()
    turns = 0
    while not connection.receive():
        turns += 1
        select.select([connection.sock], [], [], 5)
    sender.join()
    client.close()
    assert turns >= 7
    assert len(connection.call.data) == length
    connection.close()


def test_a_client_has_so_long_to_take_an_answer_however_it_dribbles(pair):
    connection, client = pair
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert connection.receive()
    ok(connection, bytes(5_000_000))
    deadline = connection.deadline
    assert time.monotonic() < deadline < time.monotonic() + 5 + 5_000_000 / 65_536
    for _ in range(3):
        client.recv(300_000)
        connection.flush()
    assert connection.wants_write
    assert connection.deadline == deadline


def test_a_refused_client_is_not_listened_to_without_end(pair, monkeypatch):
    monkeypatch.setattr(module, "_DRAIN_BYTES", 1 << 20)
    connection, client = pair
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n")
    with pytest.raises(BodyTooLarge) as caught:
        connection.receive()
    connection.refuse(caught.value)
    connection.settle()
    with pytest.raises(OSError, match=r"."):
        for _ in range(100):
            client.sendall(b"x" * 65_536)
            connection.receive()
    assert not connection.open


BODY = bytes(range(256)) * 1500  # grows twice
WAYS = ("answer", "refuse", "leave", "expire", "close", "nothing")


def test_memory_of_bodies_is_given_back_on_every_way_out():
    """Whatever some clients do and how their requests end: nothing is held when all are gone."""
    random_ = random.Random(9)  # noqa: S311  # the same on every run
    limits = ClientLimits(max_body_bytes=len(BODY), request_timeout_s=60, keep_alive_s=60)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
    sized = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    budget = BodyBudget(3 * len(BODY))
    outcomes = collections.Counter()
    for _ in range(60):
        clients = []
        for _ in range(random_.randint(1, 6)):
            ours, client = socket.socketpair()
            client.setblocking(False)
            message = [b"POST / HTTP/1.1\r\nHost: h\r\n" + random_.choice((sized, chunked))]
            if random_.random() < 0.3:
                message[0] = message[0][: random_.randrange(len(message[0]))]
            clients.append((make(ours, limits, budget=budget), client, message))
        most = 0
        while clients:
            connection, client, rest = entry = random_.choice(clients)
            with contextlib.suppress(BlockingIOError):
                sent = client.send(rest[0][: random_.randint(1, 150_000)])
                rest[0] = rest[0][sent:]
            whole = False
            try:
                while not whole and select.select([connection.sock], [], [], 0)[0]:
                    whole = connection.receive()
            except BodiesTooLarge as error:
                outcomes["too many"] += 1
                connection.refuse(error)
                rest[0] = b""
            most = max(most, budget.held)
            if whole or not rest[0]:
                way = random_.choice(WAYS)
                outcomes[way, whole] += 1
                leave(connection, way, whole=whole)
                client.close()
                while connection.open:
                    connection.receive()
                clients.remove(entry)
        assert budget.held == 0
        assert most <= budget.limit
    assert outcomes["too many"]
    assert all(outcomes[way, True] and outcomes[way, False] for way in WAYS)


def leave(connection, way, *, whole):
    if way == "answer" and whole:
        assert connection.call.body() == BODY
        connection.answer(Reply(200, b"", []))
        connection.settle()
    elif way == "refuse":
        connection.refuse(QueueFull("full", 1))
        connection.settle()
    elif way == "expire" and not whole:  # the server is at work on a whole one
        connection.expire(math.inf)
    elif way == "close" or whole:
        connection.close()


@pytest.mark.parametrize(
    ("headers", "body", "timeout_s", "priority"),
    [
        ({}, b"\xff\xd8", 10, DEFAULT_PRIORITY),
        ({"x-request-timeout-ms": "250", "x-request-priority": "2"}, b"", 0.25, 2),
        ({"x-request-timeout-ms": "99999"}, b"", 10, DEFAULT_PRIORITY),
        (
            {"x-request-timeout-ms": "9" * 5000, "x-request-priority": "9" * 5000},
            b"",
            10,
            DEFAULT_PRIORITY,
        ),
        ({"inference-header-content-length": "9" * 5000}, b'{"timeout": 1}', 10, DEFAULT_PRIORITY),
        ({"x-request-timeout-ms": "soon", "x-request-priority": "-1"}, b"", 10, DEFAULT_PRIORITY),
        ({}, b'{"parameters": {"timeout": 500000, "priority": 1}}', 0.5, 1),
        (
            {"inference-header-content-length": "34"},
            b'{"parameters": {"timeout": 500000}}\0\1"',
            10,
            DEFAULT_PRIORITY,
        ),
        (
            {"inference-header-content-length": "35"},
            b'{"parameters": {"timeout": 500000}}\0\1"',
            0.5,
            DEFAULT_PRIORITY,
        ),
        ({}, b'{"timeout": 1, "parameters": []}', 10, DEFAULT_PRIORITY),
        ({}, b'{"timeout": broken', 10, DEFAULT_PRIORITY),
    ],
)
def test_urgency(headers, body, timeout_s, priority):
    assert urgency_of(Call("POST", "/", "", headers, body), 10) == Urgency(timeout_s, priority)


def test_the_path_is_the_one_that_routes_see(pair):
    connection, client = pair
    client.sendall(b"GET /v2/r%65pository/models/m?x=/y HTTP/1.1\r\nHost: h\r\n\r\n")
    assert connection.receive()
    assert connection.call.path == "/v2/repository/models/m"
