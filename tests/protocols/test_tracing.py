"""A worker traces the requests it is asked to, and nothing else."""

from __future__ import annotations

import time

import pytest

from cpuserve.protocols.call import Call
from cpuserve.protocols.tracing import Tracer
from cpuserve.serving.trace_ring import TraceRing


@pytest.fixture
def trace_ring():
    return TraceRing(rows=1)


@pytest.fixture
def tracer(trace_ring):
    return Tracer(trace_ring, trace_ring.row(0))


def test_nothing_is_traced_unless_asked(tracer):
    assert not tracer.wants(Call("GET", "/", headers={"traceparent": "00-1-1-01"}))


@pytest.mark.parametrize("by", ["switch", "header"])
def test_what_is_asked_for_is_kept(tracer, trace_ring, by):
    trace_ring.tracing = by == "switch"
    call = Call("GET", "/", headers={} if by == "switch" else {"x-cpuserve-trace": "1"})
    assert tracer.wants(call)
    arrived = time.perf_counter_ns()
    spans = tracer.begin(call, arrived)
    assert call.spans is spans
    assert call.request().spans is spans
    tracer.end(call, spans, 404)
    (record,) = trace_ring.records(0, 0)
    assert record.status == 404
    assert [stage for stage, _, _ in record.entries] == [0, 6]
    assert record.entries[0][1] == arrived
    headers = tracer.headers(call, spans)
    assert headers == ([] if by == "switch" else [("X-Cpuserve-Trace", record.name)])
