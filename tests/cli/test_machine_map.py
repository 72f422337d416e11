"""The map says which core is whose, and fits the width it is given."""

from __future__ import annotations

from cpuserve.cli.machine_map import draw
from cpuserve.machine.budget import Budget
from cpuserve.machine.diagnosis import diagnose
from cpuserve.machine.placement import plan_seats
from cpuserve.machine.server_status import seat_to_json
from cpuserve.machine.topology import Topology
from tests.machine import trees


def drawn(tree, width=80, **wish):
    """The map of a tree with seats planned as wished, or of the machine alone."""
    report = diagnose(None, root=tree.root)
    if wish:
        made = plan_seats(Topology.read(tree.root), Budget.read(tree.root), **wish)
        report["seats"] = [seat_to_json(seat) for seat in made.seats]
    return draw(report, width)


def test_nodes_cores_siblings_and_seats(tmp_path):
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=4, smt=2)
    assert drawn(tree, workers=4) == [
        "node 0: 4 cores, CPUs 0-3,8-11, 64.0 GiB, 21 from 1",
        "  seat 0, 2 threads |  0+8  1+9",
        "  seat 1, 2 threads | 2+10 3+11",
        "node 1: 4 cores, CPUs 4-7,12-15, 64.0 GiB, 21 from 0",
        "  seat 2, 2 threads | 4+12 5+13",
        "  seat 3, 2 threads | 6+14 7+15",
        "a+b: CPUs of one core (SMT siblings)",
    ]


def test_what_is_idle_barred_or_half_a_core(tmp_path):
    lines = drawn(trees.holes(tmp_path), workers=2, cores_per_worker=2)
    assert "  seat 0, 2 threads |  2+18  3+19" in lines
    assert "  idle              |    5*" in lines
    assert any(line.startswith("  barred") and "0+16" in line and "21*" in line for line in lines)
    assert lines[-1].startswith("*: ")


def test_the_machine_alone(tmp_path):
    lines = drawn(trees.laptop(tmp_path))
    assert lines[1].startswith("  usable |   0+1   2+3")
    assert "19e" in lines[1] + lines[2]
    assert lines[-1] == "e: efficient core, slower than the others"


def test_nodes_without_cpus_or_memory_and_a_kernel_without_nodes(tmp_path):
    assert "no CPUs" in "\n".join(drawn(trees.memory_only(tmp_path / "a")))
    assert "no memory" in "\n".join(drawn(trees.memoryless(tmp_path / "b")))
    assert drawn(trees.no_nodes(tmp_path / "c"))[0].startswith("no NUMA node: ")


def test_a_large_machine_fits_the_width_with_every_core(tmp_path):
    tree = trees.eight_nodes(tmp_path)
    for width in (80, 120):
        lines = drawn(tree, width, workers=8)
        assert max(map(len, lines)) <= width
        everywhere = " ".join(lines)
        assert all(f" {core}+{core + 112}" in everywhere for core in range(112))
