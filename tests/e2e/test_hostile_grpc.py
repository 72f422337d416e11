"""Harmful clients of gRPC: whatever they send, memory is bounded and others are answered."""

from __future__ import annotations

import resource
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient import http as triton_http

from tests.conftest import ROOT
from tests.grpc.raw_http2 import PREFACE, RawClient, frame, grpc_frame
from tests.grpc.running import full_name
from tests.servers import free_port, serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
INFER, LIVE, STREAM = full_name("ModelInfer"), full_name("ServerLive"), full_name("ModelStreamInfer")
MIB = 1 << 20
MESSAGE = 4 * MIB
UNFINISHED = 16 * MIB
RESOURCE_EXHAUSTED, UNAVAILABLE = 8, 14
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9


@pytest.fixture(scope="module")
def served(digits, tmp_path_factory):
    """A server with one worker and small limits."""
    port = free_port()
    log = tmp_path_factory.mktemp("hostile") / "log"
    words = (
        *("--model-repository", str(digits), "--workers", "1", "--grpc-port", str(port)),
        *("--max-body-bytes", str(MESSAGE), "--max-unfinished-body-bytes", str(UNFINISHED)),
        *("--max-connections", "400"),
    )
    with serving(log, *words) as server:
        server.grpc_port = port
        answers(server)
        yield server


def raw(served):
    """A client at another address than the one that must be answered."""
    return RawClient(f"127.0.0.1:{served.grpc_port}", "127.0.0.2")


def resident(served):
    (pid,) = served.workers()
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def infer(module, port, **more):
    sent = module.InferInput("image", [1], "BYTES")
    sent.set_data_from_numpy(np.array([SEVEN], dtype=object))
    client = module.InferenceServerClient(f"127.0.0.1:{port}", **more)
    found = client.infer("digits", [sent]).as_numpy("probabilities").tobytes()
    client.close()
    return found


def answers(served):
    """Both transports answer, and alike."""
    own = {"channel_args": [("grpc.use_local_subchannel_pool", 1)]}
    over_grpc = infer(triton, served.grpc_port, **own)
    assert over_grpc == infer(triton_http, served.port)
    return over_grpc


@pytest.fixture(autouse=True)
def others_are_answered(served):
    """After each attack the same worker answers, with the memory of before."""
    workers, before, said = served.workers(), resident(served), len(served.text())
    yield
    assert answers(served)
    assert served.workers() == workers
    assert resident(served) - before < 32 * MESSAGE + 40 * MIB  # of the streams, where it is not given back
    assert "Traceback" not in served.text()[said:], served.text()[said:]


@pytest.mark.parametrize("method", [INFER, LIVE])
def test_half_messages_take_no_more_than_the_budget(served, method):
    before, most = resident(served), 0
    clients = [raw(served) for _ in range(4)]
    try:
        half = grpc_frame(bytes(MESSAGE - 1), MESSAGE)
        for client in clients:
            for _ in range(30):  # 480 MiB in all
                client.send(client.begin(method), half, patience_s=0.02)
            most = max(most, resident(served) - before)
            assert answers(served)
            assert served.get("/v2/health/ready").status == 200
        assert most < 2 * UNFINISHED + 120 * (64 << 10) + 20 * MIB
    finally:
        for client in clients:
            client.socket.close()


def test_half_messages_of_streams_take_no_more_than_so_many_streams(served):
    before = resident(served)
    half = grpc_frame(bytes(MESSAGE - 1), MESSAGE)
    with raw(served) as first, raw(served) as second:
        for client in (first, second):
            for _ in range(40):  # 320 MiB in all
                client.send(client.begin(STREAM), half, patience_s=0.02)
        assert resident(served) - before < 32 * MESSAGE + 40 * MIB
        assert answers(served)
        client = triton.InferenceServerClient(f"127.0.0.1:{served.grpc_port}")
        got = []
        client.start_stream(lambda result, error: got.append((result, error)))
        sent = triton.InferInput("image", [1], "BYTES")
        sent.set_data_from_numpy(np.array([SEVEN], dtype=object))
        client.async_stream_infer("digits", [sent])
        client.stop_stream()
        assert [error for _, error in got] == [None]
        for one in (first, second):  # those that were idle longest made room
            one.read(0.5)
        assert UNAVAILABLE in {**first.ended, **second.ended}.values()


def test_a_message_that_is_announced_too_large_is_refused_before_it_comes(served):
    with raw(served) as client:
        streams = [client.begin(INFER) for _ in range(3)]
        for stream, size in zip(streams, (MESSAGE + 1, 1 << 31, (1 << 32) - 1), strict=True):
            client.send(stream, grpc_frame(b"", size))
        assert client.wait(streams) == dict.fromkeys(streams, RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    "data",
    [
        grpc_frame(b"abc", 10),  # ends inside
        b"\0\0",
        b"",
        b"\1" + struct.pack(">I", 3) + b"abc",  # packed, without a word of how
        b"\7" + struct.pack(">I", 3) + b"abc",
        grpc_frame(b"") * 2,
        grpc_frame(b"\xff" * 100),
    ],
)
@pytest.mark.parametrize("method", [INFER, LIVE, STREAM, full_name("Nothing"), "/", "*", "/a/b/c"])
def test_wrong_lengths_end_the_call_with_a_status(served, method, data):
    with raw(served) as client:
        stream = client.begin(method)
        client.send(stream, data or b"\0", end=True)
        assert client.wait([stream]).keys() == {stream}


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize("count", [80, 101, 1000])  # of 900 bytes each
def test_metadata_have_a_limit_also_of_clients_that_never_say_they_know_it(served, polite, count):
    with raw(served) as client:
        if polite:
            client.read(0.5)
        stream = client.begin(LIVE, [(f"x-{number}", "y" * 900) for number in range(count)])
        client.send(stream, grpc_frame(b""), end=True)
        assert client.wait([stream]) == {stream: RESOURCE_EXHAUSTED}


def test_streams_that_are_reset_at_once(served):
    """Thousands of calls, each taken back before it is answered."""
    before = resident(served)
    with raw(served) as client:
        for _ in range(40):
            for _ in range(100):
                stream = client.begin(INFER)
                client.h2.reset_stream(stream)
            client.flush()
            client.read(0.001)
            if client.closed:
                break  # the server may end such a connection
        assert answers(served)
    assert resident(served) - before < 60 * MIB


def flood(served, data, seconds=1.0):
    """Send bytes again and again, until the server has enough of it; all that it says, and whether it did."""
    said = b""
    with raw(served) as client:
        client.read(0.2)
        end = time.monotonic() + seconds
        client.socket.settimeout(0.2)
        while time.monotonic() < end:
            try:
                client.socket.sendall(data)
            except TimeoutError:
                pass
            except OSError:
                return said, True
            try:
                client.socket.settimeout(0.001)
                while piece := client.socket.recv(1 << 16):
                    said += piece
                return said, True
            except TimeoutError:
                client.socket.settimeout(0.2)
            except OSError:
                return said, True
        return said, False


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (frame(PING, 0, 0, b"12345678") * 20, True),
        (frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 1000, None),
        (frame(SETTINGS, 0, 0) * 1000, None),
        (frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1, b"\0\1x\1y" * 1000) * 200, True),
        (frame(8, 0, 0, struct.pack(">I", 1)) * 1000, None),  # WINDOW_UPDATE
        (frame(2, 0, 1, b"\0\0\0\0\1") * 1000, None),  # PRIORITY
        (frame(DATA, 0, 99, b"x" * 1000) * 100, None),
        (frame(0x77, 0, 0, b"x" * 1000) * 100, None),  # of an unknown kind
    ],
    ids=["ping", "settings", "empty-settings", "continuation", "window", "priority", "data", "unknown"],
)
def test_floods_of_frames(served, data, ends):
    before = resident(served)
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, served, data, 30.0 if ends else 1.0)
        assert answers(served)
        _, ended = flooding.result()
    if ends is not None:
        assert ended == ends
    assert resident(served) - before < 60 * MIB


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100_000,
        bytes(range(256)) * 400,
        b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(500),  # TLS, where there is none
        PREFACE[:10],
        PREFACE + b"\xff" * 1000,
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, b"\xff" * 50),
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 2, b"\x82"),
        PREFACE + frame(SETTINGS, 0, 0)[:-1] + b"\xff" * 20_000,
        b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_garbage_ends_its_connection(served, data):
    with socket.create_connection(("127.0.0.1", served.grpc_port), timeout=10) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        except OSError:
            pass  # reset: ended too


def test_grpc_on_the_port_of_http_has_a_clear_answer(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        said = client.recv(1 << 16)
    assert said.startswith(b"HTTP/1.1 505 ")
    assert b"grpc_port" in said


@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc-web+proto", "Application/GRPC-Web-Text"]
)
def test_grpc_web_on_the_port_of_http_has_a_clear_answer(served, kind):
    answer = served.post(INFER, b"\0\0\0\0\0", **{"Content-Type": kind})
    assert answer.status == 415
    assert "grpc_port" in answer.json()["error"]
    assert "gRPC-Web need a proxy" in answer.json()["error"]


def test_a_thousand_idle_channels(served):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    (pid,) = served.workers()
    before, files = resident(served), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    crowd = []
    try:
        for _ in range(1000):
            crowd.append(socket.create_connection(("127.0.0.1", served.grpc_port), timeout=10))
            crowd[-1].sendall(PREFACE + frame(SETTINGS, 0, 0))
        assert served.get("/v2/health/ready").status == 200
        assert infer(triton_http, served.port)
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) - files <= 400 + 20
        assert resident(served) - before < 100 * MIB
    finally:
        for one in crowd:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served.wait_until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) < files + 50, "closed")


def test_what_clients_send_writes_no_lines_of_the_library_into_the_log(served):
    before = served.text().count("\n")
    for _ in range(10):
        with raw(served) as client:
            stream = client.begin(LIVE, [("grpc-encoding", "br"), ("grpc-timeout", "soon")])
            client.send(stream, grpc_frame(b""), end=True)
            client.wait([stream], 2)
    assert served.text().count("\n") < before + 5
