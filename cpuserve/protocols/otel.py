"""Sends the stages of requests that come with a ``traceparent`` to an OpenTelemetry collector.

The header is W3C Trace Context's, the protocol OTLP over HTTP. Spans wait in a queue of the library and are
sent by its own thread; when the collector does not answer, they are dropped.
"""

from __future__ import annotations

import importlib.util
import re
import time
from typing import Any
from urllib.parse import urlsplit

import cpuserve
from cpuserve.errors import MissingExtra, UsageError
from cpuserve.protocols.call import Call
from cpuserve.serving.request import Spans
from cpuserve.serving.stages import STAGE_NAMES

__all__ = ["OpenTelemetry", "check_endpoint"]

_TIMEOUT_S = 2  # a worker that ends waits no longer for a collector that does not answer
_PARENT = "traceparent"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})")
_MODULES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def check_endpoint(endpoint: str) -> None:
    """Check an endpoint before a worker is forked.

    Raises:
        UsageError: it is no URL.
        MissingExtra: the packages are not installed.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"otel_endpoint {endpoint}: write it as http://HOST:4318")
    for name in _MODULES:
        try:
            there = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:  # not even the package above it
            there = False
        if not there:
            raise MissingExtra("otel_endpoint needs OpenTelemetry", "otel")


class OpenTelemetry:
    """Sends the spans of one worker; made after the fork, since it starts a thread.

    Args:
        endpoint: of the collector, such as ``http://127.0.0.1:4318``.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        about = {"service.name": "cpuserve", "service.version": cpuserve.__version__}
        self._provider = TracerProvider(resource=Resource.create(about))
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("cpuserve", cpuserve.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._server: Any = SpanKind.SERVER

    def close(self) -> None:
        """Send the spans that wait, and end the thread."""
        self._provider.shutdown()

    def wants(self, call: Call) -> bool:
        """Whether a request belongs to a trace that its caller records."""
        found = _TRACEPARENT.fullmatch(call.headers.get(_PARENT, ""))
        return found is not None and bool(int(found[1], 16) & 1)

    def send(self, call: Call, spans: Spans, end_ns: int, status: int) -> None:
        """Send a span for the request, child of its caller's, and a child span for each stage."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        carrier = {name: call.headers[name] for name in (_PARENT, "tracestate") if name in call.headers}
        epoch = time.time_ns() - time.perf_counter_ns()
        attributes: dict[str, str | int] = {
            "http.request.method": call.method,
            "url.path": call.path,
            "http.response.status_code": status,
        }
        whole = self._tracer.start_span(
            f"{call.method} {call.path}",
            context=self._propagator.extract(carrier),
            kind=self._server,
            attributes=attributes,
            start_time=epoch + spans.entries[0][1],
        )
        below = set_span_in_context(whole)
        for stage, begin, end in spans.entries:
            more = {"cpuserve.rows": stage >> 8 & 0xFFFFFFFF} if stage >> 8 else None
            part = self._tracer.start_span(
                STAGE_NAMES[stage & 0xFF], context=below, attributes=more, start_time=epoch + begin
            )
            part.end(end_time=epoch + end)
        whole.end(end_time=epoch + end_ns)
