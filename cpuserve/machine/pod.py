"""Says what Kubernetes gave the pod around a process: CPUs of its own or shared ones, quota, NUMA nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cpuserve.machine import cgroup
from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist, read_text
from cpuserve.machine.seat_checks import DoctorFinding
from cpuserve.machine.topology import Topology

__all__ = ["Change", "Pod", "check_pod"]

ServiceClass = Literal["Guaranteed", "Burstable", "BestEffort"]

_RESOURCES = 'resources: {{requests: {{cpu: "{0}", memory: {1}}}, limits: {{cpu: "{0}", memory: {1}}}}}'


@dataclass(frozen=True)
class Change:
    """One line of YAML to change.

    Attributes:
        where: ``pod`` is the manifest, ``kubelet`` the node's KubeletConfiguration.
        line: how it has to read.
    """

    where: Literal["pod", "kubelet"]
    line: str


@dataclass(frozen=True)
class Pod:
    """What a pod got.

    Attributes:
        service_class: the class of service by the group's path; None where the path is hidden.
        cpus: the CPUs of the cpuset.
        online: the CPUs of the node.
        quota: CPU time in CPUs; None is no quota in sight.
        memory_limit_bytes: the least memory limit; None is no limit in sight.
        exclusive: whether the CPUs are the container's own; None where nothing tells.
        nodes: the NUMA nodes of the CPUs.
        mems: the NUMA nodes whose memory may be used; None when the kernel does not tell.
        machine_nodes: how many NUMA nodes with CPUs the machine has.
    """

    service_class: ServiceClass | None
    cpus: tuple[int, ...]
    online: int
    quota: float | None
    memory_limit_bytes: int | None
    exclusive: bool | None
    nodes: tuple[int, ...]
    mems: frozenset[int] | None
    machine_nodes: int

    @classmethod
    def read(
        cls, budget: Budget, topology: Topology, root: Path = Path("/"), pid: int | str = "self"
    ) -> Pod | None:
        """Read what the pod around a process got; None when it is in no pod.

        Args:
            budget: of the process.
            topology: of the machine.
            root: where /sys and /proc are.
            pid: the process; ``self`` is the caller.
        """
        if not _in_pod(root, pid):
            return None
        cpus = cgroup.cpuset(root, pid) or tuple(sorted(budget.cpus))
        online = budget.online or len(topology.cpus)
        known = (topology.by_id.get(cpu) for cpu in cpus)
        nodes = {cpu.node for cpu in known if cpu is not None and cpu.node is not None}
        return cls(
            service_class=_service_class(root, pid),
            cpus=cpus,
            online=online,
            quota=budget.quota,
            memory_limit_bytes=budget.memory_limit_bytes,
            exclusive=_exclusive(len(cpus), online, budget.quota, root, pid),
            nodes=tuple(sorted(nodes)),
            mems=budget.mems,
            machine_nodes=sum(not node.memory_only for node in topology.nodes),
        )

    @property
    def aligned(self) -> bool:
        """Whether its CPUs are on one NUMA node."""
        return len(self.nodes) <= 1

    @property
    def _memory(self) -> str:
        """The memory limit as manifests write it; an example where there is none."""
        return f"{self.memory_limit_bytes >> 20}Mi" if self.memory_limit_bytes else "8Gi"

    def changes(self) -> tuple[Change, ...]:
        """The lines of YAML to change, the most important first."""
        return tuple(self._changes())

    def _changes(self) -> Iterator[Change]:
        wanted = max(1, math.ceil(self.quota or min(len(self.cpus), self.online - 1)))
        if not self.exclusive:
            whole = self.quota is not None and self.quota == int(self.quota)
            if self.service_class != "Guaranteed" or not whole:
                yield Change("pod", _RESOURCES.format(wanted, self._memory))
            if len(self.cpus) == self.online:
                yield Change("kubelet", "cpuManagerPolicy: static")
        elif self.quota is not None:
            yield Change("kubelet", "featureGates: {DisableCPUQuotaWithExclusiveCPUs: true}")
        if self.machine_nodes > 1 and not self.aligned:
            yield Change("kubelet", "topologyManagerPolicy: single-numa-node")
        elif self.machine_nodes > 1 and self.exclusive and self.mems and len(self.mems) > 1:
            yield Change("kubelet", "memoryManagerPolicy: Static")

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "service_class": self.service_class,
            "cpus": format_cpulist(self.cpus),
            "exclusive": self.exclusive,
            "quota": self.quota,
            "quota_in_force": self.quota is not None,
            "numa_nodes": format_cpulist(self.nodes),
            "memory_nodes": None if self.mems is None else format_cpulist(self.mems),
            "aligned": self.aligned,
            "changes": [{"where": one.where, "line": one.line} for one in self.changes()],
        }


def check_pod(pod: Pod | None) -> list[DoctorFinding]:
    """Check whether a pod has CPUs of its own, whether a quota stops it, and where its memory is."""
    if pod is None:
        return []
    return [_cpus(pod), _quota(pod), _topology(pod)]


def _cpus(pod: Pod) -> DoctorFinding:
    told = f"{len(pod.cpus)} of the node's {pod.online} CPUs ({format_cpulist(pod.cpus)})"
    kind = f", class {pod.service_class}" if pod.service_class else ""
    if pod.exclusive:
        return DoctorFinding("green", f"pod: exclusive cores: {told} are its own{kind}")
    if pod.exclusive is None:
        text = f"pod: {told}{kind}; nothing in sight tells whether other pods use them too"
        return DoctorFinding("yellow", text, _advice(pod, "pod", "if they are shared"))
    text = f"pod: shared pool: {told}, other pods run on them too{kind}"
    lines = [_advice(pod, "pod", "in every container, init containers and sidecars too")]
    lines.append(_advice(pod, "kubelet", "on the node", only="cpuManagerPolicy"))
    said = "; ".join(line for line in lines if line)
    return DoctorFinding("yellow", text, said or "delete the pod: made anew, it gets CPUs of its own")


def _quota(pod: Pod) -> DoctorFinding:
    if pod.quota is None:
        text = "pod: quota lifted: no CFS quota stops it" if pod.exclusive else "pod: no CFS quota (no limit)"
        return DoctorFinding("green", text)
    text = f"pod: quota in force: {pod.quota:g} CPUs of time"
    if pod.exclusive:
        since = "on the node (before Kubernetes 1.33: `cpuCFSQuota: false`)"
        said = _advice(pod, "kubelet", since, only="featureGates")
        return DoctorFinding("yellow", f"{text} on cores of its own: it can still be stopped", said)
    return DoctorFinding("green", f"{text}, as for every pod with a limit and without CPUs of its own")


def _topology(pod: Pod) -> DoctorFinding:
    if pod.machine_nodes <= 1:
        return DoctorFinding("green", "pod: topology manager: the machine shows one NUMA node")
    nodes = format_cpulist(pod.nodes)
    memory = "unknown nodes" if pod.mems is None else f"nodes {format_cpulist(pod.mems)}"
    if not pod.aligned:
        text = f"pod: topology manager: its CPUs are on NUMA nodes {nodes}, memory comes from {memory}"
        said = _advice(pod, "kubelet", "on the node, unless the pod is to have the whole machine")
        return DoctorFinding("yellow", text, said)
    text = f"pod: topology manager: all CPUs are on NUMA node {nodes}, memory comes from {memory}"
    return DoctorFinding("green", text, _advice(pod, "kubelet", "on the node", only="memoryManagerPolicy"))


def _advice(pod: Pod, where: str, why: str, only: str = "") -> str:
    """The last change of that place, as a sentence; empty for none."""
    lines = [one.line for one in pod.changes() if one.where == where and one.line.startswith(only)]
    return f"{where}: `{lines[-1]}` {why}" if lines else ""


def _in_pod(root: Path, pid: int | str) -> bool:
    # a server may have written its title over its own environment
    seen = (read_text(root / f"proc/{one}/environ") or "" for one in (pid, "self"))
    variables = [word for text in seen for word in text.split("\0")]
    if any(word.startswith("KUBERNETES_SERVICE_HOST=") for word in variables):
        return True
    return any("kubepods" in path for path in cgroup.paths(root, pid))


def _service_class(root: Path, pid: int | str) -> ServiceClass | None:
    """By the group's path: ``kubepods.slice/kubepods-burstable.slice/...`` or ``kubepods/besteffort/...``."""
    paths = [path for path in cgroup.paths(root, pid) if "kubepods" in path]
    if not paths:
        return None
    if any("burstable" in path for path in paths):
        return "Burstable"
    return "BestEffort" if any("besteffort" in path for path in paths) else "Guaranteed"


def _exclusive(cpus: int, online: int, quota: float | None, root: Path, pid: int | str) -> bool | None:
    """Whether a cpuset of ``cpus`` is the container's own: it has as many CPUs as the container asked for.

    The static CPU manager keeps some CPUs for the system, so the whole node is never one container's. The
    shared pool is smaller than the node too once others have CPUs of their own, but has the size of a
    container's request only by chance.
    """
    if cpus >= online:
        return False
    if quota is not None:
        return quota == cpus
    shares = cgroup.cpu_shares(root, pid)
    if shares is not None:
        return shares == cpus * 1024
    weight = cgroup.cpu_weight(root, pid)
    return None if weight is None else weight in _weights(cpus * 1024)


def _weights(shares: int) -> set[int]:
    """What runtimes make of v1's shares in v2: a straight line, or since 2025 a curve with 100 at one CPU."""
    straight = 1 + (shares - 2) * 9999 // 262142
    power = math.log2(shares)
    return {straight, math.ceil(10 ** (power * (power + 125) / 612 - 7 / 34))}
