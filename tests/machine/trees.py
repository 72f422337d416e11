"""Writes small /sys and /proc trees of machines nobody here owns, laid out as the kernel documents them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cpuserve.machine.files import format_cpulist

MIB = 1 << 20


class Tree:
    """One machine below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cpus: list[int] = []
        self.nodes: list[int] = []
        root.mkdir(parents=True, exist_ok=True)

    def put(self, path: str, text: str) -> Tree:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return self

    def cpu(
        self,
        cpu: int,
        siblings: Iterable[int],
        *,
        package: int = 0,
        core: int = 0,
        shared: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """One CPU; ``shared`` is cache level to the CPUs that share it."""
        here = f"sys/devices/system/cpu/cpu{cpu}"
        self.put(f"{here}/topology/physical_package_id", str(package))
        self.put(f"{here}/topology/core_id", str(core))
        self.put(f"{here}/topology/thread_siblings_list", format_cpulist(siblings))
        sizes = {1: "48K", 2: "2048K", 3: "32768K"}
        for index, (level, users) in enumerate((shared or {}).items()):
            self.put(f"{here}/cache/index{index}/level", str(level))
            self.put(f"{here}/cache/index{index}/type", "Data" if level == 1 else "Unified")
            self.put(f"{here}/cache/index{index}/size", sizes[level])
            self.put(f"{here}/cache/index{index}/shared_cpu_list", format_cpulist(users))
        self.cpus.append(cpu)

    def node(self, node: int, cpus: Iterable[int], mebibytes: int, distances: Sequence[int]) -> None:
        here = f"sys/devices/system/node/node{node}"
        self.put(f"{here}/cpulist", format_cpulist(cpus))
        self.put(f"{here}/distance", " ".join(map(str, distances)))
        self.put(
            f"{here}/meminfo", f"Node {node} MemTotal:  {mebibytes * 1024} kB\nNode {node} MemFree: 0 kB"
        )
        self.nodes.append(node)

    def done(self, online: Iterable[int] | None = None) -> Tree:
        self.put("sys/devices/system/cpu/online", format_cpulist(self.cpus if online is None else online))
        if self.nodes:
            self.put("sys/devices/system/node/online", format_cpulist(self.nodes))
        return self

    def status(self, allowed: str, mems: str = "0") -> Tree:
        text = f"Name:\tworker\nCpus_allowed_list:\t{allowed}\nMems_allowed_list:\t{mems}"
        return self.put("proc/self/status", text)

    def v2(self, path: str, mount_root: str = "/") -> Tree:
        """The process is in ``path`` of the one v2 hierarchy."""
        self.put("proc/self/cgroup", f"0::{path}")
        mount = f"38 33 0:33 {mount_root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
        return self.put("proc/self/mountinfo", "29 1 0:24 / / rw,relatime - overlay overlay rw\n" + mount)

    def v1(self, path: str, mount_root: str = "/") -> Tree:
        """The process is in ``path`` of the v1 cpu and memory hierarchies, with an idle v2 beside them."""
        self.put("proc/self/cgroup", f"4:memory:{path}\n3:cpuset:/\n2:cpu,cpuacct:{path}\n0::/")
        lines = [
            f"32 31 0:29 {mount_root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct",
            f"35 31 0:32 {mount_root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
            "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        ]
        (self.root / "sys/fs/cgroup/unified").mkdir(parents=True)
        return self.put("proc/self/mountinfo", "\n".join(lines))


def grid(root: Path, *, sockets: int, nodes_each: int, cores: int, smt: int, mebibytes: int = 65536) -> Tree:
    """A server: ``cores`` a node, siblings numbered after all first threads, as x86 firmware does."""
    tree = Tree(root)
    nodes = sockets * nodes_each
    total = nodes * cores

    def members(node: int) -> list[int]:
        return [t * total + node * cores + c for t in range(smt) for c in range(cores)]

    for thread in range(smt):
        for core in range(total):
            cpu, node = thread * total + core, core // cores
            siblings = [t * total + core for t in range(smt)]
            package = node // nodes_each
            tree.cpu(
                cpu,
                siblings,
                package=package,
                core=core % (cores * nodes_each),
                shared={1: siblings, 2: siblings, 3: members(node)},
            )
    for node in range(nodes):
        same = [
            10 if n == node else 12 if n // nodes_each == node // nodes_each else 21 for n in range(nodes)
        ]
        tree.node(node, members(node), mebibytes, same)
    return tree.done()


def two_sockets(root: Path) -> Tree:
    """2 sockets, one node each, 32 cores, SMT 2."""
    return grid(root, sockets=2, nodes_each=1, cores=32, smt=2)


def eight_nodes(root: Path) -> Tree:
    """2 sockets cut into 4 sub-NUMA clusters each, 14 cores a cluster, SMT 2."""
    return grid(root, sockets=2, nodes_each=4, cores=14, smt=2)


def laptop(root: Path) -> Tree:
    """One node, 6 P cores with SMT (CPUs 0-11), 8 E cores without (12-19) in two L2 clusters."""
    tree = Tree(root)
    everything = range(20)
    for cpu in everything:
        if cpu < 12:
            pair = [cpu - cpu % 2, cpu - cpu % 2 + 1]
            tree.cpu(cpu, pair, core=cpu // 2 * 4, shared={1: pair, 2: pair, 3: everything})
        else:
            cluster = range(12, 16) if cpu < 16 else range(16, 20)
            tree.cpu(cpu, [cpu], core=cpu + 12, shared={1: [cpu], 2: cluster, 3: everything})
    tree.node(0, everything, 16384, [10])
    tree.put("sys/devices/cpu_core/cpus", "0-11").put("sys/devices/cpu_atom/cpus", "12-19")
    return tree.done()


def holes(root: Path) -> Tree:
    """2 sockets of 8 cores with SMT, of which a cpuset leaves one sibling here, a whole core there."""
    tree = grid(root, sockets=2, nodes_each=1, cores=8, smt=2)
    # Node 0: cores 2 (both), 3 (both), 5 (one); node 1: cores 9, 10 (second sibling only), 12 (both).
    return tree.status("2-3,5,12,18-19,25-26,28", "0-1")


def quota(root: Path) -> Tree:
    """A container on 8 CPUs with 1.5 CPUs of time and 2 GiB, v2, its own group mounted as the top."""
    tree = grid(root, sockets=1, nodes_each=1, cores=8, smt=1).status("0-7").v2("/")
    tree.put("sys/fs/cgroup/cpu.max", "150000 100000").put("sys/fs/cgroup/memory.max", str(2048 * MIB))
    return tree.put(
        "sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_periods 315\nnr_throttled 176\nthrottled_usec 81234"
    )


def parent_quota(root: Path) -> Tree:
    """v2: the group has 6 CPUs of time, its parent 3, the one above none."""
    tree = grid(root, sockets=1, nodes_each=1, cores=16, smt=2).status("0-31").v2("/pods/pod7/main")
    top = "sys/fs/cgroup/pods"
    tree.put(f"{top}/pod7/main/cpu.max", "600000 100000").put(f"{top}/pod7/main/memory.max", "max")
    tree.put(f"{top}/pod7/cpu.max", "150000 50000").put(f"{top}/pod7/memory.max", str(512 * MIB))
    tree.put(f"{top}/pod7/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_usec 900")
    return tree.put(f"{top}/cpu.max", "max 100000")


def parent_quota_v1(root: Path) -> Tree:
    """v1: the group has no quota, its parent 2.5 CPUs of time; memory the other way round."""
    tree = grid(root, sockets=1, nodes_each=1, cores=8, smt=1).status("0-7").v1("/kubepods/pod7")
    cpu, memory = "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/memory"
    tree.put(f"{cpu}/cpu.cfs_quota_us", "-1").put(f"{cpu}/cpu.cfs_period_us", "100000")
    tree.put(f"{cpu}/kubepods/cpu.cfs_quota_us", "250000").put(f"{cpu}/kubepods/cpu.cfs_period_us", "100000")
    tree.put(f"{cpu}/kubepods/cpu.stat", "nr_periods 20\nnr_throttled 7\nthrottled_time 5000000")
    tree.put(f"{cpu}/kubepods/pod7/cpu.cfs_quota_us", "-1")
    tree.put(f"{memory}/memory.limit_in_bytes", "9223372036854771712")
    return tree.put(f"{memory}/kubepods/pod7/memory.limit_in_bytes", str(1024 * MIB))


def memory_only(root: Path) -> Tree:
    """Two nodes with 4 CPUs, and node 4 (numbers have a hole) with memory and no CPU."""
    tree = Tree(root)
    for cpu in range(8):
        tree.cpu(cpu, [cpu], package=cpu // 4, core=cpu % 4)
    tree.node(0, range(4), 4096, [10, 20, 17])
    tree.node(1, range(4, 8), 4096, [20, 10, 27])
    tree.node(4, [], 32768, [17, 27, 10])
    return tree.done()


def memoryless(root: Path) -> Tree:
    """Three nodes with 4 CPUs; node 0 has no memory and is nearest to node 2."""
    tree = Tree(root)
    for cpu in range(12):
        tree.cpu(cpu, [cpu], package=cpu // 4, core=cpu % 4)
    tree.node(0, range(4), 0, [10, 30, 20])
    tree.node(1, range(4, 8), 8192, [30, 10, 30])
    tree.node(2, range(8, 12), 8192, [20, 30, 10])
    return tree.done()


def one_cpu(root: Path) -> Tree:
    """The smallest virtual machine."""
    return grid(root, sockets=1, nodes_each=1, cores=1, smt=1, mebibytes=512)


def no_nodes(root: Path) -> Tree:
    """A kernel without NUMA and without topology: the list of CPUs is all there is."""
    return Tree(root).put("sys/devices/system/cpu/online", "0-3")


def offline(root: Path) -> Tree:
    """8 cores with SMT of which CPUs 1, 6 and 9 are offline, so that numbers have holes."""
    tree = grid(root, sockets=1, nodes_each=1, cores=8, smt=2).status("0-255")
    return tree.done(online=set(range(16)) - {1, 6, 9})


def big_little(root: Path) -> Tree:
    """An ARM part: 1 prime and 3 big CPUs, 4 small ones, known by capacity alone."""
    tree = Tree(root)
    for cpu in range(8):
        tree.cpu(cpu, [cpu], core=cpu)
        capacity = 1024 if cpu == 7 else 905 if cpu >= 4 else 325
        tree.put(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", str(capacity))
    return tree.done()


def emulated(root: Path) -> Tree:
    """One socket booted with numa=fake=2: both nodes list all CPUs."""
    tree = Tree(root)
    for cpu in range(4):
        tree.cpu(cpu, [cpu], core=cpu)
    tree.node(0, range(4), 2048, [10, 10])
    tree.node(1, range(4), 2048, [10, 10])
    return tree.done()


MACHINES: dict[str, Callable[[Path], Tree]] = {
    build.__name__: build
    for build in (
        two_sockets,
        eight_nodes,
        laptop,
        holes,
        quota,
        parent_quota,
        parent_quota_v1,
        memory_only,
        memoryless,
        one_cpu,
        no_nodes,
        offline,
        big_little,
        emulated,
    )
}
