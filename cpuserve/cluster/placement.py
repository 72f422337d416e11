"""Which servers a cluster should have, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cpuserve.cluster.server_keeper import KeptServer
from cpuserve.machine.budget import Budget
from cpuserve.machine.topology import Topology

__all__ = ["ClusterServers", "ServerPlace", "ServerPlacement", "as_json", "numa_nodes_here"]


@dataclass(frozen=True)
class ServerPlace:
    """Where a server runs.

    Attributes:
        node_id: Ray's name of the node.
        address: of the node.
        numa_node: a NUMA node there; None where it has one.
        place: of it among those of the node.
    """

    node_id: str
    address: str
    numa_node: int | None
    place: int


class ServerPlacement(Protocol):
    """Starts servers on nodes and asks them how they are."""

    def nodes(self) -> Mapping[str, str]:
        """The address of each node that is alive, by its name."""

    def numa_nodes(self, node_id: str) -> Sequence[int | None]:
        """The NUMA nodes that servers may use on a node; empty where it does not answer."""

    def ensure(self, where: ServerPlace) -> Any:
        """The server of a place, started where there is none; its handle."""

    def ask(self, server: Any) -> KeptServer | None:
        """What a server says of itself; None where it does not answer."""

    def forget(self, server: Any) -> None:
        """Give up a server whose node is gone."""


class ClusterServers:
    """The servers of a cluster, brought to what it should have by each `reconcile`.

    Args:
        placement: starts them.
    """

    def __init__(self, placement: ServerPlacement) -> None:
        self._placement = placement
        self._numa_nodes: dict[str, Sequence[int | None]] = {}
        self._servers: dict[ServerPlace, Any] = {}
        self._rows: list[dict[str, Any]] = []

    def reconcile(self) -> None:
        """Start what is missing, give up what is on no node any more, and ask all how they are."""
        nodes = self._placement.nodes()
        for where in [one for one in self._servers if one.node_id not in nodes]:
            self._placement.forget(self._servers.pop(where))
        for node_id in nodes:
            if not self._numa_nodes.get(node_id):
                self._numa_nodes[node_id] = self._placement.numa_nodes(node_id)
        wanted = [
            ServerPlace(node_id, address, numa_node, place)
            for node_id, address in nodes.items()
            for place, numa_node in enumerate(self._numa_nodes[node_id])
        ]
        for where in wanted:
            self._servers[where] = self._placement.ensure(where)
        told = [(where, self._placement.ask(self._servers[where])) for where in wanted]
        self._rows = [as_json(where, found) for where, found in told]

    def rows(self) -> list[dict[str, Any]]:
        """The servers as of the last look, in the form of ``cluster status --json``."""
        return self._rows


def as_json(where: ServerPlace, found: KeptServer | None) -> dict[str, Any]:
    """A server in the list of endpoints."""
    said = found or KeptServer(where.numa_node, reason="its keeper does not answer")
    return {
        "node": where.address,
        "node_id": where.node_id,
        "numa_node": where.numa_node,
        "url": said.url or None,
        "ready": said.ready,
        "model": list(said.models),
        "restarts": said.restarts,
        "pid": said.pid,
        "reason": said.reason,
    }


def numa_nodes_here() -> list[int | None]:
    """The NUMA nodes with CPUs that this process may use; one None where the machine has no others."""
    allowed, topology = Budget.read().cpus, Topology.read()
    found = sorted(
        {cpu.node for number, cpu in topology.by_id.items() if number in allowed and cpu.node is not None}
    )
    return [*found] if len(topology.nodes) > 1 and found else [None]
