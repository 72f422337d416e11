"""What the topology reader makes of odd machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpuserve.machine.files import format_cpulist, parse_cpulist
from cpuserve.machine.topology import Topology
from tests.machine import trees


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", ()),
        ("\n", ()),
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-1,8,10-11\n", (0, 1, 8, 10, 11)),
        ("5,5,4", (4, 5)),
    ],
)
def test_cpulist(text, cpus):
    assert parse_cpulist(text) == cpus
    assert parse_cpulist(format_cpulist(cpus)) == cpus


def test_format_joins_runs():
    assert format_cpulist([3, 1, 0, 2, 8, 10, 11]) == "0-3,8,10-11"
    assert format_cpulist([]) == ""


@pytest.mark.parametrize("text", ["a", "3-1", "0-", "-1", "1;2", "0x3"])
def test_cpulist_refuses(text):
    with pytest.raises(ValueError, match="not a CPU list"):
        parse_cpulist(text)


def test_two_sockets(tmp_path):
    topology = Topology.read(trees.two_sockets(tmp_path).root)
    assert [node.id for node in topology.nodes] == [0, 1]
    assert topology.nodes[1].cpus == (*range(32, 64), *range(96, 128))
    assert topology.nodes[1].distances == {0: 21, 1: 10}
    assert topology.nodes[0].memory_bytes == 65536 << 20
    cpu = topology.by_id[100]
    assert (cpu.package, cpu.node, cpu.siblings, cpu.kind) == (1, 1, (36, 100), None)
    assert [(c.level, c.type, c.size_bytes) for c in cpu.caches] == [
        (1, "Data", 48 << 10),
        (2, "Unified", 2 << 20),
        (3, "Unified", 32 << 20),
    ]
    assert cpu.last_cache is not None
    assert cpu.last_cache.cpus == topology.nodes[1].cpus
    assert topology.smt
    assert len(topology.cores()) == 64
    assert topology.cores([3, 67, 4, 200]) == ((3, 67), (4,), (200,))


def test_eight_nodes_of_two_packages(tmp_path):
    topology = Topology.read(trees.eight_nodes(tmp_path).root)
    assert len(topology.nodes) == 8
    assert {topology.by_id[cpu].package for cpu in topology.nodes[3].cpus} == {0}
    assert topology.nodes[3].distances[2] == 12
    assert topology.nodes[3].distances[4] == 21


def test_kinds_by_device_lists(tmp_path):
    topology = Topology.read(trees.laptop(tmp_path).root)
    assert [cpu.id for cpu in topology.cpus if cpu.kind == "P"] == list(range(12))
    assert [cpu.id for cpu in topology.cpus if cpu.kind == "E"] == list(range(12, 20))
    assert topology.by_id[0].siblings == (0, 1)
    assert topology.by_id[12].siblings == (12,)


def test_kinds_by_capacity(tmp_path):
    topology = Topology.read(trees.big_little(tmp_path).root)
    assert "".join(cpu.kind or "-" for cpu in topology.cpus) == "EEEEPPPP"


def test_favoured_cores_are_not_another_kind(tmp_path):
    tree = trees.one_cpu(tmp_path)
    tree.cpu(1, [1])
    for cpu, capacity in ((0, 1024), (1, 980)):
        tree.put(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", str(capacity))
    topology = Topology.read(tree.done().root)
    assert [cpu.kind for cpu in topology.cpus] == [None, None]


def test_memory_only_node_and_a_hole_in_the_numbers(tmp_path):
    topology = Topology.read(trees.memory_only(tmp_path).root)
    node = topology.node_by_id[4]
    assert node.memory_only
    assert not node.memoryless
    assert node.distances == {0: 17, 1: 27, 4: 10}


def test_memoryless_node(tmp_path):
    topology = Topology.read(trees.memoryless(tmp_path).root)
    assert topology.nodes[0].memoryless
    nearest = topology.nearest_memory(0)
    assert nearest is not None
    assert nearest.id == 2
    own = topology.nearest_memory(1)
    assert own is not None
    assert own.id == 1
    assert topology.nearest_memory(9) is None


def test_offline_cpus_are_gone_everywhere(tmp_path):
    topology = Topology.read(trees.offline(tmp_path).root)
    assert not {1, 6, 9} & set(topology.by_id)
    assert not {1, 6, 9} & set(topology.nodes[0].cpus)
    assert topology.by_id[14].siblings == (14,)
    assert topology.by_id[8].siblings == (0, 8)
    for cpu in topology.cpus:
        assert cpu.last_cache is not None
        assert 6 not in cpu.last_cache.cpus


def test_no_nodes_no_topology(tmp_path):
    topology = Topology.read(trees.no_nodes(tmp_path).root)
    assert topology.nodes == ()
    assert [(cpu.id, cpu.node, cpu.siblings, cpu.caches) for cpu in topology.cpus] == [
        (n, None, (n,), ()) for n in range(4)
    ]


def test_without_the_online_file(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=1)
    (tmp_path / "sys/devices/system/cpu/online").unlink()
    tree.put("sys/devices/system/cpu/cpu2/online", "0")
    tree.put("sys/devices/system/cpu/cpufreq/boost", "1")
    assert [cpu.id for cpu in Topology.read(tmp_path).cpus] == [0, 1, 3]


def test_without_sys(tmp_path):
    trees.Tree(tmp_path).put("proc/cpuinfo", "processor\t: 0\nflags\t: a\n\nprocessor\t: 1\nflags\t: a\n")
    assert [cpu.id for cpu in Topology.read(tmp_path).cpus] == [0, 1]


def test_empty_root(tmp_path):
    assert Topology.read(tmp_path) == Topology(())


def test_emulated_nodes_do_not_share_cpus(tmp_path):
    topology = Topology.read(trees.emulated(tmp_path).root)
    assert [node.cpus for node in topology.nodes] == [(0, 1, 2, 3), ()]


def test_captured_machine(captured: Path):
    topology = Topology.read(captured)
    assert [(node.id, node.cpus, node.memoryless) for node in topology.nodes] == [
        (0, (0, 1, 2, 3), False),
        (1, (4, 5, 6, 7), False),
        (2, (8, 9, 10, 11), False),
        (3, (12, 13, 14, 15), True),
        (4, (), False),
    ]
    nearest = topology.nearest_memory(3)
    assert nearest is not None
    assert nearest.id == 2
    assert topology.cores() == tuple((n, n + 1) for n in range(0, 16, 2))
    cache = topology.by_id[5].last_cache
    assert cache is not None
    assert (cache.level, cache.size_bytes) == (3, 16 << 20)


def test_this_machine():
    topology = Topology.read()
    assert topology.cpus
    assert all(cpu.id in cpu.siblings for cpu in topology.cpus)
