"""Which seats the settings ask for on this machine; it moves nobody into them."""

from __future__ import annotations

from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import Plan, plan
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings

__all__ = ["planned"]

_SMALL_MACHINE_CORES = 4


def planned(topology: Topology, budget: Budget, settings: Settings) -> Plan:
    """The seats that the settings ask for.

    Unless they say: on a small machine a seat a core, which was measured to be fastest there
    (docs/results/worker-shape.json); on a larger one, where a copy of the model a core costs more than it
    brings, as few seats as possible.

    Raises:
        PlacementError: they do not fit what this process may use.
    """
    workers, nodes = settings.workers, settings.node_id
    if workers is None and settings.cores_per_worker is None and settings.mode is None:
        there = {cpu.id for cpu in topology.cpus if nodes is None or cpu.node in nodes}
        usable = budget.cpus & there if nodes else budget.cpus
        cores = min(budget.threads_over(len(usable)), len(topology.cores(usable)))
        workers = cores if 0 < cores <= _SMALL_MACHINE_CORES else None
    return plan(
        topology,
        budget,
        workers=workers,
        cores_per_worker=settings.cores_per_worker,
        use_logical_cores=settings.use_logical_core,
        node_ids=nodes,
        mode=settings.mode,
    )
