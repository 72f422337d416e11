"""Bodies that are only promised, come in pieces, or may not come at all; one worker with one thread."""

from __future__ import annotations

import gzip
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
PATH = "/predictions/digits"
KEY = "k-55e0a1"
MIB = 1 << 20
LIMIT = 900_000


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "keys").write_text(f"{KEY}\n")
    arguments = ["--model-repository", str(digits), "--workers", "1", "--threads", "1"]
    limits = ["--max-body-bytes", str(LIMIT), "--max-unfinished-body-bytes", "1"]
    with serving(folder / "log", *arguments, *limits, "--api-key-file", str(folder / "keys")) as server:
        yield server


@pytest.fixture(scope="module")
def large_server(digits, tmp_path_factory):
    arguments = ["--model-repository", str(digits), "--workers", "1", "--threads", "1"]
    with serving(tmp_path_factory.mktemp("large-bodies") / "log", *arguments) as server:
        yield server


def head(*fields, key=KEY, method="POST", path=PATH):
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *fields, *([f"X-API-Key: {key}"] if key else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(server, stack):
    return stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))


def answer(sock):
    """Status, head and body of the next answer."""
    file = sock.makefile("rb")
    lines = []
    while (line := file.readline().strip()) and line:
        lines.append(line.decode())
    length = next(int(line.split()[1]) for line in lines if line.lower().startswith("content-length"))
    return int(lines[0].split()[1]), lines, file.read(length)


def resident(pid):
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_promised_lengths_take_no_memory_and_hold_up_nobody(large_server):
    (worker,) = large_server.workers()
    assert large_server.post(PATH, SEVEN).status == 200
    before = resident(worker)
    with ExitStack() as stack:
        for _ in range(60):
            connect(large_server, stack).sendall(head(f"Content-Length: {32 * MIB}", key=None) + b"x")
        for _ in range(10):
            assert large_server.post(PATH, SEVEN).status == 200
        assert resident(worker) < before + 64 * MIB  # at once they would be 1,920 MiB


def test_one_chunk_of_line_ends_is_a_body_like_any_other(large_server):
    size = 32 * MIB
    with ExitStack() as stack:
        sock = connect(large_server, stack)
        sock.sendall(head("Transfer-Encoding: chunked", key=None) + b"%x\r\n" % size)
        for _ in range(32):
            sock.sendall(b"\r\n" * (MIB // 2))
            assert large_server.get("/v2/health/live").status == 200
        assert large_server.post(PATH, SEVEN).status == 200
        sock.sendall(b"\r\n0\r\n\r\n")
        status, _, body = answer(sock)
    assert status == 415, body


def test_endless_small_chunks_are_refused_with_their_limit(large_server):
    with ExitStack() as stack:
        sock = connect(large_server, stack)
        sock.sendall(head("Transfer-Encoding: chunked", key=None))
        for _ in range(25):
            sock.sendall(b"1\r\nx\r\n" * 500)
        status, lines, body = answer(sock)
        assert status == 400
        assert b"the limit is 10000" in body
        assert "Connection: close" in lines
        assert large_server.post(PATH, SEVEN).status == 200


def test_unfinished_bodies_are_bounded_and_small_requests_served(server):
    """The least budget is four of the largest bodies, of which one is for small ones: a fourth is refused."""
    with ExitStack() as stack:
        holding = [connect(server, stack) for _ in range(4)]
        for sock in holding:
            sock.sendall(head(f"Content-Length: {LIMIT}") + b"x" * (LIMIT - 1))
        refused = []
        server.wait_until(lambda: refused.extend(closing(holding, refused)) or refused, "refusing one")
        status, lines, body = answer(refused[0])
        assert status == 503
        assert b"max_unfinished_body_bytes" in body
        assert "Retry-After: 1" in lines
        assert refusals(server, "body_memory") == 1
        got = server.post(PATH, SEVEN, **{"X-API-Key": KEY})
        assert got.status == 200, got.body
        for sock in holding:
            if sock not in refused:
                sock.sendall(b"x")
                assert answer(sock)[0] == 415
    for _ in range(4):  # what they held was given back
        assert server.post(PATH, b"x" * LIMIT, **{"X-API-Key": KEY}).status == 415


def closing(sockets, known):
    """Those that an answer has come to."""
    found = []
    for sock in sockets:
        sock.setblocking(False)
        try:
            if sock.recv(1, socket.MSG_PEEK) and sock not in known:
                found.append(sock)
        except BlockingIOError:
            continue
        finally:
            sock.settimeout(60)
    return found


def refusals(server, reason):
    found = re.search(
        rf'cpuserve_refused_total{{reason="{reason}"}} (\d+)', server.get("/metrics").body.decode()
    )
    assert found is not None
    return int(found[1])


def test_who_may_not_is_told_so_before_the_body(server):
    before = refusals(server, "key")
    with ExitStack() as stack:
        for framing in (f"Content-Length: {LIMIT}", "Transfer-Encoding: chunked"):
            sock = connect(server, stack)
            sock.sendall(head(framing, "Expect: 100-continue", key="wrong"))
            status, lines, _ = answer(sock)
            assert status == 401
            assert "WWW-Authenticate: Bearer" in lines
            assert sock.recv(1) == b""
        assert refusals(server, "key") == before + 2
        sock = connect(server, stack)
        sock.sendall(head(f"Content-Length: {len(SEVEN)}", "Expect: 100-continue"))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(SEVEN)
        assert answer(sock)[0] == 200


def test_answers_to_head_have_no_body_and_the_connection_goes_on(server):
    with ExitStack() as stack:
        sock = connect(server, stack)
        refused = head(method="HEAD", path="/v2", key=None)
        missing = head(method="HEAD", path="/nothing")
        wrong = head(method="HEAD", path=PATH)
        allowed = head(method="HEAD", path="/v2")
        sock.sendall(refused + missing + wrong + allowed + head(method="GET", path="/v2"))
        received = b""
        while not received.endswith(b"}"):
            received += sock.recv(1 << 16)
    statuses = re.findall(rb"(?:^|\r\n\r\n)HTTP/1.1 (\d+) ", received)
    assert statuses == [b"401", b"404", b"405", b"200", b"200"]


def test_gzip_of_several_members_is_one_picture(server):
    fields = {"X-API-Key": KEY, "Content-Encoding": "gzip"}
    parts = gzip.compress(SEVEN[:100]) + gzip.compress(SEVEN[100:])
    assert server.post(PATH, parts, **fields).json() == server.post(PATH, SEVEN, **{"X-API-Key": KEY}).json()
    assert server.post(PATH, parts + b"more", **fields).status == 400
