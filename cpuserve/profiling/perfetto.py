"""Writes a recording as a trace for Perfetto and chrome://tracing.

The format is Google's Trace Event Format: complete events (``X``) with microseconds, nestable asynchronous
events (``b``, ``e``) for what waits beside the thread that will run it, and metadata (``M``).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from cpuserve.profiling.recording import Recording, RequestSpan, ThreadTrack

__all__ = ["TRACE", "trace_events", "write_trace"]

TRACE = "trace.json"
"""Its name in the directory of a profile."""

_WAITS = ("queue",)  # the thread that will run the request still runs another
_SCHEDULER = 10_000_000  # added to a thread's number: its row of scheduler bars
_LEAST = 0.1  # of a sample's time: below it a thread was not on a CPU

Event = dict[str, Any]


def write_trace(recording: Recording, folder: Path) -> Path:
    """Write the trace of a recording to the directory of its profile; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / TRACE
    content = {
        "traceEvents": trace_events(recording),
        "displayTimeUnit": "ms",
        "otherData": {"model": recording.model, "date": recording.date, "machine": recording.machine},
    }
    file.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return file


def trace_events(recording: Recording) -> list[Event]:
    """All events of a recording; times count from its beginning."""
    zero = recording.began_ns
    events = _names(recording)
    for request in recording.requests:
        events += _request(request, zero)
    for batch in recording.batches:
        events.append(
            {
                **_complete(f"batch of {batch.size}", "batch", batch.begin_ns, batch.end_ns, zero),
                "pid": batch.pid,
                "tid": batch.tid,
                "args": {"batch": batch.id, "rows": batch.size},
            }
        )
    for track in recording.threads:
        events += _scheduled(track, zero)
    return events


def _complete(name: str, kind: str, begin_ns: int, end_ns: int, zero: int) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": kind,
        "ts": (begin_ns - zero) / 1000,
        "dur": (end_ns - begin_ns) / 1000,
    }


def _request(request: RequestSpan, zero: int) -> list[Event]:
    """Its stages as events of its thread; the whole request and its wait as asynchronous events."""
    where = {"pid": request.pid, "tid": request.tid}
    key = {"cat": "request", "id": f"{request.pid}.{request.id}", "pid": request.pid, "tid": request.tid}
    args = {
        "request": request.id,
        "status": request.status,
        "images": request.images,
        "batch": request.batch_id,
    }
    found: list[Event] = [
        {"ph": "b", "name": "request", "ts": (request.arrived_ns - zero) / 1000, **key, "args": args}
    ]
    for name, begin, end in request.stages:
        if name in _WAITS:
            found.append({"ph": "b", "name": name, "ts": (begin - zero) / 1000, **key})
            found.append({"ph": "e", "name": name, "ts": (end - zero) / 1000, **key})
        else:
            found.append(
                {**_complete(name, "stage", begin, end, zero), **where, "args": {"request": request.id}}
            )
    found.append({"ph": "e", "name": "request", "ts": (request.ended_ns - zero) / 1000, **key})
    return found


def _scheduled(track: ThreadTrack, zero: int) -> list[Event]:
    """When it was on a CPU, or ready without one; equal states of consecutive samples are one event."""
    found: list[Event] = []
    for (t0, cpu0, wait0, _), (t1, cpu1, wait1, last) in pairwise(track.samples):
        if t1 <= t0:
            continue
        cpu, wait = (cpu1 - cpu0) / (t1 - t0), (wait1 - wait0) / (t1 - t0)
        if max(cpu, wait) < _LEAST:
            continue
        name = f"on CPU {last}" if cpu >= wait else "ready, no CPU"
        end = (t1 - zero) / 1000
        if (
            found
            and found[-1]["name"] == name
            and abs(found[-1]["ts"] + found[-1]["dur"] - (t0 - zero) / 1000) < 1
        ):
            found[-1]["dur"] = end - found[-1]["ts"]
            continue
        found.append(
            {**_complete(name, "scheduler", t0, t1, zero), "pid": track.pid, "tid": track.tid + _SCHEDULER}
        )
    return found


def _names(recording: Recording) -> list[Event]:
    """Names and order of processes and rows."""
    events: list[Event] = []

    def say(pid: int, tid: int, kind: str, **args: Any) -> None:
        events.append({"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args})

    roles = {track.pid: "arbiter" for track in recording.threads if track.role == "arbiter"}
    known = {(track.pid, track.tid): track for track in recording.threads}
    threads = {*known, *((one.pid, one.tid) for one in recording.requests)}
    threads |= {(one.pid, one.tid) for one in recording.batches}
    for pid in sorted({pid for pid, _ in threads}):
        say(pid, 0, "process_name", name=f"cpuserve {roles.get(pid, 'worker')} {pid}")
    for order, (pid, tid) in enumerate(sorted(threads)):
        track = known.get((pid, tid))
        title = f"{track.role} {track.name}" if track else "serve"
        say(pid, tid, "thread_name", name=title)
        say(pid, tid, "thread_sort_index", sort_index=2 * order)
        if track:
            say(pid, tid + _SCHEDULER, "thread_name", name=f"{title}: scheduler")
            say(pid, tid + _SCHEDULER, "thread_sort_index", sort_index=2 * order + 1)
    return events
