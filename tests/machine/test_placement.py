"""Seats on machines of every shape: disjoint, inside one node, inside the budget."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cpuserve.errors import PlacementError
from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import LATENCY_CORES, MAX_CORES, Seat, SeatPlan, plan_for_settings, plan_seats
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from tests.machine import trees


def planned(root: Path, *, affinity=None, **wishes) -> SeatPlan:
    return plan_seats(Topology.read(root), Budget.read(root, affinity=affinity), **wishes)


def masks(seats: SeatPlan) -> list[tuple[int, ...]]:
    return [seat.cpus for seat in seats.seats]


def threads(seats: SeatPlan) -> list[int]:
    return [seat.threads for seat in seats.seats]


def hold(topology: Topology, budget: Budget, seats: tuple[Seat, ...]) -> None:
    """What is true of every plan."""
    assert seats
    assert [seat.index for seat in seats] == list(range(len(seats)))
    every = [cpu for seat in seats for cpu in seat.cpus]
    assert len(every) == len(set(every)), "seats share a CPU"
    assert set(every) <= budget.cpus
    for seat in seats:
        assert seat.cpus == tuple(sorted(seat.cpus))
        assert {topology.by_id[cpu].node for cpu in seat.cpus} == {seat.node}
        assert 1 <= seat.threads <= len(seat.cpus)
        assert seat.memory_node in {None, seat.node}
        if seat.memory_node is not None:
            assert not topology.node_by_id[seat.memory_node].memoryless
    if budget.quota is not None:
        assert sum(seat.threads for seat in seats) <= budget.effective
    assert len(seats) <= budget.effective


@pytest.mark.parametrize("name", trees.MACHINES)
def test_every_plan_holds(tmp_path, name):
    tree = trees.MACHINES[name](tmp_path)
    topology, budget = Topology.read(tree.root), Budget.read(tree.root)
    made = refused = 0
    for logical in (False, True):
        for mode in (None, "latency", "throughput"):
            hold(topology, budget, plan_seats(topology, budget, use_logical_cores=logical, mode=mode).seats)
        for workers in (None, 1, 2, 3, 5, 8, 13, 16, 64, 129, 500):
            for cores in (None, 1, 2, 3, 4, 7, 14, 40):
                try:
                    seats = plan_seats(
                        topology,
                        budget,
                        workers=workers,
                        cores_per_worker=cores,
                        use_logical_cores=logical,
                    ).seats
                except PlacementError as error:
                    refused += 1
                    assert f"--workers {workers}" in str(error) or f"--cores-per-worker {cores}" in str(error)
                    continue
                made += 1
                hold(topology, budget, seats)
                assert workers is None or len(seats) == workers
                assert cores is None or all(len(topology.cores(seat.cpus)) == cores for seat in seats)
    assert made
    assert refused


@pytest.mark.parametrize("name", trees.MACHINES)
def test_every_quota_holds(tmp_path, name):
    topology = Topology.read(trees.MACHINES[name](tmp_path).root)
    mask = frozenset(topology.by_id)
    for quota in (0.2, 1, 1.5, 3, 6.1, 20, 63.5, 1000):
        budget = Budget(mask, quota=quota)
        for mode in (None, "latency", "throughput"):
            seats = plan_seats(topology, budget, mode=mode).seats
            hold(topology, budget, seats)
            cores = len(topology.cores(mask))
            assert mode or sum(seat.threads for seat in seats) == min(cores, math.ceil(quota))


def test_small_machine_is_one_seat(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=2, smt=1)
    assert planned(tree.root).seats == (Seat(0, 0, (0, 1), 2, 0),)


def test_default_on_two_sockets(tmp_path):
    seats = planned(trees.two_sockets(tmp_path).root)
    assert len(seats.seats) == 8
    assert threads(seats) == [8] * 8
    assert [seat.node for seat in seats.seats] == [0] * 4 + [1] * 4
    assert seats.seats[1] == Seat(1, 0, (*range(8, 16), *range(72, 80)), 8, 0)
    assert seats.notes == ()


def test_default_on_eight_nodes(tmp_path):
    seats = planned(trees.eight_nodes(tmp_path).root)
    assert [seat.node for seat in seats.seats] == sorted([*range(8)] * 2)
    assert threads(seats) == [7] * 16


def test_remainders_are_spread(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=20, smt=1)
    assert sorted(threads(planned(tree.root))) == [6, 7, 7]
    assert sorted(threads(planned(tree.root, workers=6))) == [3, 3, 3, 3, 4, 4]


def test_uneven_nodes_get_seats_by_size(tmp_path):
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=12, smt=1)
    seats = planned(tree.root, affinity=range(16), workers=4)
    assert [seat.node for seat in seats.seats] == [0, 0, 0, 1]
    assert threads(seats) == [4, 4, 4, 4]


def test_seats_keep_to_a_cache(tmp_path):
    """Two L3 caches whose CPUs alternate: a seat takes cores of one cache."""
    tree = trees.Tree(tmp_path)
    for cpu in range(16):
        tree.cpu(cpu, [cpu], core=cpu, shared={3: range(cpu % 2, 16, 2)})
    assert masks(planned(tree.done().root)) == [tuple(range(0, 16, 2)), tuple(range(1, 16, 2))]


def test_siblings_go_together_and_count_once(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=4, smt=2)
    seats = planned(tree.root, workers=2)
    assert masks(seats) == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert threads(seats) == [2, 2]
    assert threads(planned(tree.root, workers=2, use_logical_cores=True)) == [4, 4]


def test_more_workers_than_cores(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=2, smt=2)
    seats = planned(tree.root, workers=3)
    assert sorted(len(mask) for mask in masks(seats)) == [1, 1, 2]
    assert threads(seats) == [1, 1, 1]
    assert "3 workers on 2 physical cores" in seats.notes[0]


@pytest.mark.parametrize("workers", [5, 100])
def test_more_workers_than_cpus(tmp_path, workers):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=2, smt=2)
    with pytest.raises(
        PlacementError, match=rf"--workers {workers}, but .* 4 CPUs \(4 in the mask, no quota\)"
    ):
        planned(tree.root, workers=workers)


def test_more_workers_than_the_quota(tmp_path):
    tree = trees.quota(tmp_path)
    with pytest.raises(PlacementError, match=r"--workers 3, but .* 2 CPUs \(8 in the mask, quota 1.5 from"):
        planned(tree.root, workers=3)


@pytest.mark.parametrize("wish", [{"workers": 0}, {"workers": -1}, {"cores_per_worker": 0}])
def test_numbers_below_one(tmp_path, wish):
    with pytest.raises(PlacementError, match="give at least 1"):
        planned(trees.one_cpu(tmp_path).root, **wish)


def test_mask_with_holes(tmp_path):
    tree = trees.holes(tmp_path)
    seats = planned(tree.root)
    assert masks(seats) == [(2, 3, 5, 18, 19), (12, 25, 26, 28)]
    assert threads(seats) == [3, 3]
    apart = planned(tree.root, cores_per_worker=1)
    assert masks(apart) == [(2, 18), (3, 19), (5,), (12, 28), (25,), (26,)]
    assert threads(apart) == [1] * 6


def test_quota_cuts_threads_and_leaves_masks_wide(tmp_path):
    seats = planned(trees.quota(tmp_path).root)
    assert seats.seats == (Seat(0, 0, tuple(range(8)), 2, 0),)
    assert "2 threads in all on 8 CPUs" in seats.notes[0]
    assert threads(planned(tmp_path, workers=2)) == [1, 1]
    assert masks(planned(tmp_path, workers=2)) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_quota_is_shared_out(tmp_path):
    tree = trees.two_sockets(tmp_path)
    budget = Budget(frozenset(range(128)), quota=19.5)
    seats = plan_seats(Topology.read(tree.root), budget)
    assert threads(seats) == [7, 7, 6]
    assert threads(plan_seats(Topology.read(tree.root), budget, mode="throughput")) == [10, 10]
    assert threads(plan_seats(Topology.read(tree.root), budget, cores_per_worker=8)) == [7, 7, 6]


def test_quota_smaller_than_the_number_of_nodes(tmp_path):
    topology = Topology.read(trees.eight_nodes(tmp_path).root)
    seats = plan_seats(topology, Budget(frozenset(topology.by_id), quota=2))
    assert [(seat.node, seat.threads) for seat in seats.seats] == [(0, 1), (1, 1)]
    assert any("left idle" in note and "--workers" not in note for note in seats.notes)


def test_kinds_do_not_mix(tmp_path):
    tree = trees.laptop(tmp_path)
    seats = planned(tree.root)
    assert masks(seats) == [tuple(range(12)), tuple(range(12, 20))]
    assert threads(seats) == [6, 8]
    alone = planned(tree.root, workers=1)
    assert masks(alone) == [tuple(range(12))]
    assert any("12-19 are left idle" in note for note in alone.notes)


def test_small_quota_takes_the_fast_cores(tmp_path):
    topology = Topology.read(trees.laptop(tmp_path).root)
    seats = plan_seats(topology, Budget(frozenset(range(20)), quota=4))
    assert seats.seats == (Seat(0, 0, tuple(range(12)), 4, 0),)
    assert "E cores are left idle" in seats.notes[0]
    both = plan_seats(topology, Budget(frozenset(range(20)), quota=9))
    assert [seat.cpus[0] for seat in both.seats] == [0, 12]


def test_kinds_mix_when_asked_for_more_than_one_has(tmp_path):
    seats = planned(trees.laptop(tmp_path).root, cores_per_worker=10)
    assert threads(seats) == [10]
    assert any("mix P and E" in note for note in seats.notes)


def test_cores_per_worker_says_what_is_left(tmp_path):
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=8, smt=1)
    seats = planned(tree.root, cores_per_worker=3)
    assert masks(seats) == [(0, 1, 2), (3, 4, 5), (8, 9, 10), (11, 12, 13)]
    assert "CPUs 6-7,14-15 are left idle" in seats.notes[0]
    two = planned(tree.root, cores_per_worker=3, workers=2)
    assert [seat.node for seat in two.seats] == [0, 1]


def test_cores_per_worker_too_large(tmp_path):
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=8, smt=1)
    with pytest.raises(PlacementError, match="--cores-per-worker 9, but the largest node has 8"):
        planned(tree.root, cores_per_worker=9)
    with pytest.raises(PlacementError, match=r"--workers 3 with --cores-per-worker 8 needs 24 .* only 2"):
        planned(tree.root, cores_per_worker=8, workers=3)


def test_modes(tmp_path):
    tree = trees.two_sockets(tmp_path)
    latency = planned(tree.root, mode="latency")
    assert threads(latency) == [LATENCY_CORES] * 16
    throughput = planned(tree.root, mode="throughput")
    assert threads(throughput) == [32, 32]
    assert threads(planned(tree.root, mode="latency", workers=2)) == [32, 32]
    assert threads(planned(tree.root, mode="throughput", cores_per_worker=MAX_CORES)) == [8] * 8


def test_latency_on_a_node_that_is_too_small(tmp_path):
    tree = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=3, smt=1)
    assert masks(planned(tree.root, mode="latency")) == [(0, 1, 2)]


def test_chosen_nodes(tmp_path):
    tree = trees.two_sockets(tmp_path)
    seats = planned(tree.root, node_ids=[1])
    assert {seat.node for seat in seats.seats} == {1}
    assert len(seats.seats) == 4
    with pytest.raises(PlacementError, match=r"--node-id 2: .* nodes with usable CPUs: 0-1"):
        planned(tree.root, node_ids=[1, 2])
    with pytest.raises(PlacementError, match="--workers 65, but this process may use 64 CPUs"):
        planned(tree.root, node_ids=[1], workers=65)


def test_memory_only_node_gets_no_seat(tmp_path):
    tree = trees.memory_only(tmp_path)
    assert [seat.node for seat in planned(tree.root).seats] == [0, 1]
    with pytest.raises(PlacementError, match="--node-id 4"):
        planned(tree.root, node_ids=[4])


def test_memoryless_node(tmp_path):
    seats = planned(trees.memoryless(tmp_path).root)
    assert {seat.node: seat.memory_node for seat in seats.seats} == {0: None, 1: 1, 2: 2}
    assert seats.notes == ("node 0 is memoryless: its nearest memory is node 2 (distance 20)",)
    assert [seat.node for seat in planned(tmp_path, workers=2).seats] == [1, 2]


def test_memory_that_the_cpuset_forbids(tmp_path):
    tree = trees.two_sockets(tmp_path).status("0-127", mems="0")
    seats = planned(tree.root, mode="throughput")
    assert [seat.memory_node for seat in seats.seats] == [0, None]
    assert seats.notes == ("node 1: its memory is not allowed here (cpuset mems: 0)",)


def test_no_nodes(tmp_path):
    seats = planned(trees.no_nodes(tmp_path).root)
    assert seats.seats == (Seat(0, None, (0, 1, 2, 3), 4, None),)
    assert "no NUMA nodes" in seats.notes[0]


def test_one_cpu(tmp_path):
    assert planned(trees.one_cpu(tmp_path).root).seats == (Seat(0, 0, (0,), 1, 0),)


def test_nothing_usable(tmp_path):
    with pytest.raises(PlacementError, match="affinity mask of this process is empty"):
        planned(trees.Tree(tmp_path).root)


def test_captured_machine(captured: Path):
    seats = planned(captured)
    assert masks(seats) == [tuple(range(n, n + 4)) for n in (0, 4, 8, 12)]
    assert threads(seats) == [2, 2, 2, 2]
    assert [seat.memory_node for seat in seats.seats] == [0, 1, 2, None]


@pytest.fixture
def chosen(tmp_path):
    """CPUs and threads of each seat, on two nodes of two cores of two CPUs: 0-1,4-5 and 2-3,6-7."""
    root = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=2, smt=2).root

    def shown(quota=None, **settings):
        budget = Budget(frozenset(range(8)), quota)
        made = plan_for_settings(Topology.read(root), budget, Settings(**settings))
        return [(seat.cpus, seat.threads) for seat in made.seats]

    return shown


def test_a_small_machine_has_a_seat_a_core(chosen):
    assert chosen() == [((0, 4), 1), ((1, 5), 1), ((2, 6), 1), ((3, 7), 1)]
    assert chosen(use_logical_core=True)[0] == ((0, 4), 2)
    assert chosen(node_id=(1,)) == [((2, 6), 1), ((3, 7), 1)]
    assert len(chosen(quota=1.5)) == 2


def test_whoever_says_how_is_obeyed(chosen):
    assert chosen(mode="throughput") == [((0, 1, 4, 5), 2), ((2, 3, 6, 7), 2)]
    assert chosen(mode="latency", node_id=(0,)) == [((0, 1, 4, 5), 2)]
    assert chosen(workers=1, node_id=(1,)) == [((2, 3, 6, 7), 2)]
    assert chosen(cores_per_worker=2) == chosen(mode="throughput")


def test_a_node_that_is_not_there_is_named(chosen):
    with pytest.raises(PlacementError, match="--node-id 7: no CPU there"):
        chosen(node_id=(7,))
    with pytest.raises(PlacementError, match="--node-id 7"):
        chosen(node_id=(0, 7))


def test_a_larger_machine_has_as_few_seats_as_possible(tmp_path):
    root = trees.grid(tmp_path, sockets=1, nodes_each=1, cores=6, smt=1).root
    assert len(plan_for_settings(Topology.read(root), Budget(frozenset(range(6))), Settings()).seats) == 1
