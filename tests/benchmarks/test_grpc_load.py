"""The load client over gRPC against servers of grpcio: its loops and what it counts."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from benchmarks import grpc_load
from tests.benchmarks.grpc_loading import loader, seconds_of
from tests.benchmarks.scripted_http2 import HEADERS, answered, scripted

_LARGE = 5 << 20


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Answers by the name of the method, and remembers what it saw."""

    def __init__(self):
        self.peers, self.sizes, self.left_s = Counter(), Counter(), []
        self.gone = threading.Event()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.rpartition("/")[2]))

    def ModelInfer(self, message, context):  # noqa: N802  # the method of the protocol
        self.peers[context.peer()] += 1
        self.sizes[len(message)] += 1
        self.left_s.append(context.time_remaining())
        return message

    def refuse(self, message, context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room, ask later: äöü " * 200)

    def sleep(self, message, context):
        context.add_callback(self.gone.set)
        time.sleep(1)
        return message

    def large(self, message, context):
        return bytes(_LARGE)


@contextmanager
def _server(port=0):
    """A server of grpcio, its service and its address."""
    service = _Service()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), [service], options=options)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield server, service, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture
def load(tmp_path, monkeypatch, capsys):
    return loader(tmp_path, monkeypatch, capsys)


def test_each_channel_asks_again_when_it_is_answered(load):
    with _server() as (_, service, address):
        found = load(address, "--channels", "3", "--seconds", "0.4")
    assert found["statuses"].keys() == {"OK"}
    assert found["requests"] > 30
    assert 0.4 <= found["took_s"] == found["seconds"] < 2
    assert service.sizes == {300: found["requests"]}
    assert len(service.peers) == 3  # a connection for each
    assert min(service.peers.values()) > 5
    assert 0 < found["client_cpu_s"] < 2
    assert 0 < found["latencies_ms"][0] < 100
    assert max(service.left_s) == pytest.approx(30, abs=0.5)


def test_arrivals_have_the_rate_the_seed_and_the_deadline_that_were_given(load):
    words = ("--channels", "4", "--seconds", "0.5", "--rate", "200", "--timeout-ms", "2000")
    with _server() as (_, service, address):
        first = load(address, *words)
        counts = sorted(service.peers.values())
        again = load(address, *words)
        other = load(address, *words, "--seed", "3")
    assert first["statuses"].keys() == {"OK"}
    assert first["requests"] == again["requests"] != other["requests"]
    assert first["requests"] == pytest.approx(100, abs=40)
    assert first["seconds"] == 0.5
    assert first["offered_per_s"] == first["requests"] / 0.5
    assert len(counts) == 4
    assert counts[-1] - counts[0] <= 1  # the channels take turns
    assert all(1 < left_s <= 2 for left_s in service.left_s)


def test_arrivals_do_not_wait_for_answers(load):
    asked = []

    def answer(kind, flags, stream, payload):
        if kind == HEADERS:
            asked.append((time.monotonic(), stream))
            if len(asked) == 20:
                time.sleep(0.1)
                return b"".join(answered(stream) for _, stream in reversed(asked))
        return b""

    with scripted(lambda: answer) as address:
        words = ("--channels", "1", "--rate", "100", "--timeout-ms", "5000")
        found = load(address, *words, "--seconds", str(seconds_of(20, 100)))
    assert found["statuses"] == {"OK": 20}
    assert found["latencies_ms"][-1] > 1000 * (asked[-1][0] - asked[0][0]) > 50
    assert found["latencies_ms"][0] >= 100


def test_a_refusal_with_a_long_text_is_counted_by_its_status(load):
    with _server() as (_, _, address):
        found = load(address, "--seconds", "0.2", "--channels", "2", "--method", "/services/refuse")
    assert found["statuses"].keys() == {"RESOURCE_EXHAUSTED"}
    assert found["requests"] > 2


def test_a_deadline_ends_a_call_and_the_server_hears_of_it(load):
    with _server() as (_, service, address):
        words = ("--rate", "20", "--seconds", "0.1", "--timeout-ms", "300", "--method", "/services/sleep")
        found = load(address, *words)
        assert service.gone.wait(5)
    assert found["statuses"] == {"DEADLINE_EXCEEDED": found["requests"]}
    assert 0.3 <= found["took_s"] < 1.5


def test_a_large_request_waits_for_windows(load):
    with _server() as (_, service, address):
        found = load(
            address, "--channels", "2", "--seconds", "0.3", message=bytes(range(256)) * (_LARGE >> 8)
        )
    assert found["statuses"].keys() == {"OK"}  # and as large answers
    assert service.sizes == {_LARGE: found["requests"]}


def test_large_answers_are_taken(load):
    with _server() as (_, _, address):
        found = load(address, "--channels", "2", "--seconds", "0.3", "--method", "/services/large")
    assert found["statuses"].keys() == {"OK"}
    assert found["requests"] > 2


def test_a_server_that_goes_away_is_counted_and_no_loop_spins(load):
    with _server() as (server, _, address):
        timer = threading.Timer(0.3, server.stop, (0,))
        timer.start()
        found = load(address, "--channels", "2", "--seconds", "1")
        timer.join()
    assert found["statuses"]["OK"] > 5
    assert found["statuses"].keys() <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert 10 < found["requests"] - found["statuses"]["OK"] < 250
    assert found["took_s"] < 1.5


def test_a_server_that_comes_back_is_asked_again(load):
    with _server() as (server, _, address):
        port = int(address.rpartition(":")[2])
        came = _Later(0.6, port)
        threading.Timer(0.2, server.stop, (0,)).start()
        found = load(address, "--channels", "1", "--seconds", "1.5")
        came.stop()
    assert found["statuses"]["OK"] > 5
    assert found["statuses"]["UNAVAILABLE"] > 5
    assert came.answered > 5


class _Later(threading.Thread):
    """A server that starts later, until it is told to stop."""

    def __init__(self, after_s, port):
        super().__init__(daemon=True)
        self._after_s, self._port, self._over = after_s, port, threading.Event()
        self.answered = 0
        self.start()

    def run(self):
        time.sleep(self._after_s)
        with _server(self._port) as (_, service, _):
            self._over.wait(20)
            self.answered = service.peers.total()

    def stop(self):
        self._over.set()
        self.join()


def test_a_latency_counts_from_when_a_request_was_due(load, monkeypatch):
    sinces, ask = [], grpc_load.Channels.ask

    def slow(self, channel, since, timeout_s):
        sinces.append(since)
        time.sleep(0.01)
        ask(self, channel, since, timeout_s)

    monkeypatch.setattr(grpc_load.Channels, "ask", slow)
    with _server() as (_, _, address):
        found = load(address, "--rate", "1000", "--seconds", str(seconds_of(20, 1000)))
    dice = random.Random(0)  # noqa: S311  # no secret
    assert found["requests"] == len(sinces) == 20
    for earlier, later in itertools.pairwise(sinces):
        assert later - earlier == pytest.approx(dice.expovariate(1000), abs=1e-6)
    assert found["latencies_ms"][-1] > 100  # the last was sent so late
