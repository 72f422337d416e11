"""The load client against a server that it cannot have been written for."""

import socket
import threading

import pytest

from cpuserve.measuring.http_load import closed_loop, open_loop
from tests.measuring.conftest import Handler


@pytest.fixture
def port(plain, monkeypatch):
    monkeypatch.setattr(Handler, "statuses", {b"bad": 503, b"rude": 0})
    return plain.server_port


def test_every_body_is_sent_in_turn_and_every_answer_counted(port):
    result = closed_loop("127.0.0.1", port, "/p", [b"good", b"bad"], connections=3, seconds=0.3)
    assert result["requests"] == sum(result["statuses"].values()) > 3
    assert abs(result["statuses"]["200"] - result["statuses"]["503"]) <= 3
    assert len(Handler.seen) - result["requests"] in range(4)  # what was under way at the end
    assert result["latencies_ms"] == sorted(result["latencies_ms"])
    assert len(result["latencies_ms"]) == result["statuses"]["200"]  # a refusal is quick: it would flatter
    assert result["seconds"] >= 0.3


def test_several_models_take_turns_in_the_mix_that_was_asked_for(port):
    where = ("127.0.0.1", port, "/a", [b"one", b"two"])
    closed_loop(*where, connections=1, seconds=0.5, then=["/a", "/b"])
    seen = [one for one in Handler.seen if one[0] != "/p"]  # another test's may come late
    turns = [(path, body) for body in (b"one", b"two") for path in ("/a", "/a", "/b")]
    assert len(seen) > 4
    assert seen == [turns[number % 6] for number in range(len(seen))]


def test_arrivals_do_not_wait_for_answers_and_count_from_when_they_were_due(port):
    result = open_loop(
        "127.0.0.1", port, "/p", [b"good", b"bad"], rate=200, seconds=0.5, timeout_ms=5000, seed=1
    )
    answered = sum(result["statuses"].values())
    assert answered == len(Handler.seen) == pytest.approx(result["offered_per_s"] * 0.5)
    assert answered > 3
    assert result["statuses"]["200"] == len(result["latencies_ms"]) == result["in_time"]


@pytest.mark.parametrize(("loop", "load"), [(closed_loop, {"connections": 2}), (open_loop, {"rate": 100})])
def test_a_connection_that_is_closed_is_a_lost_request_and_no_latency(port, loop, load):
    result = loop("127.0.0.1", port, "/p", [b"rude"], seconds=0.2, **load)
    assert result["statuses"] == {"closed": result["requests"]}
    assert result["requests"] > 3
    assert result["latencies_ms"] == []


def test_clients_of_a_server_that_ends_are_lost_once_or_twice_and_the_loop_goes_on():
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def answer_once_and_end():
        clients = [listener.accept()[0] for _ in range(2)]
        listener.close()
        for client in clients:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            client.recv(1 << 16)
            client.close()

    server = threading.Thread(target=answer_once_and_end)
    server.start()
    result = closed_loop("127.0.0.1", port, "/p", [b"good"], connections=2, seconds=0.3)
    server.join()
    assert result["statuses"]["200"] == 2
    assert 2 <= result["statuses"]["closed"] <= 4


def test_what_is_not_answered_in_twice_its_deadline_and_a_second_is_unanswered():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        result = open_loop("127.0.0.1", port, "/p", [b"good"], rate=50, seconds=0.1, timeout_ms=10)
    assert result["statuses"] == {"unanswered": result["requests"]}
    assert result["in_time"] == 0
