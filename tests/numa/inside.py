"""Runs inside an emulated machine: starts real servers, does things to them, writes down what it sees."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.placement import Seat, plan_seats
from cpuserve.machine.process import Process
from cpuserve.machine.seat_checks import SeatedProcess, check_seats
from cpuserve.machine.topology import Topology
from tests.sandbox import MEMORY_POLICIES, refuse
from tests.servers import Server, serving

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = Path("/lab")
GROUPS = Path("/sys/fs/cgroup")
PICTURE = (ROOT / "docs" / "seven.png").read_bytes()

Seen = dict[str, Any]


def topology() -> list[str]:
    """The machine, as cpuserve reads it."""
    lines = []
    for node in Topology.read().nodes:
        cpus = f"CPUs {format_cpulist(node.cpus)}" if node.cpus else "no CPUs"
        memory = "memory" if node.memory_bytes else "no memory"
        distances = " ".join(map(str, node.distances.values()))
        lines.append(f"node {node.id}: {cpus}, {memory}, distances {distances}")
    return lines


def life() -> Seen:
    """Four workers: as they start, and after workers were killed, replaced, dismissed and called back."""
    with server("life", "--workers", "4") as running:
        seats = plan_seats(Topology.read(), Budget.read(), workers=4).seats
        moments = {"start": picture(running, seats)}

        def after(what: str, workers: int, gone: Collection[int]) -> None:
            running.settle(workers, gone)
            moments[what] = picture(running, seats)

        by_seat = {seat: pid for pid, seat in running.seats().items()}
        kill(by_seat[2])
        after("kill one", 4, [by_seat[2]])
        by_seat = {seat: pid for pid, seat in running.seats().items()}
        kill(by_seat[1], by_seat[3])
        after("kill two", 4, [by_seat[1], by_seat[3]])
        old = running.workers()
        running.process.send_signal(signal.SIGHUP)
        after("HUP", 4, old)
        running.process.send_signal(signal.SIGTTOU)
        after("TTOU", 3, [])
        running.process.send_signal(signal.SIGTTIN)
        after("TTIN", 4, [])
        running.process.send_signal(signal.SIGTTIN)
        running.wait_until(lambda: "seats are taken" in running.text(), "refused")
        after("TTIN again", 4, [])
    return {"moments": moments, "log": log(running), "status": running.process.returncode}


def nodes() -> Seen:
    """A worker on each node that has CPUs."""
    count = sum(not node.memory_only for node in Topology.read().nodes)
    with server("nodes", "--workers", str(count)) as running:
        seats = plan_seats(Topology.read(), Budget.read(), workers=count).seats
        seen = {"start": picture(running, seats), "placement": placement(running)}
    return seen | {"log": log(running), "status": running.process.returncode}


def refused() -> Seen:
    """Two workers in a sandbox that refuses all that has to do with memory policies, as Docker's does."""
    for number in MEMORY_POLICIES:
        refuse(number, errno.EPERM)
    with server("refused", "--workers", "2") as running:
        seats = plan_seats(Topology.read(), Budget.read(), workers=2).seats
        seen = {"start": picture(running, seats), "placement": placement(running)}
    return seen | {"log": log(running), "status": running.process.returncode}


def quota() -> Seen:
    """A server that says nothing of workers, in a group whose parent may use 1.5 CPUs."""
    parent = GROUPS / "parent"
    child = parent / "child"
    child.mkdir(parents=True)
    for folder in (GROUPS, parent):
        (folder / "cgroup.subtree_control").write_text("+cpu")
    (parent / "cpu.max").write_text("150000 100000")
    (child / "cgroup.procs").write_text(str(os.getpid()))
    with server("quota") as running:
        seen = picture(running, plan_seats(Topology.read(), Budget.read(), workers=2).seats)
    own = (child / "cpu.max").read_text().split()[0]
    return {"own quota": own, "start": seen, "log": log(running), "status": running.process.returncode}


@contextmanager
def server(name: str, *arguments: str) -> Iterator[Server]:
    """A server of the model that is in the repository; its log is kept."""
    file = Path("/tmp") / f"{name}.log"  # noqa: S108  # the machine is ours alone
    try:
        # one batch size to compile, for here that takes seconds
        common = ("--model-repository", str(ROOT / "ir_models"), "--max-batch", "1")
        with serving(file, *common, *arguments) as running:
            running.settle(len(re.findall(r": seat \d+: CPUs", running.text())))
            yield running
    finally:
        (LAB / file.name).write_bytes(file.read_bytes())


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def picture(running: Server, seats: Collection[Seat]) -> Seen:
    """The processes of all workers now."""
    answer = running.post("/predictions/digits", PICTURE)
    pid_of = {seat: pid for pid, seat in running.seats().items()}
    report = check_seats({seat: pid_of[seat.index] for seat in seats if seat.index in pid_of})
    return {
        "workers": len(running.workers()),
        "answer": answer.json()["predictions"][0]["label"] if answer.status == 200 else answer.status,
        "seats": [seen_of(found) for found in report.seated],
        "level": report.level,
        "findings": [finding.text for finding in report.findings],
    }


def seen_of(found: SeatedProcess) -> Seen:
    process = found.process or Process(found.pid, ())
    pages = process.anonymous_bytes or {}
    total = sum(pages.values())
    return {
        "seat": found.seat.index,
        "planned": {"cpus": format_cpulist(found.seat.cpus), "memory node": found.seat.memory_node},
        "pid": found.pid,
        "threads": len(process.threads),
        "allowed": sorted({format_cpulist(thread.allowed) for thread in process.threads}),
        "policies": policies(found.pid),
        "anonymous MiB": round(total / (1 << 20), 1),
        "shares": {str(node): round(count / total, 3) for node, count in sorted(pages.items())},
    }


def placement(running: Server) -> list[str]:
    """What the server itself says of its seats and their memory, without process ids."""
    findings = running.get("/v2/placement").json()["findings"]
    return [
        f"{finding['level']}: " + re.sub(r" \(pid \d+\)", "", finding["text"])
        for finding in findings
        if finding["section"] == "server" or finding["text"].startswith("memory policy")
    ]


def policies(pid: int) -> list[str]:
    """The memory policies in force in a process."""
    return sorted({line.split()[1] for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines()})


def log(running: Server) -> list[str]:
    """The log without times and process ids, so that equal lines are equal."""
    return [re.sub(r"^\S+ \S+ (\w+) \[\d+\] ", r"\1 ", line) for line in running.text().splitlines()]


SCENARIOS: dict[str, Callable[[], Any]] = {
    function.__name__: function for function in (topology, life, nodes, refused, quota)
}


def write(name: str) -> None:
    (LAB / f"{name}.json").write_text(json.dumps(SCENARIOS[name]()))


def main(names: list[str]) -> None:
    """Run the scenarios one after the other, each in a process of its own, for some change it for good."""
    seen = {}
    for name in names:
        process = get_context("fork").Process(target=write, args=(name,))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"scenario {name} failed")
        seen[name] = json.loads((LAB / f"{name}.json").read_text())
    (LAB / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1:])
