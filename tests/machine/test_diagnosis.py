"""The whole report of a machine and a server, from written trees."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingSample
from cpuserve.machine.diagnosis import SECTIONS, diagnose, throttling_sample
from cpuserve.machine.placement import SeatPlan, plan_seats
from cpuserve.machine.server_status import ServerStatus, WorkerStatus, describe_server
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from tests.machine import trees
from tests.machine.test_libraries import process as mapped
from tests.machine.test_seat_checks import heap, process

ARBITER = 90


def server(tree: trees.Tree, *masks: str, states: tuple[str, ...] = ()) -> tuple[ServerStatus, SeatPlan]:
    """A server with a worker for each of ``masks``, as its arbiter would describe it."""
    made = plan_seats(Topology.read(tree.root), Budget.read(tree.root), workers=len(masks))
    start = ThrottlingSample(0, {})
    described = describe_server(made, Settings(), pid=ARBITER, start=start)
    workers = []
    for seat, mask in enumerate(masks):
        pid = 100 * (seat + 1) if mask else 0
        workers.append(WorkerStatus(seat, pid, states[seat] if states else "ready" if mask else "empty"))
        if mask:
            process(tree, pid, [mask] * 4, pages=heap(**{f"N{made.seats[seat].node}": 64}))
            mapped(tree, pid, "/lib/libc.so.6", "/x/libtbb.so.12")
    every = (tree.root / "proc/self/status").read_text().strip().split("\n", 1)[1]
    tree.put(f"proc/{ARBITER}/status", f"Name:\tcpuserve\nPPid:\t1\n{every}")
    tree.put(f"proc/{ARBITER}/cgroup", (tree.root / "proc/self/cgroup").read_text())
    return ServerStatus.from_description(json.loads(json.dumps(described)), ARBITER, workers), made


def of(report, section):
    return [finding for finding in report["findings"] if finding["section"] == section]


def two_sockets(tmp_path):
    tree = trees.grid(tmp_path, sockets=2, nodes_each=1, cores=2, smt=2)
    return tree.status("0-7", "0-1").v2("/")


def test_a_server_that_sits_as_planned_is_green(tmp_path):
    tree = two_sockets(tmp_path)
    status, made = server(tree, "0-1,4-5", "2-3,6-7")
    assert status.seats == made.seats
    report = json.loads(json.dumps(diagnose(status, throttling_sample(status, tmp_path), root=tmp_path)))
    assert [one for one in report["findings"] if one["level"] == "red"] == []
    assert {one["level"] for one in of(report, "server")} == {"green"}
    assert [seat["cpus"] for seat in report["seats"]] == ["0-1,4-5", "2-3,6-7"]
    assert report["server"] == {"pid": ARBITER, "address": "127.0.0.1:8000", "threads": 4, "settings": {}}
    assert report["budget"]["effective"] == 8
    assert report["preset"] is None
    assert [node["id"] for node in report["topology"]["nodes"]] == [0, 1]
    assert report["topology"]["nodes"][1]["cores"][0] == {"cpus": "2,6", "kind": None}
    first = report["workers"][0]
    assert first["threads"][1] == {"tid": 101, "name": "python", "allowed": "0-1,4-5", "last_cpu": 5}
    assert (first["share_on_node"], first["bytes_by_node"]) == (1.0, {"0": 64 << 20})
    assert first["libraries"]["allocator"] == "glibc"
    assert {one["section"] for one in report["findings"]} == set(SECTIONS) - {"pod"}


def test_every_red_and_yellow_line_says_what_to_do(tmp_path):
    tree = trees.quota(tmp_path)
    status, _ = server(tree, "0-7", "4", states=("ready", "loading"))
    before = throttling_sample(status, tmp_path)
    tree.put("sys/fs/cgroup/cpu.stat", "nr_periods 325\nnr_throttled 186\nthrottled_usec 981234")
    report = diagnose(status, before, root=tmp_path)
    assert report["level"] == "red"
    assert report["throttling"]["window"]["nr_throttled"] == 10
    texts = {one["text"]: one["advice"] for one in report["findings"] if one["level"] != "green"}
    assert all(texts.values()), texts
    said = "\n".join(texts)
    for words in (
        "4 of 4 threads may leave CPUs 0-3",
        "are shared by seats 0",
        "the worker is loading",
        "throttling now: stopped in 10 of 10 periods",
        "not a whole number",
    ):
        assert words in said


def test_an_empty_seat_and_workers_beside_each_other(tmp_path):
    status, _ = server(two_sockets(tmp_path), "", "2-3,6-7")
    crowded = ServerStatus(**{**vars(status), "others": (300, 301)})
    report = diagnose(crowded, root=tmp_path)
    yellow = [one["text"] for one in of(report, "server") if one["level"] == "yellow"]
    assert yellow == [
        "seat 0: it has no worker",
        "processes 300, 301 share a seat with another worker",
    ]
    assert report["workers"][0]["threads"] == []


def test_a_dead_worker_is_not_called_suspended_too(tmp_path):
    tree = two_sockets(tmp_path)
    status, _ = server(tree, "0-1,4-5", "2-3,6-7", states=("suspended", "suspended"))
    shutil.rmtree(tree.root / "proc/100")
    red = [one["text"] for one in of(diagnose(status, root=tmp_path), "server") if one["level"] == "red"]
    assert red == [
        "seat 0 (pid 100): there is no such process",
        "seat 1 (pid 200): the worker does not run, its connections hang",
    ]


def test_a_mask_that_was_narrowed_after_the_start(tmp_path):
    tree = two_sockets(tmp_path)
    status, _ = server(tree, "0-1,4-5", "2-3,6-7")
    tree.put(
        f"proc/{ARBITER}/status", "Name:\tcpuserve\nCpus_allowed_list:\t0-2,4-7\nMems_allowed_list:\t0-1"
    )
    (found,) = [one for one in of(diagnose(status, root=tmp_path), "server") if one["level"] == "yellow"]
    assert found["text"] == "seat 1: CPUs 3 are no longer allowed for this server"


def test_a_neighbour_on_the_same_cpus_is_red(tmp_path):
    tree = two_sockets(tmp_path)
    status, _ = server(tree, "0-1,4-5", "2-3,6-7")
    other = ServerStatus(**{**vars(status), "pid": 500, "address": "0.0.0.0:9", "seats": status.seats[1:]})
    report = diagnose(status, neighbours=[other], root=tmp_path)
    (found,) = [one for one in report["findings"] if one["level"] == "red"]
    assert found["text"] == "another server (pid 500, 0.0.0.0:9) also has CPUs 2-3,6-7"


def test_a_refused_memory_policy_is_told_where_it_matters(tmp_path):
    tree = two_sockets(tmp_path)
    status, _ = server(tree, "0-1,4-5", "2-3,6-7")
    for pid, node in ((100, 0), (200, 1)):
        tree.put(f"proc/{pid}/numa_maps", heap(**{f"N{node}": 64}).replace("prefer:0", "default"))
    told = [one for one in of(diagnose(status, root=tmp_path), "memory") if "policy" in one["text"]]
    assert [(one["level"], "SYS_NICE" in one["advice"]) for one in told] == [("green", True)]
    assert "first touch in seats 0-1" in told[0]["text"]


def test_without_a_server_there_is_the_machine_alone(tmp_path):
    report = diagnose(None, root=trees.laptop(tmp_path).status("0-19").v2("/").root)
    assert (report["server"], report["seats"], report["workers"]) == (None, [], [])
    assert report["topology"]["nodes"][0]["cores"][6] == {"cpus": "12", "kind": "E"}
    assert of(report, "server")[0]["level"] == "green"


def test_a_machine_without_nodes(tmp_path):
    report = diagnose(None, root=trees.no_nodes(tmp_path).root)
    assert [node["id"] for node in report["topology"]["nodes"]] == [None]


def test_a_real_machine():
    report = diagnose(None)
    json.dumps(report)
    assert report["topology"]["cpus"] >= 1


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ((0, 0), []),
        ((3, 0), ["gRPC: 3 channels were used in the last minute, 1 of 2 workers have none"]),
        ((2, 1), []),
    ],
)
def test_workers_that_no_channel_reaches_are_named_while_others_have_some(tmp_path, channels, said):
    tree = two_sockets(tmp_path)
    status, _ = server(tree, "0-1,4-5", "2-3,6-7")
    workers = [replace(one, grpc_channels=count) for one, count in zip(status.workers, channels, strict=True)]
    report = diagnose(replace(status, workers=tuple(workers)), root=tmp_path)
    found = [one for one in of(report, "server") if "gRPC" in one["text"]]
    assert [one["text"] for one in found] == said
    assert {one["level"] for one in found} <= {"yellow"}
