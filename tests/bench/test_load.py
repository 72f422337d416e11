"""The load client against a server that it cannot have been written for."""

import http.server
import threading
from typing import ClassVar

import pytest

from cpuserve.bench.load import closed_loop, open_loop


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[bytes]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(body)
        answer = b"x" * 100_000
        self.send_response(503 if body == b"bad" else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.seen = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_body_is_sent_in_turn_and_every_answer_counted(port):
    result = closed_loop("127.0.0.1", port, "/p", [b"good", b"bad"], connections=3, seconds=0.3)
    assert result["requests"] == sum(result["statuses"].values()) > 3
    assert abs(result["statuses"]["200"] - result["statuses"]["503"]) <= 3
    assert len(Handler.seen) - result["requests"] in range(4)  # what was under way at the end
    assert result["latencies_ms"] == sorted(result["latencies_ms"])
    assert len(result["latencies_ms"]) == result["requests"]
    assert result["seconds"] == pytest.approx(0.3, abs=0.25)


def test_arrivals_do_not_wait_for_answers_and_count_from_when_they_were_due(port):
    result = open_loop(
        "127.0.0.1", port, "/p", [b"good", b"bad"], rate=200, seconds=0.5, timeout_ms=5000, seed=1
    )
    answered = sum(result["statuses"].values())
    assert answered == len(Handler.seen) == pytest.approx(result["offered_per_s"] * 0.5)
    assert 50 < answered < 160
    assert result["statuses"]["200"] == len(result["latencies_ms"]) == result["in_time"]
