"""Traced requests come out of shared memory as they went in, and stages have no gaps."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cpuserve.serving import trace_ring as module
from cpuserve.serving.request import Request, Spans
from cpuserve.serving.stack_sampler import StackSampler, folded_stack
from cpuserve.serving.stages import DECODE, RESIZE, SERIALISE, STAGE_NAMES
from cpuserve.serving.trace_ring import LINK, TraceRing


def named(spans):
    return [(STAGE_NAMES[stage & 0xFF], begin, end) for stage, begin, end in spans.entries]


def traced():
    """A request as the pipeline goes through it, with the times given."""
    spans = Spans(0, 10, 20)
    request = Request(10, spans)
    request.done("queue", 30)
    spans.end(DECODE, 40)
    spans.end(RESIZE, 50)
    request.done("decode", 51)
    request.ran(60, 70, 3, led=True, at_ns=75)
    return spans, request


def test_stages_follow_each_other_without_a_gap():
    spans, request = traced()
    request.done("post", 80)
    spans.end(SERIALISE, 90)
    assert named(spans) == [
        ("queue", 10, 20),
        ("serialise", 20, 30),
        ("decode", 30, 40),
        ("resize", 40, 51),
        ("batch_wait", 51, 60),
        ("infer", 60, 70),
        ("batch_wait", 70, 75),
        ("post", 75, 80),
        ("serialise", 80, 90),
    ]
    assert request.server_timing().startswith(
        "queue;dur=0.000, decode;dur=0.000, resize;dur=0.000, batch_wait"
    )


def test_waking_up_after_a_batch_is_waiting_for_it():
    spans, _ = traced()
    assert named(spans)[-1] == ("batch_wait", 70, 75)


def test_a_request_that_is_not_traced_has_the_same_stages_as_before():
    request = Request(10)
    request.done("queue", 30)
    assert request.spans is None
    assert request.server_timing().startswith("decode;dur=0.000, queue;dur=0.000")


@pytest.fixture
def there():
    return TraceRing(rows=2)


def put(row, count, entries=1):
    for number in range(count):
        spans = row.spans(number, number + 1)
        spans.entries *= entries
        row.put(spans, number + 2, 200)


def test_records_come_out_as_they_went_in(there):
    spans = there.row(1).spans(5, 6)
    spans.end(DECODE, 7)
    there.row(1).put(spans, 8, 415)
    (record,) = there.records(1, 0)
    assert there.heads() == [0, 1]
    assert list(there.records(0, 0)) == []
    assert record.name == f"{os.getpid()}-0"
    assert (record.tid, record.end_ns, record.status) == (threading.get_native_id(), 8, 415)
    assert record.entries == ((0, 5, 6), (DECODE, 6, 7))


def test_the_latest_are_kept_and_old_ones_make_room(there, monkeypatch):
    monkeypatch.setattr(module, "_SLOTS", 4)
    put(there.row(0), 6)
    assert [record.number for record in there.records(0, 0)] == [2, 3, 4, 5]
    assert [record.number for record in there.records(0, 4)] == [4, 5]


def test_a_request_under_way_is_not_shown_and_a_later_one_is(there):
    row = there.row(0)
    first, second = row.spans(1, 2), row.spans(3, 4)
    row.put(second, 5, 200)
    assert [record.number for record in there.records(0, 0)] == [1]
    row.put(first, 6, 200)
    assert [record.number for record in there.records(0, 0)] == [0, 1]


def test_entries_without_room_are_counted(there):
    put(there.row(0), 1, entries=45)
    (record,) = there.records(0, 0)
    assert (len(record.entries), record.lost) == (40, 5)


def test_another_process_of_the_user_finds_and_switches_it(there):
    there.stack_rate = 7  # rings of other tests may be open here
    files = [file for file in Path("/proc/self/fd").iterdir() if os.path.realpath(file) == LINK]
    other = next(ring for ring in map(TraceRing.open, files) if ring.stack_rate == 7)
    other.tracing, other.stack_rate = True, 50
    assert there.tracing
    assert there.stack_rate == 50


def test_another_versions_is_refused(there, tmp_path):
    file = next(file for file in Path("/proc/self/fd").iterdir() if os.path.realpath(file) == LINK)
    old = tmp_path / "old"
    with file.open("rb") as opened:
        old.write_bytes(opened.read(8) + b"\7" + bytes(7) + opened.read(4096))
    with pytest.raises(ValueError, match="cpuserve-trace-ring has version 7, not 2 as here"):
        TraceRing.open(old)


def test_stacks_that_have_no_room_leave_the_frequent_ones(there, monkeypatch):
    monkeypatch.setattr(module, "_STACK_BYTES", 200)
    there.row(0).put_stacks({f"stack {number}": number for number in range(100)})
    folded = there.stacks()[os.getpid()]
    assert 0 < len(folded) < 100
    assert max(folded.values()) == 99


def test_the_sampler_sees_who_computes_and_not_who_waits(there):
    row = there.row(0)
    sampler = StackSampler(there, row)
    sampler.tick()
    assert sampler._thread is None  # nobody asked
    ending = threading.Event()

    def busy_one():
        while not ending.is_set():
            sum(range(1000))

    busy = threading.Thread(target=busy_one, name="busy")
    waiting = threading.Thread(target=ending.wait, name="waiting")
    busy.start(), waiting.start()
    there.stack_rate = 100
    sampler.tick()
    deadline = time.monotonic() + 20
    while not any("busy_one" in stack for stack in there.stacks().get(os.getpid(), {})):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    there.stack_rate = 0
    sampler._thread.join(10)
    ending.set()
    busy.join(), waiting.join()
    assert not any("thread waiting" in stack for stack in there.stacks()[os.getpid()])


def test_a_folded_stack_reads_from_the_outside_in():
    import sys

    stack = folded_stack("me", sys._getframe())
    assert stack.startswith("thread me;")
    assert stack.rpartition(";")[2].startswith(
        "test_a_folded_stack_reads_from_the_outside_in (test_trace_ring.py:"
    )
