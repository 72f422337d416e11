"""The real server on emulated NUMA machines: where workers and their pages are, never their speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cpuserve.machine.seat_checks import MIN_SHARE

pytestmark = [pytest.mark.numa, pytest.mark.timeout(2000)]

Record = Callable[[str, object], None]
Picture = Mapping[str, Any]


def say(picture: Picture) -> list[str]:
    """One line a seat, for the result file."""
    return [
        f"seat {seat['seat']}: {seat['threads']} threads on CPUs {' and '.join(seat['allowed'])}; "
        f"{seat['anonymous MiB']:.0f} MiB anonymous, "
        + ", ".join(f"{share:.1%} on node {node}" for node, share in seat["shares"].items())
        for seat in picture["seats"]
    ]


def pids(picture: Picture) -> dict[int, int]:
    return {seat["seat"]: seat["pid"] for seat in picture["seats"]}


def in_place(picture: Picture, planned: Mapping[int, tuple[str, int | None]]) -> None:
    """Every seat has one worker; all its threads are on the seat's CPUs, its pages on the seat's node."""
    assert picture["workers"] == len(planned)
    assert picture["answer"] == "7"
    assert {
        seat["seat"]: (seat["planned"]["cpus"], seat["planned"]["memory node"]) for seat in picture["seats"]
    } == planned
    for seat in picture["seats"]:
        cpus, node = planned[seat["seat"]]
        assert seat["allowed"] == [cpus]
        assert seat["threads"] > 1
        assert seat["anonymous MiB"] > 16
        if node is not None:
            assert seat["shares"][str(node)] >= MIN_SHARE, seat
    assert picture["level"] == "green", picture["findings"]


FOUR_SEATS = {0: ("0", 0), 1: ("1", 0), 2: ("2", 1), 3: ("3", 1)}


def test_topology(two_nodes, four_nodes, record_property: Record):
    """Nodes, CPUs, memory and distances are read as they were emulated."""
    assert two_nodes.seen["topology"] == [
        "node 0: CPUs 0-1, memory, distances 10 20",
        "node 1: CPUs 2-3, memory, distances 20 10",
    ]
    assert four_nodes.seen["topology"] == [
        "node 0: CPUs 0, memory, distances 10 20 30 40 50",
        "node 1: CPUs 1, memory, distances 20 10 20 30 50",
        "node 2: CPUs 2, memory, distances 30 20 10 20 50",
        "node 3: CPUs 3, no memory, distances 40 30 20 10 50",
        "node 4: no CPUs, memory, distances 50 50 50 50 10",
    ]
    record_property(
        "seen", {"two nodes": two_nodes.seen["topology"], "four nodes": four_nodes.seen["topology"]}
    )


def test_seats_at_the_start(two_nodes, record_property: Record):
    """Four workers on two nodes: threads on the planned CPUs, memory policy and pages on the own node."""
    start = two_nodes.seen["life"]["moments"]["start"]
    in_place(start, FOUR_SEATS)
    for seat in start["seats"]:
        assert f"prefer:{seat['planned']['memory node']}" in seat["policies"]
    for seat, (cpus, node) in FOUR_SEATS.items():
        line = f"INFO cpuserve.server: seat {seat}: CPUs {cpus}, node {node}, 1 compute threads"
        assert line in two_nodes.seen["life"]["log"]
    record_property("seen", say(start))


@pytest.mark.parametrize(
    ("before", "moment", "killed"), [("start", "kill one", {2}), ("kill one", "kill two", {1, 3})]
)
def test_seats_after_kill(two_nodes, record_property: Record, before, moment, killed):
    """The seats of workers that were killed with SIGKILL are taken by the workers that replace them."""
    moments = two_nodes.seen["life"]["moments"]
    in_place(moments[moment], FOUR_SEATS)
    was, now = pids(moments[before]), pids(moments[moment])
    assert {seat for seat in now if now[seat] != was[seat]} == killed
    record_property("seen", {f"after {moment}: seats {sorted(killed)}": say(moments[moment])})


def test_seats_after_hup(two_nodes, record_property: Record):
    """After HUP every seat has one new worker."""
    moments = two_nodes.seen["life"]["moments"]
    in_place(moments["HUP"], FOUR_SEATS)
    assert not {*pids(moments["HUP"]).values()} & {*pids(moments["kill two"]).values()}
    record_property("seen", say(moments["HUP"]))


def test_seats_after_ttou_and_ttin(two_nodes, record_property: Record):
    """TTOU empties a seat, TTIN fills that one again, and one TTIN more is refused in one line."""
    moments = two_nodes.seen["life"]["moments"]
    full, fewer, again, refused = (pids(moments[name]) for name in ("HUP", "TTOU", "TTIN", "TTIN again"))
    (empty,) = full.keys() - fewer.keys()
    assert fewer == {seat: pid for seat, pid in full.items() if seat != empty}
    assert again == fewer | {empty: again[empty]}
    assert again[empty] not in full.values()
    assert refused == again
    for name in ("TTIN", "TTIN again"):
        in_place(moments[name], FOUR_SEATS)
    (line,) = [line for line in two_nodes.seen["life"]["log"] if "seats are taken" in line]
    assert two_nodes.seen["life"]["status"] == 0
    record_property(
        "seen", {name: say(moments[name]) for name in ("TTOU", "TTIN", "TTIN again")} | {"log": line}
    )


def test_memory_policies_refused(two_nodes, record_property: Record):
    """Where a seccomp filter answers EPERM to memory policies: one line a worker, first touch, all well."""
    seen = two_nodes.seen["refused"]
    in_place(seen["start"], {0: ("0-1", 0), 1: ("2-3", 1)})
    for seat in seen["start"]["seats"]:
        assert seat["policies"] == ["default"]
    lines = [line for line in seen["log"] if not line.startswith("INFO")]
    assert lines == [
        f"WARNING cpuserve.server: seat {seat}: memory policy: first touch, set_mempolicy for node {seat} "
        "gave EPERM (refused, which is what a container without CAP_SYS_NICE does)"
        for seat in (0, 1)
    ]
    assert seen["status"] == 0
    assert not [line for line in seen["placement"] if not line.startswith("green")]
    assert any("memory policy: first touch in seats 0-1" in line for line in seen["placement"])
    record_property("seen", {"log": lines, "/v2/placement": seen["placement"], "seats": say(seen["start"])})


def test_quota_of_a_parent_group(two_nodes, record_property: Record):
    """With cpu.max of 1.5 CPUs on the parent group of four CPUs there are two compute threads in all."""
    seen = two_nodes.seen["quota"]
    assert seen["own quota"] == "max"
    in_place(seen["start"], {0: ("0-1", 0), 1: ("2-3", 1)})
    planned = [line for line in seen["log"] if "compute threads" in line or " CPU quota:" in line]
    assert planned == [
        "INFO cpuserve.server: CPU quota: 1.5 CPUs of time, set by /sys/fs/cgroup/parent/cpu.max",
        "INFO cpuserve.server: seat 0: CPUs 0-1, node 0, 1 compute threads",
        "INFO cpuserve.server: seat 1: CPUs 2-3, node 1, 1 compute threads",
    ]
    compiled = [line for line in seen["log"] if "INFERENCE_NUM_THREADS" in line]
    assert len(compiled) == 2
    assert all("NUM_STREAMS=1, INFERENCE_NUM_THREADS=1," in line for line in compiled)
    assert seen["status"] == 0
    record_property("seen", {"log": planned + compiled, "seats": say(seen["start"])})


def test_memoryless_and_memory_only_nodes(four_nodes, record_property: Record):
    """No worker on a node with memory alone; on one without memory, pages come from the nearest node."""
    seen = four_nodes.seen["nodes"]
    in_place(seen["start"], {0: ("0", 0), 1: ("1", 1), 2: ("2", 2), 3: ("3", None)})
    lonely = seen["start"]["seats"][3]
    assert lonely["shares"]["2"] >= MIN_SHARE
    assert not any(policy.startswith("prefer") for policy in lonely["policies"])
    assert all("4" not in seat["shares"] for seat in seen["start"]["seats"])
    (note,) = [line for line in seen["log"] if "memoryless" in line]
    assert note.endswith("node 3 is memoryless: its nearest memory is node 2 (distance 20)")
    assert not [line for line in seen["log"] if not line.startswith("INFO")]
    assert seen["status"] == 0
    assert not [line for line in seen["placement"] if not line.startswith("green")]
    assert sum("anonymous memory is on node" in line for line in seen["placement"]) == 3
    record_property("seen", {"log": note, "/v2/placement": seen["placement"], "seats": say(seen["start"])})
