"""Reads which CPUs, cores, caches and NUMA nodes the machine has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from cpuserve.machine.files import read_cpulist, read_int, read_text

__all__ = ["Cache", "Cpu", "Kind", "Node", "Topology"]

Kind = Literal["P", "E"]

_SIZE = re.compile(r"(\d+)([KMG]?)$")
_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Cache:
    """One cache as a CPU sees it.

    Attributes:
        level: 1, 2, 3 ...
        type: ``Data``, ``Instruction`` or ``Unified``.
        size_bytes: 0 when the kernel does not tell.
        cpus: the logical CPUs that share it.
    """

    level: int
    type: str
    size_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class Cpu:
    """One logical CPU that is online.

    Attributes:
        id: the kernel's number.
        package: the socket, 0 when the kernel does not tell.
        core: the core's number inside its package, the CPU's own number when the kernel does not tell.
        node: the NUMA node, or None when the kernel shows no nodes.
        siblings: all online CPUs of the same physical core, this one among them.
        kind: ``P`` or ``E`` on a machine that has both, else None.
        caches: nearest first.
    """

    id: int
    package: int
    core: int
    node: int | None
    siblings: tuple[int, ...]
    kind: Kind | None = None
    caches: tuple[Cache, ...] = ()

    @property
    def last_cache(self) -> Cache | None:
        """The cache of the highest level, if the kernel shows any."""
        return max(self.caches, key=lambda cache: cache.level, default=None)


@dataclass(frozen=True)
class Node:
    """One NUMA node.

    Attributes:
        id: the kernel's number.
        cpus: its online CPUs; empty for a memory-only node.
        memory_bytes: 0 for a memoryless node, None when the kernel does not tell.
        distances: node number to distance (10 is the node itself).
    """

    id: int
    cpus: tuple[int, ...]
    memory_bytes: int | None
    distances: Mapping[int, int] = field(default_factory=dict, hash=False)

    @property
    def memory_only(self) -> bool:
        """Whether it has no CPUs."""
        return not self.cpus

    @property
    def memoryless(self) -> bool:
        """Whether it has no memory."""
        return self.memory_bytes == 0


@dataclass(frozen=True)
class Topology:
    """The CPUs and NUMA nodes of the machine.

    Attributes:
        cpus: online logical CPUs, by number.
        nodes: online NUMA nodes, by number; empty when the kernel shows none.
    """

    cpus: tuple[Cpu, ...]
    nodes: tuple[Node, ...] = ()

    @classmethod
    def read(cls, root: Path = Path("/")) -> Topology:
        """Read ``root/sys`` (and ``root/proc/cpuinfo`` where /sys is masked)."""
        online = _online(root)
        nodes = _nodes(root, frozenset(online))
        node_of = {cpu: node.id for node in nodes for cpu in node.cpus}
        kinds = _kinds(root, online)
        cpus = tuple(_cpu(root, cpu, frozenset(online), node_of.get(cpu), kinds.get(cpu)) for cpu in online)
        return cls(cpus, nodes)

    @cached_property
    def by_id(self) -> Mapping[int, Cpu]:
        """CPU number to CPU."""
        return {cpu.id: cpu for cpu in self.cpus}

    @cached_property
    def node_by_id(self) -> Mapping[int, Node]:
        """Node number to node."""
        return {node.id: node for node in self.nodes}

    @property
    def smt(self) -> bool:
        """Whether any physical core has more than one online CPU."""
        return any(len(cpu.siblings) > 1 for cpu in self.cpus)

    def cores(self, among: Iterable[int] | None = None) -> tuple[tuple[int, ...], ...]:
        """Group CPUs by physical core, only those of ``among`` when given; each CPU is in one group.

        A CPU the topology does not know is a core of its own.
        """
        wanted = sorted(self.by_id if among is None else set(among))
        groups: dict[int, list[int]] = {}
        for cpu in wanted:
            known = self.by_id.get(cpu)
            groups.setdefault(min(known.siblings) if known else cpu, []).append(cpu)
        return tuple(tuple(group) for group in groups.values())

    def nearest_memory(self, node: int) -> Node | None:
        """The node with memory that is nearest to ``node``: itself, unless it is memoryless."""
        here = self.node_by_id.get(node)
        if here is None:
            return None
        stores = [other for other in self.nodes if not other.memoryless]
        far = 1 << 16
        return min(
            stores,
            key=lambda other: (other.id != node, here.distances.get(other.id, far), other.id),
            default=None,
        )


def _numbered(folder: Path, prefix: str) -> list[int]:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(n.removeprefix(prefix)) for n in names if re.fullmatch(rf"{prefix}\d+", n))


def _online(root: Path) -> tuple[int, ...]:
    folder = root / "sys/devices/system/cpu"
    listed = read_cpulist(folder / "online") or tuple(
        cpu for cpu in _numbered(folder, "cpu") if read_int(folder / f"cpu{cpu}" / "online") != 0
    )
    if listed:
        return listed
    # Some sandboxes hide /sys altogether but still answer for /proc/cpuinfo.
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    return tuple(sorted(int(n) for n in re.findall(r"^processor\s*:\s*(\d+)", cpuinfo, re.MULTILINE)))


def _nodes(root: Path, online: frozenset[int]) -> tuple[Node, ...]:
    folder = root / "sys/devices/system/node"
    present = _numbered(folder, "node")
    listed = read_cpulist(folder / "online")
    numbers = [n for n in present if n in listed] if listed else present
    nodes = []
    taken: set[int] = set()
    for number in numbers:
        here = folder / f"node{number}"
        row = [int(word) for word in (read_text(here / "distance") or "").split() if word.isdecimal()]
        # An emulated node (numa=fake) lists its neighbours' CPUs too: the first node that names one keeps it.
        cpus = tuple(c for c in read_cpulist(here / "cpulist") or () if c in online and c not in taken)
        taken.update(cpus)
        nodes.append(
            Node(
                id=number,
                cpus=cpus,
                memory_bytes=_memory(here / "meminfo"),
                # The row has one column for each online node, so its index is not the node's number.
                distances=dict(zip(numbers, row, strict=False)),
            )
        )
    return tuple(nodes)


def _memory(meminfo: Path) -> int | None:
    found = re.search(r"MemTotal:\s*(\d+)\s*kB", read_text(meminfo) or "")
    return int(found[1]) << 10 if found else None


def _kinds(root: Path, online: tuple[int, ...]) -> dict[int, Kind]:
    devices = root / "sys/devices"
    performance = read_cpulist(devices / "cpu_core/cpus") or ()
    # Some parts list a third sort, the low-power island, apart from the other E cores.
    efficient = [
        cpu for name in ("cpu_atom", "cpu_lowpower") for cpu in read_cpulist(devices / name / "cpus") or ()
    ]
    if performance and efficient:
        kinds: dict[int, Kind] = dict.fromkeys(performance, "P")
        return kinds | dict.fromkeys(efficient, "E")
    capacity = {cpu: read_int(devices / f"system/cpu/cpu{cpu}/cpu_capacity") for cpu in online}
    known = {cpu: value for cpu, value in capacity.items() if value}
    # Favoured cores of one kind differ by some per cent; another kind of core is slower by a third or more.
    bar = 0.75 * max(known.values(), default=0)
    if not any(value < bar for value in known.values()):
        return {}
    return {cpu: "P" if value >= bar else "E" for cpu, value in known.items()}


def _cpu(root: Path, cpu: int, online: frozenset[int], node: int | None, kind: Kind | None) -> Cpu:
    here = root / f"sys/devices/system/cpu/cpu{cpu}"
    listed = read_cpulist(here / "topology/core_cpus_list") or read_cpulist(
        here / "topology/thread_siblings_list"
    )
    package = read_int(here / "topology/physical_package_id")
    core = read_int(here / "topology/core_id")
    return Cpu(
        id=cpu,
        package=0 if package is None or package < 0 else package,
        core=cpu if core is None or core < 0 else core,
        node=node,
        siblings=tuple(sorted((set(listed or ()) & online) | {cpu})),
        kind=kind,
        caches=_caches(here / "cache", online),
    )


def _caches(folder: Path, online: frozenset[int]) -> tuple[Cache, ...]:
    caches = []
    for index in _numbered(folder, "index"):
        here = folder / f"index{index}"
        level = read_int(here / "level")
        if level is None:
            continue
        size = _SIZE.match(read_text(here / "size") or "")
        shared = read_cpulist(here / "shared_cpu_list") or ()
        caches.append(
            Cache(
                level=level,
                type=read_text(here / "type") or "Unified",
                size_bytes=int(size[1]) * _UNIT[size[2]] if size else 0,
                cpus=tuple(cpu for cpu in shared if cpu in online),
            )
        )
    return tuple(sorted(caches, key=lambda cache: (cache.level, cache.type)))
