"""Answers with the list of servers over HTTP, for clients that follow it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from cpuserve.errors import CpuserveError

__all__ = ["RegistryServer"]

_PATH = "/endpoints"


class RegistryServer:
    """Serves ``/endpoints`` until `close`.

    Attributes:
        url: of it.

    Args:
        host: the address to listen on.
        port: to listen on; 0 takes a free one.
        document: makes what is answered.

    Raises:
        CpuserveError: the port is taken.
    """

    def __init__(self, host: str, port: int, document: Callable[[], dict[str, Any]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                known = self.path == _PATH
                body = orjson.dumps(document() if known else {"error": f"there is {_PATH} only"})
                self.send_response(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing of requests that come every 2 s."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise CpuserveError(
                f"the registry cannot listen on {host}:{port}: {error.strerror} (--registry-port)"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_port}{_PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="registry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
