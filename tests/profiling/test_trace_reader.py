"""Records of all workers become requests and the batches they shared."""

from __future__ import annotations

import time

from cpuserve.profiling.recording import BatchSpan
from cpuserve.profiling.trace_reader import TraceReader, spans_of
from cpuserve.serving.stages import DECODE, INFER, SERIALISE
from cpuserve.serving.trace_ring import TraceRecord, TraceRing


def record(number, tid, rows, *, led, pid=7, batch=(30, 40), status=200):
    entries = ((0, 10, 20), (DECODE, 20, 30), (INFER | rows << 8 | led << 40, *batch), (SERIALISE, 40, 50))
    return TraceRecord(number, pid, tid, 50 + number, status, entries, 0)


def test_requests_of_one_batch_share_it_and_its_leader_names_the_thread():
    requests, batches = spans_of([record(0, 1, 1, led=0), record(1, 2, 3, led=1)])
    assert batches == [BatchSpan(0, 7, 2, 30, 40, 4)]
    assert [(one.id, one.batch_id, one.images) for one in requests] == [("7-0", 0, 1), ("7-1", 0, 3)]
    assert requests[0].stages == [
        ("queue", 10, 20),
        ("decode", 20, 30),
        ("infer", 30, 40),
        ("serialise", 40, 50),
    ]


def test_batches_of_two_workers_at_the_same_time_are_two():
    _, batches = spans_of([record(0, 1, 1, led=1), record(0, 1, 1, led=1, pid=8)])
    assert [(batch.id, batch.pid) for batch in batches] == [(0, 7), (1, 8)]


def test_what_reached_no_model_is_left_out_unless_it_failed():
    entries = ((0, 10, 20), (SERIALISE, 20, 50))
    health, refused = TraceRecord(0, 7, 1, 50, 200, entries, 0), TraceRecord(1, 7, 1, 50, 415, entries, 0)
    requests, batches = spans_of([health, refused])
    assert [one.status for one in requests] == [415]
    assert requests[0].batch_id is None
    assert not batches


def test_a_head_that_is_a_model_is_inference_but_no_batch():
    one = TraceRecord(0, 7, 1, 50, 415, ((0, 10, 20), (INFER, 20, 30)), 0)
    requests, batches = spans_of([one])
    assert requests[0].stages[1][0] == "infer"
    assert not batches


def put(row):
    spans = row.spans(1, 2)
    row.put(spans, 3, 200)


def test_the_reader_takes_what_ends_while_it_reads_also_what_began_before():
    trace_ring = TraceRing(rows=2)
    rows = [trace_ring.row(0), trace_ring.row(1)]
    put(rows[0])
    reader = TraceReader(trace_ring)
    reader.start()
    slow = rows[1].spans(1, 2)
    for _ in range(3):
        put(rows[1])
    time.sleep(0.3)
    rows[1].put(slow, 5, 200)
    reader.stop()
    assert sorted(record.number for record in reader.records) == [0, 1, 2, 3]
    assert reader.lost == 0


def test_requests_that_were_overwritten_are_counted():
    trace_ring = TraceRing(rows=1)
    reader = TraceReader(trace_ring)
    row = trace_ring.row(0)
    for _ in range(5000):
        put(row)
    reader.start()
    reader.stop()
    assert len(reader.records) == 4096
    assert reader.lost == 5000 - 4096
