"""Servers that count their requests and answer, refuse, break off or wait as they are told."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

__all__ = ["GRPC_INFER", "GRPC_OTHER", "Stub", "stub"]

GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
GRPC_OTHER = "/inference.GRPCInferenceService/ModelMetadata"


class Stub:
    """One server over HTTP and gRPC.

    Attributes:
        does: ``answers``, ``refuses`` (503, UNAVAILABLE), ``breaks`` (closes once it has read the request),
            ``resets`` (the same, with unread bytes left), ``waits``.
        seen: requests by path or method, those of health checks left out.
        released: set it to let all that wait be answered.
    """

    def __init__(self) -> None:
        self.does = "answers"
        self.seen: Counter[str] = Counter()
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _handler(self))
        self._grpc = grpc.server(ThreadPoolExecutor(16))
        checks = health.HealthServicer()
        checks.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, self._grpc)
        self._grpc.add_generic_rpc_handlers((_Generic(self),))
        self.http_port = int(self._http.server_address[1])
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._grpc.start()

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()

    def count(self, name: str) -> None:
        with self._lock:
            self.seen[name] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *of: Any) -> None:
        """A balancer may hang up when it likes."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*of)


class _Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def service(self, details: Any) -> Any:
        if not details.method.startswith("/inference."):
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))

    def _answer(self, method: str, context: Any) -> bytes:
        self._stub.count(method)
        if self._stub.does == "refuses":
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        if self._stub.does == "waits":
            self._stub.released.wait(30)
        return b"answered"


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/v2/health/ready":
                stub.count(self.path)
            self._say(200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            stub.count(self.path)
            if stub.does in {"breaks", "resets"}:
                if stub.does == "resets":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            if stub.does == "waits":
                stub.released.wait(30)
            self._say(503 if stub.does == "refuses" else 200)

        def _say(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            if status == 503:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def stub() -> Iterator[Stub]:
    """A server for the time of the context."""
    made = Stub()
    made.start()
    try:
        yield made
    finally:
        made.stop()
