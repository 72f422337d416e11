"""Each check of the doctor: what is green, yellow and red, and what the line says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingChange, ThrottlingSample
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.performance_checks import (
    check_allocator,
    check_budget,
    check_mask,
    check_memory,
    check_openmp,
    check_pages,
    check_processor,
    check_throttling,
)
from cpuserve.machine.process import Process, Thread
from cpuserve.machine.topology import Topology
from tests.machine import trees

EIGHT = frozenset(range(8))
TBB = Libraries(tbb=True, allocator="glibc")


def change(throttled: int, periods: int, seconds: float = 1.0) -> ThrottlingChange:
    return ThrottlingChange(seconds, periods, throttled, throttled * 20_000, "/sys/fs/cgroup/cpu.stat")


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
    found = check_throttling(Budget(EIGHT, quota), threads, change(throttled, 10), None)
    assert levels(found) == [level]
    assert bool(found[0].advice) == (level != "green")


def test_what_red_throttling_says():
    (found,) = check_throttling(Budget(EIGHT, 1.5), 2, change(9, 10), None)
    assert "stopped in 9 of 10 periods in 1.0 s (180 ms of CPU time), quota 1.5 CPUs" in found.text
    assert "raise the quota to 2 CPUs (docker --cpus 2," in found.advice
    assert "at most 1 compute threads" in found.advice


def test_throttling_that_is_over_is_yellow():
    found = check_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(176, 315, 60))
    assert levels(found) == ["green", "yellow"]
    assert "since the start: stopped in 176 of 315 periods" in found[1].text
    found = check_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(176, 315, float("inf")))
    assert "since the group was made" in found[1].text
    assert levels(check_throttling(Budget(EIGHT, 1.5), 2, change(0, 10), change(3, 315, 60))) == ["green"] * 2


def test_a_quota_that_nobody_counts_is_yellow():
    assert levels(check_throttling(Budget(EIGHT, 2.0), 2, None, None)) == ["yellow"]


def test_the_counters_of_the_group_that_was_stopped_count(tmp_path):
    """In a parent's file the counters move; own group's do not."""
    tree = trees.parent_quota(tmp_path)
    parent = "sys/fs/cgroup/pods/pod7/cpu.stat"
    tree.put("sys/fs/cgroup/pods/pod7/main/cpu.stat", "nr_periods 50\nnr_throttled 0\nthrottled_usec 0")
    tree.put(parent, "nr_periods 100\nnr_throttled 10\nthrottled_usec 1000")
    budget = Budget.read(tmp_path)
    before = ThrottlingSample.from_json(ThrottlingSample.take(budget.stat_files).to_json())
    tree.put(parent, "nr_periods 110\nnr_throttled 19\nthrottled_usec 181000")
    moved = ThrottlingSample.take(budget.stat_files).since(before)
    assert moved is not None
    assert (moved.nr_periods, moved.nr_throttled, moved.throttled_usec) == (10, 9, 180_000)
    assert moved.source == str(tmp_path / parent)
    assert moved.share == 0.9
    found = check_throttling(budget, 4, moved, None)
    assert levels(found) == ["red"]
    assert "quota 3 CPUs for 4 compute threads" in found[0].text


def test_groups_that_are_others_now_have_no_change():
    assert ThrottlingSample(2, {}).since(ThrottlingSample(1, {})) is None


def test_the_budget_line_by_line():
    assert levels(check_budget(Budget(EIGHT, online=8), None)) == ["green"] * 4
    cut = check_budget(Budget(EIGHT, online=64), None)
    assert "cpuset-cpus" in cut[0].advice
    uneven = check_budget(Budget(EIGHT, 1.5, Path("/x/cpu.max")), 2)
    assert levels(uneven) == ["green", "yellow", "green", "green"]
    assert "give 2 CPUs" in uneven[1].advice
    lowered = check_budget(Budget(EIGHT, 2.0), 4)
    assert levels(lowered)[-1] == "yellow"
    assert "4 compute threads for 2 CPUs" in lowered[-1].text


def arbiter(mask: tuple[int, ...], *variables: str) -> Process:
    return Process(10, (Thread(10, "python", mask, 0),), affinity_variables=variables)


def test_an_arbiter_that_openmp_narrowed():
    gomp = Libraries(openmp=("libgomp.so.1",))
    pinned, parent = arbiter((0,), "GOMP_CPU_AFFINITY=0"), arbiter((0, 1))
    (found,) = check_mask(pinned, parent, gomp)
    assert found.level == "red"
    assert "GOMP_CPU_AFFINITY=0" in found.text
    assert "CPUs 0, its parent on 0-1" in found.text
    assert levels(check_mask(pinned, arbiter((0,)), gomp)) == ["yellow"]
    seated = Libraries(openmp=("libgomp.so.1",), variables=("CPUSERVE_SEAT=0",))
    assert levels(check_mask(pinned, parent, seated)) == ["yellow"]
    assert check_mask(pinned, parent, Libraries()) == []
    assert check_mask(arbiter((0,)), parent, gomp) == []


def test_memory_near_its_limit():
    limited = Budget(EIGHT, memory_limit_bytes=1 << 30)
    assert levels(check_memory(limited, 100 << 20)) == ["green"]
    (found,) = check_memory(limited, 950 << 20)
    assert found.level == "yellow"
    assert "950 MiB of 1024 MiB (93%)" in found.text
    assert check_memory(Budget(EIGHT), 1) == []
    assert check_memory(limited, None) == []


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    root = trees.one_cpu(tmp_path_factory.mktemp("one") / "tree").root
    return Fingerprint.read(root, Budget.read(root), Topology.read(root))


@pytest.mark.parametrize(
    ("flags", "level", "said"),
    [
        (("amx_int8", "avx512_vnni", "avx512f", "avx2"), "green", "VNNI yes, BF16 no, AMX yes"),
        (("avx_vnni", "avx2"), "green", "AVX2 yes, AVX512 no, VNNI yes"),
        (("avx2",), "green", "VNNI no"),
        (("avx512f",), "yellow", "AVX2 no"),
        (("i8mm", "bf16", "asimddp", "asimd"), "green", "int8 matrix yes, BF16 yes"),
        ((), "yellow", "not shown"),
    ],
)
def test_instruction_sets(machine, flags, level, said):
    found = check_processor(dataclasses.replace(machine, flags=flags, governor="performance"))
    assert [finding.level for finding in found] == [level, "green"]
    assert said in found[0].text


def test_governor(machine):
    (_, found) = check_processor(dataclasses.replace(machine, flags=("avx2",), governor="powersave"))
    assert found.level == "yellow"
    assert "cpupower" in found.advice
    (_, found) = check_processor(dataclasses.replace(machine, flags=("avx2",), governor=""))
    assert found.level == "green"


def test_without_a_runtime_openmp_variables_have_no_effect():
    set_in_vain = dataclasses.replace(TBB, variables=("KMP_AFFINITY=compact", "MKL_NUM_THREADS=2"))
    (found,) = check_openmp([set_in_vain, TBB])
    assert found.level == "green"
    assert found.text.startswith("no OpenMP runtime is mapped: OMP_NUM_THREADS")
    assert "have no effect (KMP_AFFINITY=compact is set); OpenVINO computes with oneTBB" in found.text


@pytest.mark.parametrize(
    ("runtimes", "variables", "level"),
    [
        (("libgomp.so.1",), (), "green"),
        (("libgomp.so.1",), ("OMP_NUM_THREADS=2", "OMP_PROC_BIND=false"), "green"),
        (("libgomp.so.1",), ("OMP_PROC_BIND=true",), "yellow"),
        (("libiomp5.so",), ("KMP_AFFINITY=compact",), "yellow"),
        (("libiomp5.so",), ("KMP_AFFINITY=disabled",), "green"),
        (("libgomp.so.1", "libiomp5.so"), (), "yellow"),
    ],
)
def test_with_a_runtime_they_have(runtimes, variables, level):
    (found,) = check_openmp([dataclasses.replace(TBB, openmp=runtimes, variables=variables)])
    assert found.level == level
    assert all(name in found.text for name in runtimes)
    assert bool(found.advice) == (level == "yellow")


def test_allocators():
    assert check_allocator([]) == []
    assert check_allocator([TBB])[0].text == "allocator: glibc"
    assert check_allocator([dataclasses.replace(TBB, allocator="musl")])[0].level == "yellow"
    assert check_allocator([Libraries()])[0].text == "allocator: not known"


def test_huge_pages(tmp_path):
    tree = trees.Tree(tmp_path).put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    tree.put("proc/sys/vm/nr_hugepages", "8")
    (found,) = check_pages(tmp_path, [dataclasses.replace(TBB, huge_bytes=0)])
    assert (
        found.text == "transparent huge pages: madvise; 0 MiB of the workers' memory is in them; reserved: 8"
    )
    assert "GLIBC_TUNABLES" in found.advice
    (found,) = check_pages(tmp_path, [dataclasses.replace(TBB, huge_bytes=4 << 20)])
    assert not found.advice
    assert check_pages(tmp_path / "none", [])[0].text == "transparent huge pages: not shown; reserved: 0"
