"""The client with several servers: the least busy is asked, failures go elsewhere, who is back is asked."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cpuserve.client import Client, ClientError
from cpuserve.endpoints import server_pool
from cpuserve.errors import UsageError
from tests.servers import free_port


class SmallServer:
    """Answers predictions with its own name, and misbehaves as it is told.

    Attributes:
        status: of answers; 0 ends the connection instead.
        ready: what it says of itself.
        delay_s: of each answer.
        asked: how many requests came.
        probes: how often it was asked whether it is ready.
        most: how many it had at once.
    """

    def __init__(self, port=0):
        self.status, self.ready, self.delay_s = 200, True, 0.0
        self.asked = self.probes = self.now = self.most = 0
        self.lock = threading.Lock()
        small = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                small.probes += 1
                self.reply(200 if small.ready else 503)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                with small.lock:
                    small.asked += 1
                    small.now += 1
                    small.most = max(small.most, small.now)
                time.sleep(small.delay_s)
                with small.lock:
                    small.now -= 1
                if small.status == 0:
                    self.close_connection = True
                    return
                self.reply(small.status)

            def reply(self, status):
                body = json.dumps({"server": small.url} if status == 200 else {"error": "said so"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def servers(count):
    with ExitStack() as stack:
        found = [SmallServer() for _ in range(count)]
        for one in found:
            stack.callback(one.close)
        yield found


def ask(client):
    return client.predict("model", b"picture", shrinking=False)["server"]


def test_servers_are_asked_in_turn_by_one_caller():
    with servers(3) as found, Client([one.url for one in found]) as client:
        assert Counter(ask(client) for _ in range(30)) == {one.url: 10 for one in found}


def test_the_least_busy_is_asked_by_several_callers():
    with servers(2) as found, Client([one.url for one in found]) as client, ThreadPoolExecutor(4) as threads:
        found[0].delay_s = 0.4
        began = time.monotonic()
        [*threads.map(lambda _: ask(client), range(60))]
        assert time.monotonic() - began < 20
        assert found[0].asked < found[1].asked
        assert found[0].most <= 3


@pytest.mark.parametrize("status", [0, 500, 502, 503, 429])
def test_requests_of_a_server_that_fails_go_elsewhere(status):
    with servers(2) as found, Client([one.url for one in found]) as client:
        found[0].status, found[0].ready = status, False
        assert {ask(client) for _ in range(20)} == {found[1].url}
        assert 1 <= found[0].asked <= 8


def test_a_server_that_is_not_there_costs_no_request_and_is_asked_once_it_is():
    port = free_port()
    with servers(1) as found, Client([f"http://127.0.0.1:{port}", found[0].url]) as client:
        assert {ask(client) for _ in range(10)} == {found[0].url}
        late = SmallServer(port)
        try:
            due = time.monotonic() + 60
            while ask(client) != late.url:
                assert time.monotonic() < due
                time.sleep(0.05)
            assert late.probes >= 1
        finally:
            late.close()


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_refusal_of_the_request_is_the_answer(status):
    with servers(2) as found, Client([one.url for one in found]) as client:
        for one in found:
            one.status = status
        with pytest.raises(ClientError, match="said so") as refused:
            ask(client)
        assert refused.value.status == status
        assert sum(one.asked for one in found) == 1


def test_a_request_that_fails_everywhere_is_given_up():
    with servers(2) as found, Client([one.url for one in found], wait_s=20) as client:
        for one in found:
            one.status = 500
        with pytest.raises(ClientError) as refused:
            ask(client)
        assert refused.value.status == 500
        assert sum(one.asked for one in found) == 6


def test_with_no_server_left_the_reasons_are_named():
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with Client(urls, wait_s=0.2) as client, pytest.raises(ConnectionError, match="refused") as failed:
        ask(client)
    assert all(url in str(failed.value) for url in urls)


def test_one_server_alone_is_asked_once_and_fails_at_once():
    with servers(1) as found, Client(found[0].url) as client:
        found[0].status = 503
        with pytest.raises(ClientError) as refused:
            ask(client)
        assert refused.value.status == 503
        found[0].status = 200
        assert ask(client) == found[0].url
    with Client(f"127.0.0.1:{free_port()}") as client, pytest.raises(ConnectionRefusedError):
        ask(client)


def test_a_connection_that_the_server_closed_is_opened_again():
    with servers(1) as found:
        port = found[0].server.server_port
        client = Client(found[0].url)
        ask(client)
        found[0].close()
        again = SmallServer(port)
        for idle in client._idle.values():  # as the server has closed them
            for connection in idle:
                connection.sock.close()
                connection.sock = type("Closed", (), {"sendall": closed, "close": lambda _: None})()
        try:
            assert ask(client) == again.url
        finally:
            client.close()
            again.close()


def closed(*_):
    raise BrokenPipeError


def test_a_registry_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(server_pool, "_FOLLOW_S", 0.02)
    registry = tmp_path / "endpoints.json"
    with servers(2) as (first, second):
        registry.write_text(json.dumps({"endpoints": [{"url": first.url, "ready": True}]}))
        with Client(f"@{registry}") as client:
            assert {ask(client) for _ in range(4)} == {first.url}
            registry.write_text(json.dumps({"endpoints": [{"url": second.url, "ready": True}]}))
            due = time.monotonic() + 30
            while ask(client) != second.url:
                assert time.monotonic() < due
                time.sleep(0.01)
            assert {ask(client) for _ in range(10)} == {second.url}
            registry.write_text("nonsense")
            time.sleep(0.1)
            assert ask(client) == second.url  # it stays as it was


def test_no_server_is_refused():
    with pytest.raises(UsageError, match="no server"):
        Client([])
