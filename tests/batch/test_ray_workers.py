"""Workers on nodes that come, go and break: every row is there once (with nodes that are made up)."""

from __future__ import annotations

import random

import pytest

from cpuserve.batch import ray_workers
from cpuserve.batch.job import run_job
from cpuserve.batch.ray_hosts import HostEnded
from cpuserve.batch.ray_workers import RayWorkers
from cpuserve.batch.worker_task import UnitNews, UnitRow
from cpuserve.errors import CpuserveError
from cpuserve.machine.placement import Seat
from tests.batch.fake_workers import MODEL, row_of
from tests.batch.test_job import FRAMES, WANTED, opened, rows_in


class FakeHosts:
    """Nodes with two seats each, whose hosts answer in this thread.

    Attributes:
        names: of the nodes that are alive.
        chance: that a host, or its node, ends before a row.
        started: how many hosts were started, and with how many CPUs.
    """

    def __init__(self, *names, chance=0.0, model=MODEL, ends=None):
        self.names, self.chance, self.model, self.ends = {*names}, chance, model, ends
        self.random = random.Random(3)  # noqa: S311
        self.hosts, self.started, self.asked = {}, [], 0

    def nodes(self):
        return dict.fromkeys(sorted(self.names), 4.0)

    def seats(self, node):
        return [Seat(index, 0, (index,), 1, None) for index in range(2)]

    def start(self, node, seat, cpus):
        self.started.append(cpus)
        host = len(self.started)
        self.hosts[host] = (node, [self.model if self.ends is None else self.ends])
        return host

    def give(self, host, unit):
        if host in self.hosts:
            self.hosts[host][1].append(unit)

    def ask(self, host):
        self.asked += 1
        return (host, self.asked)

    def heard(self, tickets, timeout_s):
        self.random.shuffle(tickets)
        return {ticket: news for ticket in tickets[:2] if (news := self.news(ticket[0]))}

    def news(self, host):
        if host not in self.hosts:
            return [HostEnded("its node is gone")]
        node, waiting = self.hosts[host]
        if node not in self.names:
            return [HostEnded("its node is gone")]
        if not waiting:
            return []
        unit = waiting.pop(0)
        if not hasattr(unit, "wanted"):
            return [unit]
        if self.random.random() < self.chance:
            if self.random.random() < 0.3 and len(self.names) > 1:
                self.names.discard(node)
            del self.hosts[host]
            return [HostEnded("it was ended by SIGKILL", outside=True)]
        places = (
            range(unit.start, FRAMES if unit.stop is None else unit.stop) if unit.is_video else unit.wanted
        )
        rows = [
            UnitRow(
                place,
                dumps(row_of(unit.inputs[0 if unit.is_video else place], place if unit.is_video else None)),
            )
            for place in places
        ]
        return [UnitNews(unit.number, rows, ended=True)]

    def end(self, host):
        self.hosts.pop(host, None)


def dumps(row):
    import orjson

    return orjson.dumps(row)


@pytest.fixture(autouse=True)
def nodes_that_are_looked_at_often(monkeypatch):
    monkeypatch.setattr(ray_workers, "_LOOK_S", 0.0)


def test_every_seat_of_every_node_works(tmp_path):
    hosts = FakeHosts("a", "b", "c")
    with opened(tmp_path) as folder:
        run_job(folder, RayWorkers(hosts, MODEL))
    assert rows_in(tmp_path) == WANTED
    assert hosts.started == [1.0] * 6  # a seat of one thread, though Ray has two CPUs for it


@pytest.mark.parametrize("seed", range(5))
def test_hosts_and_nodes_that_end_cost_nothing(tmp_path, seed):
    hosts = FakeHosts("a", "b", "c", chance=0.4)
    hosts.random.seed(seed)
    with opened(tmp_path) as folder:
        summary = run_job(folder, RayWorkers(hosts, MODEL))
    assert rows_in(tmp_path) == WANTED
    assert summary.workers_lost > 1


def test_a_node_that_comes_gets_work(tmp_path):
    hosts = FakeHosts()
    workers = RayWorkers(hosts, MODEL)
    assert workers.news(0.0) == []
    hosts.names = {"late"}
    with opened(tmp_path) as folder:
        run_job(folder, workers)
    assert rows_in(tmp_path) == WANTED


def test_without_any_node_the_job_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_workers, "_NOBODY_S", 0.0)
    with opened(tmp_path) as folder, pytest.raises(CpuserveError, match="ray status"):
        run_job(folder, RayWorkers(FakeHosts(), MODEL))


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (FakeHosts("a", model=MODEL._replace(checksum="bb")), "the model's files were changed"),
        (FakeHosts("a", model=MODEL._replace(precision="bf16")), "say --precision f32"),
        (FakeHosts("a", ends=HostEnded("x", CpuserveError("no such model"))), "no such model"),
        (FakeHosts("a", ends=HostEnded("it was ended by SIGSEGV")), "SIGSEGV, 3 times on node a before"),
    ],
)
def test_workers_that_are_of_no_use_end_the_job(tmp_path, hosts, words):
    with opened(tmp_path) as folder, pytest.raises(CpuserveError, match=words):
        run_job(folder, RayWorkers(hosts, MODEL))


def test_the_workers_end_with_the_job():
    hosts = FakeHosts("a", "b")
    workers = RayWorkers(hosts, MODEL)
    workers.close()
    assert not hosts.hosts
