"""The budget is the affinity mask and the least quota anybody above has set."""

from __future__ import annotations

import os
from pathlib import Path

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingCounters, ThrottlingSample
from tests.machine import trees


def counters(budget: Budget) -> list[ThrottlingCounters]:
    return list(ThrottlingSample.take(budget.stat_files).groups.values())


def test_no_limits(tmp_path):
    budget = Budget.read(trees.two_sockets(tmp_path).root)
    assert budget.cpus == frozenset(range(128))
    assert (budget.quota, budget.memory_limit_bytes, budget.mems) == (None, None, None)
    assert budget.effective == 128
    assert not budget.quota_binds
    assert counters(budget) == []


def test_mask_from_status_leaves_out_cpus_that_are_not_online(tmp_path):
    budget = Budget.read(trees.offline(tmp_path).root)
    assert budget.cpus == frozenset(range(16)) - {1, 6, 9}
    assert budget.mems == {0}


def test_mask_given(tmp_path):
    tree = trees.quota(tmp_path)
    assert Budget.read(tree.root, affinity=[2]).effective == 1
    assert Budget.read(tree.root, affinity=range(8)).effective == 2


def test_container_quota(tmp_path):
    budget = Budget.read(trees.quota(tmp_path).root)
    assert budget.quota == 1.5
    assert budget.quota_source == tmp_path / "sys/fs/cgroup/cpu.max"
    assert budget.memory_limit_bytes == 2048 << 20
    assert budget.effective == 2
    assert budget.quota_binds
    assert counters(budget) == [ThrottlingCounters(315, 176, 81234, tmp_path / "sys/fs/cgroup/cpu.stat")]


def test_throttling_is_read_now(tmp_path):
    tree = trees.quota(tmp_path)
    budget = Budget.read(tree.root)
    tree.put("sys/fs/cgroup/cpu.stat", "nr_periods 400\nnr_throttled 200\nthrottled_usec 90000")
    (now,) = counters(budget)
    assert (now.nr_periods, now.nr_throttled, now.throttled_usec) == (400, 200, 90000)


def test_quota_of_the_parent(tmp_path):
    budget = Budget.read(trees.parent_quota(tmp_path).root)
    pod = tmp_path / "sys/fs/cgroup/pods/pod7"
    assert (budget.quota, budget.quota_source) == (3.0, pod / "cpu.max")
    assert (budget.memory_limit_bytes, budget.memory_source) == (512 << 20, pod / "memory.max")
    assert budget.effective == 3
    (throttled,) = counters(budget)
    assert throttled.source == pod / "cpu.stat"


def test_quota_of_the_parent_v1(tmp_path):
    budget = Budget.read(trees.parent_quota_v1(tmp_path).root)
    groups = tmp_path / "sys/fs/cgroup"
    assert budget.quota == 2.5
    assert budget.quota_source == groups / "cpu,cpuacct/kubepods/cpu.cfs_quota_us"
    assert budget.memory_limit_bytes == 1024 << 20
    assert budget.memory_source == groups / "memory/kubepods/pod7/memory.limit_in_bytes"
    assert budget.effective == 3
    (throttled,) = counters(budget)
    assert (throttled.nr_throttled, throttled.throttled_usec) == (7, 5000)


def test_v1_tells_the_memory_limit_of_ancestors_out_of_sight(tmp_path):
    tree = trees.parent_quota_v1(tmp_path)
    stat = "sys/fs/cgroup/memory/kubepods/pod7/memory.stat"
    tree.put(stat, f"cache 0\nhierarchical_memory_limit {300 << 20}\ntotal_cache 0")
    budget = Budget.read(tree.root)
    assert (budget.memory_limit_bytes, budget.memory_source) == (300 << 20, tmp_path / stat)


def test_v1_container_that_sees_its_group_as_the_top(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=1)
    tree.v1("/docker/abc", mount_root="/docker/abc")
    tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000")
    assert Budget.read(tree.root).quota == 0.5
    assert Budget.read(tree.root).effective == 1


def test_group_below_a_mounted_part_of_the_hierarchy(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=1)
    tree.v2("/docker/abc/child", mount_root="/docker/abc")
    tree.put("sys/fs/cgroup/child/cpu.max", "200000 100000")
    assert Budget.read(tree.root).quota == 2.0


def test_group_outside_the_namespace_falls_back_to_the_top(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=1).v2("/../other")
    tree.put("sys/fs/cgroup/cpu.max", "300000 100000").put("sys/fs/other/cpu.max", "100000 100000")
    assert Budget.read(tree.root).quota == 3.0


def test_mount_point_with_a_blank(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=1).v2("/a")
    tree.put("proc/self/mountinfo", "38 33 0:33 / /my\\040groups rw - cgroup2 cgroup2 rw")
    tree.put("my groups/a/cpu.max", "100000")
    assert Budget.read(tree.root).quota == 1.0


def test_another_process(tmp_path):
    tree = (
        trees.quota(tmp_path).put("proc/77/cgroup", "0::/b").put("sys/fs/cgroup/b/cpu.max", "100000 100000")
    )
    tree.put("proc/77/status", "Name:\tx\nCpus_allowed_list:\t1,3\nMems_allowed_list:\t0")
    budget = Budget.read(tree.root, pid=77)
    assert (budget.cpus, budget.quota) == ({1, 3}, 1.0)


def test_explained(tmp_path):
    assert Budget.read(trees.quota(tmp_path).root).explain() == [
        "affinity mask: 8 CPUs of the machine's 8 (0-7)",
        f"CPU quota: 1.5 CPUs of time, set by {tmp_path}/sys/fs/cgroup/cpu.max",
        "effective: 2 CPUs, the smaller of 8 (mask) and 2 (quota 1.5 rounded up)",
        f"memory limit: 2048 MiB, set by {tmp_path}/sys/fs/cgroup/memory.max",
    ]


def test_explained_without_limits(tmp_path):
    assert Budget.read(trees.one_cpu(tmp_path).root).explain() == [
        "affinity mask: 1 CPU of the machine's 1 (0)",
        "CPU quota: none in any control group in sight",
        "effective: 1 CPU, all of the mask",
        "memory limit: none in any control group in sight",
    ]


def test_captured_machine(captured: Path):
    budget = Budget.read(captured)
    assert (len(budget.cpus), budget.quota) == (16, None)


def test_this_machine():
    assert Budget.read().cpus == os.sched_getaffinity(0)
    assert Budget.read(pid=os.getpid()).cpus == os.sched_getaffinity(os.getpid())
