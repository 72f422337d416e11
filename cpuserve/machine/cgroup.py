"""Finds the control groups of a process and reads their limits and throttling counters."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cpuserve.machine.files import read_cpulist, read_int, read_text

__all__ = [
    "Limit",
    "ThrottlingChange",
    "ThrottlingCounters",
    "ThrottlingSample",
    "cpu_quotas",
    "cpu_shares",
    "cpu_stats",
    "cpu_weight",
    "cpuset",
    "memory_limits",
    "paths",
]

# v1 writes "no limit" as the largest number of whole pages; no machine has an exabyte.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Limit:
    """One limit and the file that sets it.

    Attributes:
        value: CPUs for a quota, bytes for memory.
        source: the file, as this process sees it.
    """

    value: float
    source: Path


@dataclass(frozen=True)
class ThrottlingCounters:
    """How often a control group was stopped because it had used up its CPU quota, since it was made.

    Attributes:
        nr_periods: periods in which the group wanted to run.
        nr_throttled: those in which it was stopped.
        throttled_usec: time stopped, in microseconds, added up over its CPUs.
        source: the file with the counters.
    """

    nr_periods: int
    nr_throttled: int
    throttled_usec: int
    source: Path


@dataclass(frozen=True)
class ThrottlingChange:
    """How the throttling counters of one group changed between two moments.

    Attributes:
        seconds: between the two moments.
        nr_periods: periods in which the group wanted to run.
        nr_throttled: those in which it was stopped.
        throttled_usec: time stopped, in microseconds, added up over its CPUs.
        source: the file with the counters.
    """

    seconds: float
    nr_periods: int
    nr_throttled: int
    throttled_usec: int
    source: str

    @property
    def share(self) -> float:
        """The part of the periods, 0 to 1, in which the group was stopped."""
        return self.nr_throttled / self.nr_periods if self.nr_periods else 0.0


@dataclass(frozen=True)
class ThrottlingSample:
    """The throttling counters of a process's own and ancestor groups at one moment.

    Attributes:
        at: when, in seconds since the epoch.
        groups: each file and its counters.
    """

    at: float
    groups: Mapping[str, ThrottlingCounters]

    @classmethod
    def take(cls, stat_files: Iterable[Path]) -> ThrottlingSample:
        """Read the counters now, those of `cpu_stats`."""
        counts = (_throttling(file) for file in stat_files)
        return cls(time.time(), {str(count.source): count for count in counts if count is not None})

    def since(self, earlier: ThrottlingSample) -> ThrottlingChange | None:
        """The change since ``earlier`` in the group that was stopped longest; None without counters."""
        changes = [
            ThrottlingChange(
                self.at - earlier.at,
                now.nr_periods - before.nr_periods,
                now.nr_throttled - before.nr_throttled,
                now.throttled_usec - before.throttled_usec,
                source,
            )
            for source, now in self.groups.items()
            if (before := earlier.groups.get(source)) is not None
        ]
        return max(changes, key=lambda change: (change.throttled_usec, change.nr_periods), default=None)

    def to_json(self) -> dict[str, Any]:
        """Fit for JSON; `from_json` reads it."""
        groups = [asdict(count) | {"source": source} for source, count in self.groups.items()]
        return {"at": self.at, "groups": groups}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ThrottlingSample:
        """The sample that `to_json` wrote."""
        counts = [
            ThrottlingCounters(**{**group, "source": Path(group["source"])}) for group in content["groups"]
        ]
        return cls(content["at"], {str(count.source): count for count in counts})


def cpu_quotas(root: Path, pid: int | str) -> tuple[Limit, ...]:
    """Every CPU quota of the process's own and ancestor groups, in CPUs, own group first."""
    limits = []
    for folder in _folders(root, pid, "cpu"):
        quota = _v2_quota(folder) or _v1_quota(folder)
        if quota is not None:
            limits.append(quota)
    return tuple(limits)


def memory_limits(root: Path, pid: int | str) -> tuple[Limit, ...]:
    """Every memory limit of the process's own and ancestor groups, in bytes, own group first."""
    limits = []
    for folder in _folders(root, pid, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            value = read_int(folder / name)
            if value is not None and 0 <= value < _NO_LIMIT:
                limits.append(Limit(value, folder / name))
        # v1 alone tells the least limit of all ancestors, those outside a container's view included.
        found = re.search(
            r"^hierarchical_memory_limit (\d+)$", read_text(folder / "memory.stat") or "", re.MULTILINE
        )
        if found and int(found[1]) < _NO_LIMIT:
            limits.append(Limit(int(found[1]), folder / "memory.stat"))
    return tuple(limits)


def cpu_stats(root: Path, pid: int | str) -> tuple[Path, ...]:
    """The ``cpu.stat`` files of the process's own and ancestor groups, own group first."""
    files = (folder / "cpu.stat" for folder in _folders(root, pid, "cpu"))
    return tuple(file for file in files if file.is_file())


def cpuset(root: Path, pid: int | str) -> tuple[int, ...] | None:
    """The CPUs that the process's own group may use; None when no group in sight tells."""
    for folder in _folders(root, pid, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if cpus := read_cpulist(folder / name):
                return cpus
    return None


def cpu_weight(root: Path, pid: int | str) -> int | None:
    """The share of CPU time of the process's own group in v2, 1 to 10000; None where there is none."""
    return next(
        (weight for folder in _folders(root, pid, "cpu") if (weight := read_int(folder / "cpu.weight"))), None
    )


def cpu_shares(root: Path, pid: int | str) -> int | None:
    """The share of CPU time of the process's own group in v1, 1024 a CPU; None where there is none."""
    return next(
        (shares for folder in _folders(root, pid, "cpu") if (shares := read_int(folder / "cpu.shares"))), None
    )


def paths(root: Path, pid: int | str) -> tuple[str, ...]:
    """The process's own groups in every hierarchy, and the groups that are mounted in its sight."""
    own = (line.rpartition(":")[2] for line in (read_text(root / f"proc/{pid}/cgroup") or "").splitlines())
    seen = (str(mount_root) for _, mount_root, _ in _mounts(root, "cpu"))
    return tuple(dict.fromkeys((*own, *seen)))


def _throttling(file: Path) -> ThrottlingCounters | None:
    pairs = (line.split() for line in (read_text(file) or "").splitlines())
    counts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
    if "nr_throttled" not in counts:
        return None
    # v1 counts nanoseconds under another name.
    usec = counts.get("throttled_usec", counts.get("throttled_time", 0) // 1000)
    return ThrottlingCounters(counts.get("nr_periods", 0), counts["nr_throttled"], usec, file)


def _v2_quota(folder: Path) -> Limit | None:
    words = (read_text(folder / "cpu.max") or "max").split()
    if words[0] == "max":
        return None
    period = int(words[1]) if len(words) > 1 else 100_000
    return Limit(int(words[0]) / period, folder / "cpu.max")


def _v1_quota(folder: Path) -> Limit | None:
    quota = read_int(folder / "cpu.cfs_quota_us")
    period = read_int(folder / "cpu.cfs_period_us") or 100_000
    return None if quota is None or quota <= 0 else Limit(quota / period, folder / "cpu.cfs_quota_us")


def _folders(root: Path, pid: int | str, controller: str) -> list[Path]:
    """The group's folder and its ancestors' for ``controller``, v1 and v2 mounts alike, own first."""
    paths = _paths(root, pid, controller)
    folders: list[Path] = []
    for version, mount_root, mount_point in _mounts(root, controller):
        own = paths.get(version)
        if own is None:
            continue
        top = root / mount_point.relative_to("/")
        # A container without its own cgroup namespace sees its group mounted as the top; a path that is not
        # below the mount's root lies out of sight, and the top is then the nearest group that can be read.
        inside = own.relative_to(mount_root) if own.is_relative_to(mount_root) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        chain = [top / inside, *(top / parent for parent in inside.parents)] if inside.parts else [top]
        folders += [folder for folder in chain if folder.is_dir() and folder not in folders]
    return folders


def _paths(root: Path, pid: int | str, controller: str) -> dict[str, PurePosixPath]:
    """``v1`` and ``v2`` to the group's path, from lines such as ``4:cpu,cpuacct:/a/b`` and ``0::/a/b``."""
    paths = {}
    for line in (read_text(root / f"proc/{pid}/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            paths["v2"] = PurePosixPath(path or "/")
        elif controller in names.split(","):
            paths["v1"] = PurePosixPath(path or "/")
    return paths


def _mounts(root: Path, controller: str) -> list[tuple[str, PurePosixPath, PurePosixPath]]:
    """(version, root inside the hierarchy, mount point) of every mount that can hold ``controller``.

    The reader's own mounts are what can be opened, so they count also when another process is asked about.
    """
    mounts = []
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:
            continue
        if kind[0] == "cgroup2":
            version = "v2"
        elif kind[0] == "cgroup" and controller in kind[-1].split(","):
            version = "v1"
        else:
            continue
        mount_root, point = (PurePosixPath(_unescape(field)) for field in fields[3:5])
        mounts.append((version, mount_root, point))
    return mounts


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
