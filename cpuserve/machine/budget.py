"""Reads how much of the machine a process may use: CPUs, CPU time and memory."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cpuserve.machine import cgroup
from cpuserve.machine.files import format_cpulist, parse_cpulist, read_cpulist, read_text

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """What a process may use of the machine.

    Attributes:
        cpus: the affinity mask; the kernel has removed the CPUs that the cpuset does not allow.
        quota: CPU time in CPUs, the least of the own and ancestor control groups; None is no quota.
        quota_source: the control group file that sets it.
        memory_limit_bytes: the least memory limit; None is no limit.
        memory_source: the control group file that sets it.
        mems: the NUMA nodes whose memory may be used; None when the kernel does not tell.
        online: how many CPUs the machine has online.
        stat_files: the ``cpu.stat`` of own and ancestor groups.
    """

    cpus: frozenset[int]
    quota: float | None = None
    quota_source: Path | None = None
    memory_limit_bytes: int | None = None
    memory_source: Path | None = None
    mems: frozenset[int] | None = None
    online: int | None = None
    stat_files: tuple[Path, ...] = ()

    @classmethod
    def read(
        cls, root: Path = Path("/"), *, affinity: Collection[int] | None = None, pid: int | str = "self"
    ) -> Budget:
        """Read the budget of a process.

        Args:
            root: where /sys and /proc are.
            affinity: the mask to assume in place of the process's own.
            pid: the process; ``self`` is the caller.
        """
        online = read_cpulist(root / "sys/devices/system/cpu/online") or ()
        quota = min(cgroup.cpu_quotas(root, pid), key=lambda limit: limit.value, default=None)
        memory = min(cgroup.memory_limits(root, pid), key=lambda limit: limit.value, default=None)
        status = _status(root, pid)
        mems = status.get("Mems_allowed_list")
        return cls(
            cpus=frozenset(_mask(root, pid, status, online) if affinity is None else affinity),
            quota=quota.value if quota else None,
            quota_source=quota.source if quota else None,
            memory_limit_bytes=int(memory.value) if memory else None,
            memory_source=memory.source if memory else None,
            mems=frozenset(parse_cpulist(mems)) if mems else None,
            online=len(online) or None,
            stat_files=cgroup.cpu_stats(root, pid),
        )

    @property
    def effective(self) -> int:
        """How many threads can run at once: at least 1."""
        return self.threads_over(len(self.cpus))

    @property
    def quota_binds(self) -> bool:
        """Whether the quota limits more than the mask."""
        return self.quota is not None and self.effective < len(self.cpus)

    def threads_over(self, cpus: int) -> int:
        """How many threads can run at once on ``cpus`` CPUs of the mask: at least 1."""
        return max(1, cpus if self.quota is None else min(cpus, math.ceil(self.quota)))

    def explain(self) -> list[str]:
        """Explain ``effective`` and the memory limit, one step a line."""
        online = f" of the machine's {self.online}" if self.online else ""
        lines = [f"affinity mask: {_cpus(len(self.cpus))}{online} ({format_cpulist(self.cpus) or 'none'})"]
        if self.quota is None:
            lines.append("CPU quota: none in any control group in sight")
            lines.append(f"effective: {_cpus(self.effective)}, all of the mask")
        else:
            lines.append(f"CPU quota: {self.quota:g} CPUs of time, set by {self.quota_source}")
            lines.append(
                f"effective: {_cpus(self.effective)}, the smaller of {len(self.cpus)} (mask)"
                f" and {math.ceil(self.quota)} (quota {self.quota:g} rounded up)"
            )
        if self.memory_limit_bytes is None:
            lines.append("memory limit: none in any control group in sight")
        else:
            mebibytes = self.memory_limit_bytes / (1 << 20)
            lines.append(f"memory limit: {mebibytes:.0f} MiB, set by {self.memory_source}")
        return lines


def _cpus(count: int) -> str:
    return f"{count} CPU" if count == 1 else f"{count} CPUs"


def _status(root: Path, pid: int | str) -> dict[str, str]:
    lines = (read_text(root / f"proc/{pid}/status") or "").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _mask(root: Path, pid: int | str, status: dict[str, str], online: tuple[int, ...]) -> Collection[int]:
    if pid == "self" and root == Path("/"):
        return os.sched_getaffinity(0)
    allowed = status.get("Cpus_allowed_list")
    if allowed is None:
        return online
    # The file lists CPUs that could be plugged in later as well.
    listed = parse_cpulist(allowed)
    return [cpu for cpu in listed if cpu in online] if online else listed
