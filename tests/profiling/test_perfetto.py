"""Traces are what Perfetto reads: every event whole, rows named, slices of a row nested."""

from __future__ import annotations

import json
from collections import defaultdict

from cpuserve.profiling.perfetto import trace_events, write_trace
from tests.profiling.made import QUIET, made


def test_events_are_whole_and_within_the_recording(tmp_path):
    recording = made(stages={**QUIET, "queue": 2.0}, seconds=0.2)
    content = json.loads(write_trace(recording, tmp_path).read_text())
    assert content["displayTimeUnit"] == "ms"
    for event in content["traceEvents"]:
        assert event["ph"] in "XMbe"
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["name"]
        if event["ph"] == "X":
            assert event["dur"] > 0
        if event["ph"] in "be":
            assert event["id"]
            assert event["cat"] == "request"
        if event["ph"] != "M":
            assert -2_000 <= event["ts"] <= 210_000


def test_slices_of_a_row_lie_beside_or_inside_each_other():
    rows = defaultdict(list)
    for event in trace_events(made(stages={**QUIET, "queue": 5.0, "batch_wait": 1.0}, threads=2)):
        if event["ph"] == "X":
            rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(rows) == 8  # stages and scheduler bars of four threads
    for spans in rows.values():
        open_ends: list[float] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ends and open_ends[-1] <= begin + 0.001:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1] + 0.001
            open_ends.append(end)


def test_every_row_has_a_name():
    events = trace_events(made())
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"} <= named
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {
        "cpuserve worker 100",
        "cpuserve worker 101",
    }


def test_what_begins_ends():
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for event in trace_events(made(stages={**QUIET, "queue": 2.0})):
        if event["ph"] in "be":
            counts[event["id"], event["name"]] += 1 if event["ph"] == "b" else -1
    assert counts
    assert not any(counts.values())


def test_scheduler_bars_say_where_a_thread_ran_and_when_it_could_not():
    bars = {event["name"] for event in trace_events(made()) if event.get("cat") == "scheduler"}
    assert bars == {"on CPU 0", "on CPU 1"}
    bars = {event["name"] for event in trace_events(made(wait=3.0)) if event.get("cat") == "scheduler"}
    assert bars == {"ready, no CPU"}
