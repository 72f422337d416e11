"""A plain HTTP server in this process, which answers as a test tells it to."""

import http.server
import threading
from typing import ClassVar

import pytest


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, bytes]]] = []
    statuses: ClassVar[dict[bytes, int]] = {}  # by body; 0 hangs up

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body))
        status = self.statuses.get(body, 200)
        if not status:
            self.close_connection = True
            return
        answer = b'[{"name": "only"}]' if self.path == "/v2/repository/index" else b"x" * 1000
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, *_):  # clients that leave at the end of a window
        pass


@pytest.fixture
def plain():
    """The server; its `Handler` says what was seen and what to answer."""
    server = Server(("127.0.0.1", 0), Handler)
    Handler.seen, Handler.statuses = [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
