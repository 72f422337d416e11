"""What the settings ask for becomes seats: the rule for small machines, nodes, modes, logical cores."""

from __future__ import annotations

import pytest

from cpuserve.errors import PlacementError
from cpuserve.machine.budget import Budget
from cpuserve.machine.seats import planned
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from tests.machine import trees


@pytest.fixture
def seats(tmp_path):
    """CPUs and threads of each seat, on two nodes of two cores of two CPUs: 0-1,4-5 and 2-3,6-7."""
    root = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=2, smt=2).root

    def shown(quota=None, **settings):
        budget = Budget(frozenset(range(8)), quota)
        made = planned(Topology.read(root), budget, Settings(**settings))
        return [(seat.cpus, seat.threads) for seat in made.seats]

    return shown


def test_a_small_machine_has_a_seat_a_core(seats):
    assert seats() == [((0, 4), 1), ((1, 5), 1), ((2, 6), 1), ((3, 7), 1)]
    assert seats(use_logical_core=True)[0] == ((0, 4), 2)
    assert seats(node_id=(1,)) == [((2, 6), 1), ((3, 7), 1)]
    assert len(seats(quota=1.5)) == 2


def test_whoever_says_how_is_obeyed(seats):
    assert seats(mode="throughput") == [((0, 1, 4, 5), 2), ((2, 3, 6, 7), 2)]
    assert seats(mode="latency", node_id=(0,)) == [((0, 1, 4, 5), 2)]
    assert seats(workers=1, node_id=(1,)) == [((2, 3, 6, 7), 2)]
    assert seats(cores_per_worker=2) == seats(mode="throughput")


def test_a_node_that_is_not_there_is_named(seats):
    with pytest.raises(PlacementError, match="--node-id 7: no CPU there"):
        seats(node_id=(7,))
    with pytest.raises(PlacementError, match="--node-id 7"):
        seats(node_id=(0, 7))


def test_a_larger_machine_has_as_few_seats_as_possible(tmp_path):
    root = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=6, smt=1).root
    assert len(planned(Topology.read(root), Budget(frozenset(range(6))), Settings()).seats) == 1
