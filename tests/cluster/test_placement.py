"""Each NUMA node of each node has a server, whatever comes and goes."""

from __future__ import annotations

import pytest

from cpuserve.cluster.placement import ClusterServers, numa_nodes_here
from cpuserve.cluster.server_keeper import KeptServer


class FakePlacement:
    """Nodes that a test adds and removes.

    Attributes:
        machines: the NUMA nodes of each node.
        silent: nodes that do not answer.
        running: the servers there are.
        started: how often one was started.
    """

    def __init__(self, **machines):
        self.machines, self.silent, self.running, self.started, self.forgotten = machines, set(), {}, 0, []

    def nodes(self):
        return {name: f"10.0.0.{number}" for number, name in enumerate(sorted(self.machines), 1)}

    def numa_nodes(self, node_id):
        return [] if node_id in self.silent else self.machines[node_id]

    def ensure(self, where):
        if where not in self.running:
            self.running[where] = f"{where.address}:{8000 + where.place}"
            self.started += 1
        return where

    def ask(self, server):
        if server.node_id in self.silent:
            return None
        return KeptServer(
            server.numa_node, f"http://{self.running[server]}", ready=True, models=("digits",), pid=7
        )

    def forget(self, server):
        self.forgotten.append(server.node_id)
        del self.running[server]


def urls(servers):
    return [row["url"] for row in servers.rows()]


def test_every_numa_node_of_every_node_has_one_server():
    placement = FakePlacement(a=[0, 1], b=[None])
    servers = ClusterServers(placement)
    for _ in range(3):
        servers.reconcile()
    assert urls(servers) == ["http://10.0.0.1:8000", "http://10.0.0.1:8001", "http://10.0.0.2:8000"]
    assert [row["numa_node"] for row in servers.rows()] == [0, 1, None]
    assert placement.started == 3
    assert servers.rows()[0] == {
        **{"node": "10.0.0.1", "node_id": "a", "numa_node": 0, "url": "http://10.0.0.1:8000", "ready": True},
        **{"model": ["digits"], "restarts": 0, "pid": 7, "reason": ""},
    }


def test_nodes_come_and_go():
    placement = FakePlacement(a=[None])
    servers = ClusterServers(placement)
    servers.reconcile()
    placement.machines["b"] = [0, 1]
    servers.reconcile()
    assert len(urls(servers)) == 3
    del placement.machines["a"]
    servers.reconcile()
    assert [row["node_id"] for row in servers.rows()] == ["b", "b"]
    assert placement.forgotten == ["a"]


def test_a_server_that_is_gone_is_started_again():
    placement = FakePlacement(a=[None])
    servers = ClusterServers(placement)
    servers.reconcile()
    placement.running.clear()
    servers.reconcile()
    assert placement.started == 2


def test_a_node_that_does_not_answer_is_listed_once_it_did_and_asked_again():
    placement = FakePlacement(a=[None], b=[None])
    placement.silent = {"b"}
    servers = ClusterServers(placement)
    servers.reconcile()
    assert [row["node_id"] for row in servers.rows()] == ["a"]
    placement.silent = set()
    servers.reconcile()
    placement.silent = {"b"}
    servers.reconcile()
    late = servers.rows()[1]
    assert (late["ready"], late["url"], late["reason"]) == (False, None, "its keeper does not answer")


@pytest.mark.parametrize("allowed", [None])
def test_this_machine_has_at_least_one_place(allowed):
    assert numa_nodes_here()
