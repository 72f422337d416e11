"""Spans of requests with a traceparent reach a collector; others make none."""

from __future__ import annotations

import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cpuserve.errors import MissingExtra, UsageError
from cpuserve.protocols.otel import check_endpoint
from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """Its address, and the spans it got, by name."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = ExportTraceServiceRequest.FromString(body)
            for of_resource in sent.resource_spans:
                for of_scope in of_resource.scope_spans:
                    spans.extend(of_scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


def test_stages_go_below_the_callers_span(digits, tmp_path, collector):
    url, spans = collector
    words = ("--model-repository", str(digits), "--workers", "1", "--otel-endpoint", url)
    with serving(tmp_path / "log", *words) as server:
        server.post("/predictions/digits", SEVEN)
        for broken in (f"00-{TRACE}-{PARENT}-00", "-01", f"00-{TRACE}-01"):  # not recorded; no parent
            assert server.post("/predictions/digits", SEVEN, traceparent=broken).status == 200
        answer = server.post("/predictions/digits", SEVEN, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert answer.status == 200
        assert "X-Cpuserve-Trace" not in answer.headers
        server.stop()  # what waits is sent
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    (whole,) = [span for span in spans if span.name == "POST /predictions/digits"]
    assert whole.parent_span_id.hex() == PARENT
    stages = sorted((span for span in spans if span is not whole), key=lambda span: span.start_time_unix_nano)
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    assert [span.name for span in stages][:4] == ["queue", "serialise", "decode", "resize"]
    assert stages[0].start_time_unix_nano == whole.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == whole.end_time_unix_nano
    told = {one.key: one.value for one in whole.attributes}
    assert told["http.response.status_code"].int_value == 200


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint):
    with pytest.raises(UsageError, match="write it as http://HOST:4318"):
        check_endpoint(endpoint)


def test_without_the_extra_it_is_named(monkeypatch):
    check_endpoint("http://127.0.0.1:4318")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'cpuserve\[otel\]'"):
        check_endpoint("http://127.0.0.1:4318")
