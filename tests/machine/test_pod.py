"""A pod's CPUs of its own, its quota, its NUMA nodes, and the line of YAML to change, from written trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cpuserve.machine.budget import Budget
from cpuserve.machine.diagnosis import SECTIONS, diagnose
from cpuserve.machine.files import parse_cpulist
from cpuserve.machine.pod import Pod
from cpuserve.machine.topology import Topology
from tests.machine import trees

ENVIRONMENT = "PATH=/usr/bin\0KUBERNETES_SERVICE_HOST=10.0.0.1\0HOME=/"
NODE = "0-15"  # two NUMA nodes: 0-3 and 8-11, 4-7 and 12-15
HIDDEN = "/"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-1.scope"
GUARANTEED = "/kubepods.slice/kubepods-pod1.slice/cri-1.scope"


def made(
    root: Path,
    version: str,
    cpus: str = NODE,
    *,
    quota: float | None = None,
    asked: int | None = None,
    mems: str = "0-1",
    path: str = HIDDEN,
    environment: str = ENVIRONMENT,
    sockets: int = 2,
) -> trees.Tree:
    """A container on a machine of 16 CPUs; ``asked`` is its CPU request in thousandths."""
    tree = trees.grid(root, sockets=sockets, nodes_each=1, cores=8 // sockets, smt=2).status(cpus, mems)
    tree.put("proc/self/environ", environment)
    inside = path.strip("/")
    if version == "v2":
        tree.v2(path)
        here = f"sys/fs/cgroup/{inside}"
        period = "max" if quota is None else str(int(quota * 100_000))
        tree.put(f"{here}/cpu.max", f"{period} 100000").put(f"{here}/cpuset.cpus.effective", cpus)
        if asked is not None:
            tree.put(f"{here}/cpu.weight", str(1 + (asked * 1024 // 1000 - 2) * 9999 // 262142))
    else:
        tree.v1(path)
        groups = "sys/fs/cgroup"
        tree.put("proc/self/cgroup", f"4:memory:{path}\n3:cpuset:{path}\n2:cpu,cpuacct:{path}\n0::/")
        here = f"{groups}/cpu,cpuacct/{inside}"
        tree.put(f"{here}/cpu.cfs_quota_us", "-1" if quota is None else str(int(quota * 100_000)))
        tree.put(f"{here}/cpu.cfs_period_us", "100000")
        tree.put(f"{groups}/cpuset/{inside}/cpuset.effective_cpus", cpus)
        if asked is not None:
            tree.put(f"{here}/cpu.shares", str(asked * 1024 // 1000))
    return tree


def look(tree: trees.Tree) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The report on the pod, and its lines."""
    report = json.loads(json.dumps(diagnose(None, root=tree.root)))
    return report["pod"], [one for one in report["findings"] if one["section"] == "pod"]


def lines(pod: dict[str, Any], where: str) -> list[str]:
    return [one["line"] for one in pod["changes"] if one["where"] == where]


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_cores_of_its_own_with_the_quota_lifted_on_one_node(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path, version, "0-1,8-9", asked=4000, mems="0"))
    assert pod == {
        "service_class": None,
        "cpus": "0-1,8-9",
        "exclusive": True,
        "quota": None,
        "quota_in_force": False,
        "numa_nodes": "0",
        "memory_nodes": "0",
        "aligned": True,
        "changes": [],
    }
    assert [one["level"] for one in found] == ["green"] * 3
    assert [one["text"].split(":")[1].strip() for one in found] == [
        "exclusive cores",
        "quota lifted",
        "topology manager",
    ]


def test_cores_of_its_own_with_the_quota_in_force(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path, version, "0-1,8-9", quota=4, mems="0"))
    assert (pod["exclusive"], pod["quota_in_force"]) == (True, True)
    assert pod["changes"] == [
        {"where": "kubelet", "line": "featureGates: {DisableCPUQuotaWithExclusiveCPUs: true}"}
    ]
    assert [one["level"] for one in found] == ["green", "yellow", "green"]
    assert "DisableCPUQuotaWithExclusiveCPUs" in found[1]["advice"]


def test_the_shared_pool_of_a_whole_node(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path, version, quota=4))
    assert (pod["exclusive"], pod["aligned"]) == (False, False)
    (resources,) = lines(pod, "pod")
    described = yaml.safe_load(resources)["resources"]
    assert described["requests"] == described["limits"] == {"cpu": "4", "memory": "8Gi"}
    assert lines(pod, "kubelet") == ["cpuManagerPolicy: static", "topologyManagerPolicy: single-numa-node"]
    assert found[0]["level"] == "yellow"
    assert found[0]["text"].startswith("pod: shared pool: 16 of the node's 16 CPUs (0-15)")
    assert "cpuManagerPolicy: static" in found[0]["advice"]
    assert "single-numa-node" in found[2]["advice"]


def test_a_part_of_a_cpu_has_no_core(tmp_path: Path, version: str) -> None:
    tree = made(tmp_path, version, quota=2.5)
    memory = "memory.max" if version == "v2" else "memory/memory.limit_in_bytes"
    tree.put(f"sys/fs/cgroup/{memory}", str(3 << 30))
    pod, _ = look(tree)
    assert lines(pod, "pod") == [
        'resources: {requests: {cpu: "3", memory: 3072Mi}, limits: {cpu: "3", memory: 3072Mi}}'
    ]


def test_what_others_left_of_the_pool_is_not_its_own(tmp_path: Path, version: str) -> None:
    """The pool has 12 CPUs, since others have 4 of their own; quota and request are of another size."""
    shrunk = "2-7,10-15"
    for name, facts in {"quota": {"quota": 4.0}, "burst": {"asked": 2000}}.items():
        pod, found = look(made(tmp_path / name, version, shrunk, **facts))  # type: ignore[arg-type]
        assert pod["exclusive"] is False
        assert lines(pod, "kubelet")[:1] != ["cpuManagerPolicy: static"]  # it is on already
        assert "shared pool: 12 of the node's 16 CPUs" in found[0]["text"]
        assert found[0]["advice"]


def test_the_class_is_read_where_the_path_is_in_sight(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path / "a", version, path=BURSTABLE, environment=""))
    assert (pod["service_class"], pod["exclusive"]) == ("Burstable", False)
    assert "class Burstable" in found[0]["text"]
    pod, _ = look(made(tmp_path / "b", version, quota=4, path=GUARANTEED, environment=""))
    assert pod["service_class"] == "Guaranteed"
    assert lines(pod, "pod") == []  # the pod is right, the node is not
    pod, _ = look(made(tmp_path / "c", version, path="/kubepods/besteffort/pod1/c", environment=""))
    assert pod["service_class"] == "BestEffort"


def test_cpus_over_two_nodes_and_memory_of_both(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path / "a", version, "3-4,11-12", asked=4000))
    assert (pod["exclusive"], pod["numa_nodes"], pod["aligned"]) == (True, "0-1", False)
    assert lines(pod, "kubelet") == ["topologyManagerPolicy: single-numa-node"]
    assert [one["level"] for one in found] == ["green", "green", "yellow"]
    pod, found = look(made(tmp_path / "b", version, "0-1,8-9", asked=4000, mems="0-1"))
    assert (pod["numa_nodes"], pod["memory_nodes"], pod["aligned"]) == ("0", "0-1", True)
    assert lines(pod, "kubelet") == ["memoryManagerPolicy: Static"]
    assert (found[2]["level"], "memoryManagerPolicy: Static" in found[2]["advice"]) == ("green", True)


def test_one_numa_node_needs_no_manager(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path, version, "0-1,8-9", asked=4000, mems="0", sockets=1))
    assert pod["changes"] == []
    assert "the machine shows one NUMA node" in found[2]["text"]


def test_nothing_tells_how_much_was_asked_for(tmp_path: Path, version: str) -> None:
    pod, found = look(made(tmp_path, version, "0-1,8-9", mems="0"))
    assert pod["exclusive"] is None
    assert (found[0]["level"], "nothing in sight tells" in found[0]["text"]) == ("yellow", True)


@pytest.mark.parametrize(
    ("cpus", "weight", "exclusive"),
    [
        ("0", 39, True),  # 1024 shares on the straight line
        ("0", 100, True),  # the same on the curve
        ("0-3", 157, True),
        ("0-3", 303, True),
        ("0-3", 1, False),  # no request
        ("0-3", 39, False),
    ],
)
def test_both_ways_to_make_a_weight_of_shares(
    tmp_path: Path, cpus: str, weight: int, exclusive: bool
) -> None:
    tree = made(tmp_path, "v2", cpus).put("sys/fs/cgroup/cpu.weight", str(weight))
    assert look(tree)[0]["exclusive"] is exclusive


def test_every_yellow_line_says_which_line_to_write(tmp_path: Path, version: str) -> None:
    for at, facts in enumerate(({}, {"quota": 4.0}, {"quota": 0.5}, {"asked": 500}, {"path": BURSTABLE})):
        pod, found = look(made(tmp_path / str(at), version, **facts))  # type: ignore[arg-type]
        for one in found:
            if one["level"] == "yellow":
                assert any(change["line"] in one["advice"] for change in pod["changes"]), one
        for change in pod["changes"]:
            assert isinstance(yaml.safe_load(change["line"]), dict)


def test_outside_a_pod_nothing_is_said(tmp_path: Path, version: str) -> None:
    tree = made(tmp_path, version, environment="PATH=/usr/bin", path="/system.slice/cpuserve.service")
    report = diagnose(None, root=tree.root)
    assert report["pod"] is None
    assert not [one for one in report["findings"] if one["section"] == "pod"]
    assert "pod" in SECTIONS


def test_another_process_of_the_machine_is_looked_at_from_outside(tmp_path: Path) -> None:
    """The doctor on the node, the server in a pod."""
    tree = made(tmp_path, "v2", environment="", path="/user.slice")
    tree.put("proc/77/cgroup", f"0::{GUARANTEED}").put("proc/77/environ", "X=1")
    tree.put("proc/77/status", "Cpus_allowed_list:\t0-1,8-9\nMems_allowed_list:\t0")
    here = f"sys/fs/cgroup{GUARANTEED}"
    tree.put(f"{here}/cpu.max", "max 100000").put(f"{here}/cpu.weight", "157")
    tree.put(f"{here}/cpuset.cpus.effective", "0-1,8-9")
    topology = Topology.read(tmp_path)
    pod = Pod.read(Budget.read(tmp_path, pid=77), topology, tmp_path, 77)
    assert pod is not None
    assert (pod.service_class, pod.exclusive, pod.cpus) == ("Guaranteed", True, parse_cpulist("0-1,8-9"))
    assert Pod.read(Budget.read(tmp_path), topology, tmp_path) is None
