"""Mask, quota, throttling and memory: what is green, yellow and red, and that red says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.limits import judge_budget, judge_mask, judge_memory, judge_throttling
from cpuserve.machine.process import Process, Thread
from cpuserve.machine.throttling import Change, Sample
from tests.machine import trees

EIGHT = frozenset(range(8))


def change(throttled: int, periods: int, seconds: float = 1.0) -> Change:
    return Change(seconds, periods, throttled, throttled * 20_000, "/sys/fs/cgroup/cpu.stat")


def levels(findings):
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("quota", "threads", "throttled", "level"),
    [
        (1.5, 2, 9, "red"),
        (0.5, 1, 9, "red"),
        (2.0, 8, 1, "green"),  # one period may be a burst
        (2.0, 8, 2, "red"),
        (2.0, 2, 9, "yellow"),  # the planned threads fit: something else in the group uses the time
        (2.0, None, 9, "yellow"),
        (1.5, 2, 0, "green"),
        (None, 8, 9, "yellow"),  # a quota out of sight
        (None, 8, 0, "green"),
    ],
)
def test_throttling_in_the_window(quota, threads, throttled, level):
    found = judge_throttling(Budget(EIGHT, quota), threads, change(throttled, 10), None)
    assert levels(found) == [level]
    assert bool(found[0].advice) == (level != "green")


def test_what_red_throttling_says():
    (found,) = judge_throttling(Budget(EIGHT, 1.5), 2, change(9, 10), None)
    assert "stopped in 9 of 10 periods in 1.0 s (180 ms of CPU time), quota 1.5 CPUs" in found.text
    assert "raise the quota to 2 CPUs (docker --cpus 2," in found.advice
    assert "at most 1 compute threads" in found.advice


def test_throttling_that_is_over_is_yellow():
    found = judge_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(176, 315, 60))
    assert levels(found) == ["green", "yellow"]
    assert "since the start: stopped in 176 of 315 periods" in found[1].text
    found = judge_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(176, 315, float("inf")))
    assert "since the group was made" in found[1].text
    assert levels(judge_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(3, 315, 60))) == ["green"] * 2


def test_a_quota_that_nobody_counts_is_yellow():
    assert levels(judge_throttling(Budget(EIGHT, 2.0), 2, None, None)) == ["yellow"]


def test_the_counters_of_the_group_that_was_stopped_count(tmp_path):
    """In a parent's file the counters move; own group's do not."""
    tree = trees.parent_quota(tmp_path)
    parent = "sys/fs/cgroup/pods/pod7/cpu.stat"
    tree.put("sys/fs/cgroup/pods/pod7/main/cpu.stat", "nr_periods 50\nnr_throttled 0\nthrottled_usec 0")
    tree.put(parent, "nr_periods 100\nnr_throttled 10\nthrottled_usec 1000")
    budget = Budget.read(tmp_path)
    before = Sample.from_json(Sample.take(budget).to_json())
    tree.put(parent, "nr_periods 110\nnr_throttled 19\nthrottled_usec 181000")
    moved = Sample.take(budget).since(before)
    assert moved is not None
    assert (moved.nr_periods, moved.nr_throttled, moved.throttled_usec) == (10, 9, 180_000)
    assert moved.source == str(tmp_path / parent)
    assert moved.share == 0.9
    found = judge_throttling(budget, 4, moved, None)
    assert levels(found) == ["red"]
    assert "quota 3 CPUs for 4 compute threads" in found[0].text


def test_groups_that_are_others_now_have_no_change():
    assert Sample(2, {}).since(Sample(1, {})) is None


def test_the_budget_line_by_line():
    assert levels(judge_budget(Budget(EIGHT, online=8), None)) == ["green"] * 4
    cut = judge_budget(Budget(EIGHT, online=64), None)
    assert "cpuset-cpus" in cut[0].advice
    uneven = judge_budget(Budget(EIGHT, 1.5, Path("/x/cpu.max")), 2)
    assert levels(uneven) == ["green", "yellow", "green", "green"]
    assert "give 2 CPUs" in uneven[1].advice
    lowered = judge_budget(Budget(EIGHT, 2.0), 4)
    assert levels(lowered)[-1] == "yellow"
    assert "4 compute threads for 2 CPUs" in lowered[-1].text


def arbiter(mask: tuple[int, ...], *variables: str) -> Process:
    return Process(10, (Thread(10, "python", mask, 0),), affinity_variables=variables)


def test_an_arbiter_that_openmp_narrowed():
    gomp = Libraries(openmp=("libgomp.so.1",))
    pinned, parent = arbiter((0,), "GOMP_CPU_AFFINITY=0"), arbiter((0, 1))
    (found,) = judge_mask(pinned, parent, gomp)
    assert found.level == "red"
    assert "GOMP_CPU_AFFINITY=0" in found.text
    assert "CPUs 0, its parent on 0-1" in found.text
    assert levels(judge_mask(pinned, arbiter((0,)), gomp)) == ["yellow"]
    seated = Libraries(openmp=("libgomp.so.1",), variables=("CPUSERVE_SEAT=0",))
    assert levels(judge_mask(pinned, parent, seated)) == ["yellow"]
    assert judge_mask(pinned, parent, Libraries()) == []
    assert judge_mask(arbiter((0,)), parent, gomp) == []


def test_memory_near_its_limit():
    limited = Budget(EIGHT, memory_limit_bytes=1 << 30)
    assert levels(judge_memory(limited, 100 << 20)) == ["green"]
    (found,) = judge_memory(limited, 950 << 20)
    assert found.level == "yellow"
    assert "950 MiB of 1024 MiB (93%)" in found.text
    assert judge_memory(Budget(EIGHT), 1) == []
    assert judge_memory(limited, None) == []
