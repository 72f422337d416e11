"""Plans the seats: the CPUs and the NUMA node of each worker. A seat is that set of CPUs and its node."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from cpuserve.errors import PlacementError
from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.topology import Kind, Topology
from cpuserve.settings import Settings

__all__ = ["LATENCY_CORES", "MAX_CORES", "Mode", "Seat", "SeatPlan", "plan_for_settings", "plan_seats"]

Mode = Literal["latency", "throughput"]

MAX_CORES = 8
"""Most physical cores of a seat, unless tuning has measured better."""

LATENCY_CORES = 4
"""Physical cores a seat gets in latency mode."""

_SMALL_MACHINE_CORES = 4


@dataclass(frozen=True)
class Seat:
    """The CPUs and NUMA node of one worker.

    Attributes:
        index: the seat's number, 0 first; a replacement worker takes the same one.
        node: the NUMA node of all its CPUs, or None when the kernel shows no nodes.
        cpus: the logical CPUs of its mask; no other seat has them.
        threads: its compute threads, which share the quota; at most ``len(cpus)``.
        memory_node: the node to prefer for its memory, or None.
    """

    index: int
    node: int | None
    cpus: tuple[int, ...]
    threads: int
    memory_node: int | None


@dataclass(frozen=True)
class SeatPlan:
    """All seats, with notes on them.

    Attributes:
        seats: by index.
        notes: one sentence each on what is idle, mixed or shared, and how to change it.
    """

    seats: tuple[Seat, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pool:
    """Cores that may share a seat: of one node and one kind, those under one cache beside each other."""

    node: int | None
    kind: Kind | None
    cores: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Wish:
    workers: int | None
    cores: int | None
    logical: bool
    mode: Mode | None


def plan_seats(
    topology: Topology,
    budget: Budget,
    *,
    workers: int | None = None,
    cores_per_worker: int | None = None,
    use_logical_cores: bool = False,
    node_ids: Collection[int] | None = None,
    mode: Mode | None = None,
) -> SeatPlan:
    """Divide the budget into seats.

    Seats never share a CPU and never span NUMA nodes. They share a physical core only when there are more
    workers than cores. A quota smaller than the mask reduces the number of threads, not of CPUs, so that the
    scheduler can avoid CPUs that others keep busy.

    Args:
        topology: the machine.
        budget: what this process may use of it.
        workers: how many seats; None is as few as possible with at most ``MAX_CORES`` cores a seat.
        cores_per_worker: physical cores a seat, exactly; None spreads the cores evenly.
        use_logical_cores: count a thread for each logical CPU in place of each physical core.
        node_ids: use only these nodes.
        mode: ``latency`` is ``LATENCY_CORES`` cores a seat, ``throughput`` one seat a node;
            ``workers`` and ``cores_per_worker`` win over it.

    Raises:
        PlacementError: the seats do not fit; the text names both numbers and the option to change.
    """
    for option, value in (("--workers", workers), ("--cores-per-worker", cores_per_worker)):
        if value is not None and value < 1:
            raise PlacementError(f"{option} {value}: give at least 1, or leave it out")
    notes: list[str] = []
    pools = _pools(topology, _chosen(topology, budget, node_ids))
    usable = sum(_threads(pool.cores, logical=True) for pool in pools)
    effective = budget.threads_over(usable)
    if workers is not None and workers > effective:
        raise PlacementError(
            f"--workers {workers}, but this process may use {effective} CPUs ({_why(budget, usable)}): "
            f"give --workers {effective} or less, or widen the limit"
        )
    wish = _Wish(workers, cores_per_worker, use_logical_cores, None if workers or cores_per_worker else mode)
    pools = _fastest(pools, cores_per_worker or 1, effective, notes)
    cut = _exact if wish.cores or wish.mode == "latency" else _even
    masks = cut(pools, wish, effective, notes)
    threads = _thread_counts(topology, budget, masks, logical=use_logical_cores, effective=effective)
    seats = tuple(
        Seat(
            index=index,
            node=node,
            cpus=tuple(sorted(cpu for core in cores for cpu in core)),
            threads=threads[index],
            memory_node=_memory_node(topology, budget, node, notes),
        )
        for index, (node, cores) in enumerate(masks)
    )
    if not topology.nodes:
        notes.append("the kernel shows no NUMA nodes: seats are chosen by CPU number alone")
    masked = sum(len(seat.cpus) for seat in seats)
    if effective < min(usable, masked):
        notes.append(
            f"the quota ({_why(budget, usable)}) allows {effective} threads in all on {masked} CPUs: "
            "do not pin single threads, other programs under a quota may run on the same CPUs"
        )
    return SeatPlan(seats, tuple(notes))


def plan_for_settings(topology: Topology, budget: Budget, settings: Settings) -> SeatPlan:
    """Plan the seats that the settings ask for.

    By default a machine of up to 4 cores has one seat a core, which is fastest there
    (docs/results/worker-shape.json). A larger one has as few seats as possible, since every worker has its
    own copy of the models.

    Raises:
        PlacementError: they do not fit what this process may use.
    """
    workers, nodes = settings.workers, settings.node_id
    if workers is None and settings.cores_per_worker is None and settings.mode is None:
        there = {cpu.id for cpu in topology.cpus if nodes is None or cpu.node in nodes}
        usable = budget.cpus & there if nodes else budget.cpus
        cores = min(budget.threads_over(len(usable)), len(topology.cores(usable)))
        workers = cores if 0 < cores <= _SMALL_MACHINE_CORES else None
    return plan_seats(
        topology,
        budget,
        workers=workers,
        cores_per_worker=settings.cores_per_worker,
        use_logical_cores=settings.use_logical_core,
        node_ids=nodes,
        mode=settings.mode,
    )


_Mask = tuple[int | None, tuple[tuple[int, ...], ...]]
"""A node and the cores of one seat."""


def _chosen(topology: Topology, budget: Budget, node_ids: Collection[int] | None) -> frozenset[int]:
    if not budget.cpus:
        raise PlacementError("no CPU may be used: the affinity mask of this process is empty")
    if node_ids is None:
        return budget.cpus
    node_of = {cpu: topology.by_id[cpu].node for cpu in budget.cpus if cpu in topology.by_id}
    have = sorted({node for node in node_of.values() if node is not None})
    missing = sorted(set(node_ids) - set(have))
    if missing or not node_ids:
        raise PlacementError(
            f"--node-id {format_cpulist(missing)}: no CPU there that this process may use; "
            f"nodes with usable CPUs: {format_cpulist(have) or 'none'}"
        )
    return frozenset(cpu for cpu, node in node_of.items() if node in set(node_ids))


def _pools(topology: Topology, cpus: Collection[int]) -> list[_Pool]:
    groups: dict[tuple[int, int, Kind | None], list[tuple[int, tuple[int, ...]]]] = {}
    for core in topology.cores(cpus):
        cpu = topology.by_id.get(core[0])
        node = -1 if cpu is None or cpu.node is None else cpu.node
        kind = cpu.kind if cpu else None
        shared = cpu.last_cache.cpus if cpu and cpu.last_cache else ()
        key = (node, 1 if kind == "E" else 0, kind)
        groups.setdefault(key, []).append((min(shared, default=-1), core))
    return [
        _Pool(None if node < 0 else node, kind, tuple(core for _, core in sorted(groups[node, rank, kind])))
        for node, rank, kind in sorted(groups, key=lambda key: (_memoryless(topology, key[0]), *key[:2]))
    ]


def _memoryless(topology: Topology, node: int) -> bool:
    # Such nodes come last, so that they are left idle first.
    return node in topology.node_by_id and topology.node_by_id[node].memoryless


def _fastest(pools: list[_Pool], size: int, effective: int, notes: list[str]) -> list[_Pool]:
    """Leave the E cores alone when the P cores alone can use up the budget in seats of ``size`` cores."""
    fast = [pool for pool in pools if pool.kind != "E"]
    room = sum(len(pool.cores) // size * size for pool in fast)
    if len(fast) == len(pools) or room < effective:
        return pools
    notes.append(f"the quota of {effective} CPUs fits on the P cores: the E cores are left idle")
    return fast


def _even(pools: list[_Pool], wish: _Wish, effective: int, notes: list[str]) -> list[_Mask]:
    """Spread all cores over the seats, so that seats of one pool differ by one core at most."""
    physical = sum(len(pool.cores) for pool in pools)
    if wish.workers is not None:
        count = wish.workers
    elif wish.mode == "throughput":
        count = len(pools)
    elif effective < physical:
        count = max(len(pools), math.ceil(effective / MAX_CORES))
    else:
        count = sum(math.ceil(len(pool.cores) / MAX_CORES) for pool in pools)
    if wish.workers is None:
        count = min(count, effective)
    if count > physical:
        notes.append(
            f"{count} workers on {physical} physical cores: some share a core with a neighbour's worker; "
            f"--workers {physical} gives each a core of its own"
        )
        pools = [_Pool(pool.node, pool.kind, _split(pool.cores)) for pool in pools]
    shares = _share_out(pools, count)
    idle = [pool for pool, seats in zip(pools, shares, strict=True) if not seats]
    if idle:
        cpus = [cpu for pool in idle for core in pool.cores for cpu in core]
        more = f"; --workers {len(pools)} uses all" if len(pools) <= effective else ""
        notes.append(
            f"CPUs {format_cpulist(cpus)} are left idle: a seat spans neither nodes nor kinds of core, "
            f"and {count} seats do not reach all {len(pools)} groups{more}"
        )
    masks: list[_Mask] = []
    for pool, seats in zip(pools, shares, strict=True):
        masks += [(pool.node, cores) for cores in _slices(pool.cores, seats)]
    return masks


def _exact(pools: list[_Pool], wish: _Wish, effective: int, notes: list[str]) -> list[_Mask]:
    """Cut seats of exactly so many cores, and say which cores are left over."""
    size = wish.cores or LATENCY_CORES
    if wish.cores and not any(len(pool.cores) >= size for pool in pools):
        pools = _mixed(pools, size, notes)
    masks: list[_Mask] = []
    for pool in pools:
        # A mode is a wish: a node too small for it gets one seat. A number is an order.
        step = size if wish.cores else min(size, len(pool.cores))
        starts = range(0, len(pool.cores) - step + 1, step)
        masks += [(pool.node, pool.cores[start : start + step]) for start in starts]
    if wish.workers is not None and wish.workers > len(masks):
        raise PlacementError(
            f"--workers {wish.workers} with --cores-per-worker {size} needs {wish.workers * size} physical "
            f"cores, but only {len(masks)} such seats fit into the {sum(len(p.cores) for p in pools)} usable "
            "ones (a seat never spans nodes): lower one of the two"
        )
    count = wish.workers or _enough(masks, wish, effective)
    chosen = _by_turns(masks, count)
    taken = {cpu for _, cores in chosen for core in cores for cpu in core}
    idle = {cpu for pool in pools for core in pool.cores for cpu in core} - taken
    if idle:
        notes.append(f"CPUs {format_cpulist(idle)} are left idle: {count} seats of {size} cores")
    return chosen


def _enough(masks: list[_Mask], wish: _Wish, effective: int) -> int:
    """How many of the masks, the largest at that, it takes to use up the budget."""
    largest = max(_threads(cores, logical=wish.logical) for _, cores in masks)
    return min(len(masks), math.ceil(effective / largest))


def _mixed(pools: list[_Pool], size: int, notes: list[str]) -> list[_Pool]:
    nodes: dict[int | None, tuple[tuple[int, ...], ...]] = {}
    for pool in pools:
        nodes[pool.node] = nodes.get(pool.node, ()) + pool.cores
    largest = max(len(cores) for cores in nodes.values())
    if largest < size:
        raise PlacementError(
            f"--cores-per-worker {size}, but the largest node has {largest} usable physical cores "
            f"(a seat never spans nodes): give --cores-per-worker {largest} or less"
        )
    notes.append(f"seats of {size} cores mix P and E cores: the slower ones hold up the others")
    return [_Pool(node, None, cores) for node, cores in nodes.items()]


def _by_turns(masks: list[_Mask], count: int) -> list[_Mask]:
    """Take ``count`` masks, one a node in turn, and keep their order."""
    turn: dict[int | None, int] = {}
    ranked = []
    for position, (node, _) in enumerate(masks):
        ranked.append((turn.setdefault(node, 0), position))
        turn[node] += 1
    return [masks[position] for position in sorted(position for _, position in sorted(ranked)[:count])]


def _share_out(pools: list[_Pool], count: int) -> list[int]:
    """How many seats each pool gets: one each, largest first, then where the seats are largest."""
    shares = [0] * len(pools)
    for _ in range(count):
        open_pools = [i for i, pool in enumerate(pools) if shares[i] < len(pool.cores)]
        best = min(open_pools, key=lambda i: (*_need(pools[i], shares[i]), i))
        shares[best] += 1
    return shares


def _need(pool: _Pool, seats: int) -> tuple[int, float]:
    size = len(pool.cores)
    if seats:
        return (1, -size / seats)
    # Half a P core is about what an E core does.
    return (0, -size / 2 if pool.kind == "E" else -size)


def _split(cores: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((cpu,) for core in cores for cpu in core)


def _slices(cores: Sequence[tuple[int, ...]], seats: int) -> list[tuple[tuple[int, ...], ...]]:
    ends = [len(cores) * (seat + 1) // seats for seat in range(seats)]
    return [tuple(cores[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _threads(cores: Collection[tuple[int, ...]], *, logical: bool) -> int:
    return sum(len(core) for core in cores) if logical else len(cores)


def _thread_counts(
    topology: Topology, budget: Budget, masks: list[_Mask], *, logical: bool, effective: int
) -> list[int]:
    # Cores split between workers arrive as one-CPU cores: siblings inside one seat count once again.
    wholes = [topology.cores(cpu for core in cores for cpu in core) for _, cores in masks]
    most = [_threads(cores, logical=logical) for cores in wholes]
    return _pour(most, sum(most) if budget.quota is None else effective)


def _pour(most: list[int], total: int) -> list[int]:
    """Give each seat one thread, then the rest one by one to the seat that has least and can take more."""
    threads = [1] * len(most)
    for _ in range(min(total, sum(most)) - len(most)):
        open_seats = [seat for seat in range(len(most)) if threads[seat] < most[seat]]
        threads[min(open_seats, key=lambda seat: (threads[seat], seat))] += 1
    return threads


def _memory_node(topology: Topology, budget: Budget, node: int | None, notes: list[str]) -> int | None:
    if node is None:
        return None
    nearest = topology.nearest_memory(node)
    if nearest is not None and nearest.id == node and (budget.mems is None or node in budget.mems):
        return node
    if nearest is not None and nearest.id == node:
        allowed = format_cpulist(budget.mems or ())
        note = f"node {node}: its memory is not allowed here (cpuset mems: {allowed})"
    elif nearest is None:
        note = f"node {node} is memoryless, and so is every other node in sight"
    else:
        distance = topology.node_by_id[node].distances.get(nearest.id, "unknown")
        note = f"node {node} is memoryless: its nearest memory is node {nearest.id} (distance {distance})"
    if note not in notes:
        notes.append(note)
    return None


def _why(budget: Budget, usable: int) -> str:
    if budget.quota is None:
        return f"{usable} in the mask, no quota"
    source = f" from {budget.quota_source}" if budget.quota_source else ""
    return f"{usable} in the mask, quota {budget.quota:g}{source}"
