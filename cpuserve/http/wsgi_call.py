"""Runs one request through a WSGI application and sends its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cpuserve.http.connection import Connection
from cpuserve.protocols.tracing import Tracer

__all__ = ["answer_by_wsgi"]

_log = logging.getLogger("cpuserve.http")


def answer_by_wsgi(
    app: Callable[..., Any], connection: Connection, tracer: Tracer | None, *, last: bool
) -> str:
    """Run the request of a connection; whatever the application raises becomes a 500.

    Args:
        app: the WSGI application.
        connection: its request is whole.
        tracer: notes where the time goes; None for nobody.
        last: whether the connection ends with this answer.

    Returns:
        The status that was sent.
    """
    environ = connection.environ()
    spans = tracer.begin(environ, connection) if tracer is not None else None
    answer: list[Any] = ["500 Internal Server Error", [("Content-Length", "0")]]

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        answer[:] = [status, headers]

    try:
        chunks = app(environ, start_response)
        body = b"".join(chunks)
        if hasattr(chunks, "close"):
            chunks.close()
    except (Exception, SystemExit):  # noqa: BLE001  # whatever a model raises or calls
        _log.exception("Error handling request %s", environ["RAW_URI"])
        answer[:] = ["500 Internal Server Error", [("Content-Length", "0")]]
        body = b""
    status, headers = answer
    if tracer is not None and spans is not None:
        headers = [*headers, *tracer.headers(environ, spans)]
    connection.answer(status, headers, body, last=last)
    if tracer is not None and spans is not None:
        tracer.end(environ, spans, status)
    return str(status)
