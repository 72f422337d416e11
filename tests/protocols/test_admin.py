"""The routes about the server itself: log and trace settings, traces, placement."""

from __future__ import annotations

import json

import pytest

from cpuserve.protocols import admin as module
from cpuserve.protocols.admin import Admin
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.trace_ring import TraceRing
from tests.protocols.fakes import ask


@pytest.fixture
def trace_ring():
    return TraceRing(rows=2)


@pytest.fixture
def admin(trace_ring):
    return Admin(None, LogSwitches("info"), trace_ring)


def test_log_settings_are_read_and_changed(admin):
    assert ask(admin.logging, method="GET")[2]["log_info"] is True
    assert ask(admin.logging, body={"log_info": False})[2]["log_info"] is False
    assert ask(admin.logging, method="GET")[2]["log_info"] is False
    status, _, found = ask(admin.logging, body={"log_info": True, "log_file": "x"})
    assert status == 400
    assert "log_file" in found["error"]
    assert ask(admin.logging, method="GET")[2]["log_info"] is False  # one wrong word changes nothing


def test_trace_settings_are_read_and_changed(admin, trace_ring):
    found = ask(admin.trace_setting, method="GET")[2]
    assert (found["trace_level"], found["stack_rate"]) == (["OFF"], 0)
    found["trace_level"], found["stack_rate"] = ["TIMESTAMPS"], 20
    assert ask(admin.trace_setting, body=found)[2] == found
    assert (trace_ring.tracing, trace_ring.stack_rate) == (True, 20)
    cleared = ask(admin.trace_setting, body=dict.fromkeys(found))[2]
    assert (cleared["trace_level"], cleared["stack_rate"]) == (["OFF"], 0)
    assert not trace_ring.tracing


@pytest.mark.parametrize(
    "wrong",
    [
        *({"trace_level": "OFF"}, {"trace_level": ["ALL"]}, {"trace_level": []}, {"stack_rate": 201}),
        *({"stack_rate": True}, {"trace_rate": "2"}, {"nothing": 1}),
    ],
)
def test_what_cannot_be_set_is_named_and_nothing_is_set(admin, trace_ring, wrong):
    status, _, found = ask(admin.trace_setting, body={"trace_level": ["TIMESTAMPS"], **wrong})
    assert status == 400
    assert repr(next(iter(wrong))) in found["error"]
    assert not trace_ring.tracing


def test_traces_of_all_workers_are_listed_and_found_by_name(admin, trace_ring):
    for row, status in ((0, 200), (1, 503)):
        ring = trace_ring.row(row)
        spans = ring.spans(1_000, 2_000)
        spans.end_counted("decode", 3_000)
        ring.put(spans, 4_000, status)
    found = ask(admin.traces, method="GET")[2]["requests"]
    assert sorted(one["status"] for one in found) == [200, 503]
    (one,) = [one for one in found if one["status"] == 503]
    assert (one["arrived_ns"], one["ended_ns"]) == (1_000, 4_000)
    assert one["stages"] == [["queue", 1_000, 2_000], ["decode", 2_000, 3_000]]
    assert ask(admin.trace, found[0]["id"], method="GET")[0] == 200
    status, _, refused = ask(admin.trace, "1-1", method="GET")
    assert status == 404
    assert "X-Cpuserve-Trace" in refused["error"]


def test_an_answer_about_the_placement_is_used_for_a_while(admin, monkeypatch):
    now, made = [100.0], []

    def diagnose(who, *_, **__):
        made.append(who)
        return {"seats": len(made)}

    monkeypatch.setattr(module, "diagnose", diagnose)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    seen = []
    for step in (0, 0.4, 0.2):
        now[0] += step
        seen.append(ask(admin.placement, method="GET")[2]["seats"])
    assert seen == [1, 1, 2]
    assert made == [None, None]


def test_without_a_server_there_is_no_trace(trace_ring):
    alone = Admin(None, LogSwitches("error"))
    assert json.loads(alone.traces(None).body) == {"requests": []}
