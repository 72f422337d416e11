"""The client's HTTP/2 against servers that write their own frames, for what real servers do seldom."""

from __future__ import annotations

import time

import pytest
from hpack import Decoder

from benchmarks import grpc_load
from tests.benchmarks.grpc_loading import loader, seconds_of
from tests.benchmarks.scripted_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    answered,
    block,
    frame,
    scripted,
    settings,
    word,
)


@pytest.fixture
def load(tmp_path, monkeypatch, capsys):
    return loader(tmp_path, monkeypatch, capsys)


def test_a_method_that_is_not_there_is_counted_by_its_status(load):
    with scripted(
        lambda: lambda kind, _, stream, __: _without_grpc(stream) if kind == HEADERS else b""
    ) as at:
        found = load(at, "--seconds", "0.1", "--channels", "1")
    assert found["statuses"].keys() == {"UNIMPLEMENTED"}


def _without_grpc(stream):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block((":status", "404")))


def test_a_call_that_is_never_answered_is_reset_at_its_deadline(load):
    reset = []

    def answer(kind, flags, stream, payload):
        if kind == RST_STREAM:
            reset.append((stream, payload))
        return b""

    with scripted(lambda: answer) as address:
        words = ("--channels", "1", "--rate", "50", "--seconds", "0.1", "--timeout-ms", "200")
        found = load(address, *words)
        time.sleep(0.1)
    assert found["statuses"] == {"DEADLINE_EXCEEDED": found["requests"]}
    assert reset == [(1 + 2 * number, word(8)) for number in range(found["requests"])]
    assert 0.2 <= found["took_s"] < 1


def test_a_server_that_ends_its_connections_loses_no_call(load):
    """As balancers do after so many requests: the calls that it did not take are asked anew."""
    connections = []

    def script():
        connections.append(1)

        def answer(kind, flags, stream, payload):
            if kind != HEADERS or stream > 9:
                return b""
            return answered(stream) if stream < 9 else frame(GOAWAY, 0, 0, word(7) + word(0))

        return answer

    with scripted(script) as address:
        found = load(address, "--channels", "1", "--seconds", "0.3")
    assert found["statuses"].keys() == {"OK"}
    assert len(connections) > 2
    assert len(connections) == pytest.approx(found["requests"] / 4, abs=1.1)


@pytest.mark.parametrize(
    ("code", "name"), [(8, "CANCELLED"), (2, "INTERNAL"), (11, "RESOURCE_EXHAUSTED"), (7, "UNAVAILABLE")]
)
def test_a_reset_call_has_the_status_of_its_code(load, code, name):
    def answer(kind, flags, stream, payload):
        return frame(RST_STREAM, 0, stream, word(code)) if kind == HEADERS else b""

    with scripted(lambda: answer) as address:
        found = load(address, "--channels", "1", "--seconds", "0.1")
    assert found["statuses"].keys() == {name}


@pytest.mark.parametrize(
    ("table", "later_table", "path_bytes", "kept"),
    [
        (4096, None, 200, True),
        (65536, None, 200, True),
        (0, None, 200, False),
        (300, None, 200, False),
        (4096, None, 4000, False),  # which do not fit in
        (4096, 0, 200, False),
    ],
)
def test_the_table_of_the_server_is_used_as_far_as_it_has_one(load, table, later_table, path_bytes, kept):
    seen, sizes, path = [], [], "/a/" + "b" * path_bytes

    def script():
        decoder = Decoder()
        decoder.max_allowed_table_size = table

        def answer(kind, flags, stream, payload):
            if kind == SETTINGS and flags and later_table is not None and seen:
                decoder.max_allowed_table_size = later_table
            if kind == HEADERS:
                seen.append([*decoder.decode(payload)])
                sizes.append(len(payload))
            if kind != DATA:
                return b""
            smaller = settings(HEADER_TABLE_SIZE=later_table) if later_table is not None else b""
            return (smaller if stream == 1 else b"") + answered(stream)

        return answer

    with scripted(script, settings(HEADER_TABLE_SIZE=table)) as address:
        load(address, "--channels", "1", "--seconds", "0.1", "--method", path)
    assert len(seen) > 3
    assert all(fields == seen[0] for fields in seen)
    assert (sizes[-1] < 40) == kept
    assert dict(seen[0]) == {
        **{":method": "POST", ":scheme": "http", ":path": path, ":authority": address},
        **{"te": "trailers", "content-type": "application/grpc", "user-agent": "cpuserve-load"},
        "grpc-timeout": "30000m",
    }


def test_what_is_not_http2_is_an_error_at_once(load):
    with (
        scripted(lambda: lambda *_: b"", b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(ConnectionError, match="does not speak HTTP/2"),
    ):
        load(address)


def test_garbage_in_the_middle_is_unavailable(load):
    def answer(kind, flags, stream, payload):
        return b"" if kind != HEADERS else answered(stream) if stream < 21 else b"\xff" * 100

    with scripted(lambda: answer) as address:
        found = load(address, "--channels", "1", "--seconds", "0.3")
    assert found["statuses"].keys() == {"OK", "UNAVAILABLE"}
    assert found["statuses"]["OK"] == pytest.approx(10 * found["statuses"]["UNAVAILABLE"], abs=10)


@pytest.mark.parametrize("listens", [False, True])
def test_nobody_there_is_an_error_in_the_end(load, monkeypatch, listens):
    monkeypatch.setattr(grpc_load, "_WAIT_S", 0.3)
    began = time.monotonic()
    with (
        scripted(lambda: lambda *_: b"", b"") as address,
        pytest.raises(TimeoutError, match="no HTTP/2 server"),
    ):
        load(address if listens else "127.0.0.1:1")
    assert 0.3 <= time.monotonic() - began < 2


def test_no_more_streams_than_the_server_allows(load):
    seen, most = [], []

    def answer(kind, flags, stream, payload):
        if kind == HEADERS:
            seen.append(stream)
            most.append(len(seen))
        if kind == DATA and len(seen) == 2:
            time.sleep(0.01)
            return frame(PING, 0, 0, bytes(8))  # what was sent too early comes before its answer
        if kind == PING:
            done = b"".join(map(answered, seen))
            seen.clear()
            return done
        return b""

    with scripted(lambda: answer, settings(MAX_CONCURRENT_STREAMS=2)) as address:
        words = ("--channels", "1", "--rate", "400", "--timeout-ms", "2000")
        found = load(address, *words, "--seconds", str(seconds_of(40, 400)))
    assert found["statuses"] == {"OK": 40}
    assert max(most) == 2


def test_the_window_of_the_connection_is_obeyed_too(load):
    taken, seen = [0], []

    def answer(kind, flags, stream, payload):
        taken[0] += len(payload) if kind == DATA else 0
        if flags & END_STREAM and kind == DATA:
            return answered(stream)
        if kind == DATA and taken[0] == 0xFFFF:
            time.sleep(0.01)
            return frame(PING, 0, 0, bytes(8))
        if kind == PING:
            seen.append(taken[0])
            return frame(WINDOW_UPDATE, 0, 0, word(10000))
        return b""

    with scripted(lambda: answer, settings(INITIAL_WINDOW_SIZE=1 << 20), grants=False) as address:
        words = ("--channels", "1", "--rate", "1", "--seconds", "0.001", "--timeout-ms", "2000")
        found = load(address, *words, message=bytes(70000))
    assert found["statuses"] == {"OK": 1}
    assert seen == [0xFFFF]


@pytest.mark.parametrize(("allowed", "most"), [(20000, 20000), ((1 << 24) - 1, 1 << 18)])
def test_frames_are_as_large_as_is_allowed_and_of_use(load, allowed, most):
    sizes = []

    def answer(kind, flags, stream, payload):
        if kind == DATA:
            sizes.append(len(payload))
        return answered(stream) if kind == DATA and flags & END_STREAM else b""

    wide = settings(INITIAL_WINDOW_SIZE=1 << 30, MAX_FRAME_SIZE=allowed)
    with scripted(lambda: answer, wide + frame(WINDOW_UPDATE, 0, 0, word(1 << 30))) as address:
        found = load(
            address, "--channels", "1", "--rate", "1", "--seconds", "0.001", message=bytes(3 * most - 5)
        )
    assert found["statuses"] == {"OK": 1}
    assert sizes == [most] * 3


def test_a_socket_that_is_full_is_written_to_later(load):
    def answer(kind, flags, stream, payload):
        if kind == HEADERS:
            time.sleep(0.2)
        return answered(stream) if kind == DATA and flags & END_STREAM else b""

    wide = settings(INITIAL_WINDOW_SIZE=1 << 30) + frame(WINDOW_UPDATE, 0, 0, word(1 << 30))
    with scripted(lambda: answer, wide) as address:
        words = ("--channels", "1", "--rate", "1", "--seconds", "0.001", "--timeout-ms", "5000")
        found = load(address, *words, message=bytes(30 << 20))
    assert found["statuses"] == {"OK": 1}


@pytest.mark.parametrize("piece", [1, 7])
def test_an_answer_may_come_in_pieces(load, piece):
    def answer(kind, flags, stream, payload):
        return answered(stream, 5) if kind == DATA else b""

    with scripted(lambda: answer, piece=piece) as address:
        found = load(address, "--channels", "1", "--seconds", "0.1")
    assert found["statuses"].keys() == {"NOT_FOUND"}


def test_a_window_that_shrinks_is_obeyed(load):
    sizes = []

    def answer(kind, flags, stream, payload):
        if kind != DATA:
            return b""
        sizes.append(len(payload))
        if flags & END_STREAM:
            return answered(stream)
        more = frame(WINDOW_UPDATE, 0, stream, word(60))  # the second one from 50 below 0, the others from 0
        return settings(INITIAL_WINDOW_SIZE=50) + more if len(sizes) == 1 else more

    with scripted(lambda: answer, settings(INITIAL_WINDOW_SIZE=100)) as address:
        found = load(address, "--channels", "1", "--rate", "1", "--seconds", "0.001", message=bytes(200))
    assert found["statuses"] == {"OK": 1}
    assert sizes == [100, 10, 60, 35]


def test_padded_headers_in_pieces_are_read(load):
    end = block(("grpc-message", "a" * 50), ("grpc-status", "9"))

    def answer(kind, flags, stream, payload):
        if kind != HEADERS:
            return b""
        padded = b"\x03" + bytes(5) + end[:10] + bytes(3)
        head = frame(HEADERS, END_HEADERS | PADDED, stream, b"\x04" + block((":status", "200")) + bytes(4))
        body = frame(DATA, PADDED, stream, b"\x02" + bytes(5) + bytes(2))
        begun = frame(HEADERS, END_STREAM | PADDED | PRIORITY, stream, padded)
        more = frame(CONTINUATION, 0, stream, end[10:20]) + frame(CONTINUATION, 4, stream, end[20:])
        return head + body + begun + more

    with scripted(lambda: answer) as address:
        found = load(address, "--channels", "1", "--seconds", "0.1")
    assert found["statuses"].keys() == {"FAILED_PRECONDITION"}
