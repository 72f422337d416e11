"""Gathers all there is to say of a machine and a server on it into one report; changes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingChange, ThrottlingSample
from cpuserve.machine.files import format_cpulist, read_text
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.performance_checks import (
    check_allocator,
    check_budget,
    check_mask,
    check_memory,
    check_openmp,
    check_pages,
    check_processor,
    check_throttling,
)
from cpuserve.machine.placement import Seat
from cpuserve.machine.process import Process
from cpuserve.machine.seat_checks import DoctorFinding, SeatedProcess, SeatReport, check_seats, worst_level
from cpuserve.machine.server_status import SUSPENDED, ServerStatus, seat_to_json
from cpuserve.machine.topology import Topology

__all__ = ["SECTIONS", "check_neighbours", "diagnose", "throttling_sample"]

SECTIONS = ("budget", "throttling", "server", "openmp", "memory", "processor")
"""What findings are about, in the order they are shown."""


def throttling_sample(roster: ServerStatus | None, root: Path = Path("/")) -> ThrottlingSample:
    """The throttling counters now, of the server's control groups or else the caller's."""
    return ThrottlingSample.take(Budget.read(root, pid=roster.pid if roster else "self").stat_files)


def diagnose(
    roster: ServerStatus | None,
    before: ThrottlingSample | None = None,
    *,
    neighbours: Iterable[ServerStatus] = (),
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Hold a server against its plan and the machine; or only look at the machine.

    Args:
        roster: the server, None when none runs.
        before: the throttling counters at the start of the sample window.
        neighbours: other servers on this machine.
        root: where /sys and /proc are.

    Returns:
        level, budget, topology, machine, server, seats, workers, throttling, preset, findings.
    """
    budget = Budget.read(root, pid=roster.pid if roster else "self")
    topology = Topology.read(root)
    machine = Fingerprint.read(root, budget, topology)
    now = ThrottlingSample.take(budget.stat_files)
    window = now.since(before) if before else None
    # the server may have been moved to other groups since
    life = (now.since(roster.start) if roster else None) or _ever(now)
    threads = roster.threads if roster else None
    found: dict[str, list[DoctorFinding]] = {section: [] for section in SECTIONS}
    sitters: tuple[SeatedProcess, ...] = ()
    libraries: dict[int, Libraries] = {}
    if roster is None:
        found["server"].append(
            DoctorFinding("green", "no server of this user runs here: nothing to hold against a plan")
        )
    else:
        report = _check(roster, budget, root)
        sitters = report.sitters
        found["server"] += [*report.findings, *_others(roster, neighbours)]
        libraries = {
            sitter.pid: read
            for sitter in sitters
            if sitter.process and (read := Libraries.read(sitter.pid, root))
        }
        found["openmp"] += [*_arbiter(roster, root), *check_openmp(tuple(libraries.values()))]
        used = [one.anonymous_bytes for one in libraries.values() if one.anonymous_bytes is not None]
        found["memory"] += _policy(sitters, topology)
        found["memory"] += check_memory(budget, sum(used) if used else None)
        found["memory"] += check_allocator(libraries.values())
    found["budget"] += check_budget(budget, threads)
    found["throttling"] += check_throttling(budget, threads, window, life)
    found["memory"] += check_pages(root, tuple(libraries.values()))
    found["processor"] += check_processor(machine)
    findings = [(section, finding) for section in SECTIONS for finding in found[section]]
    return {
        "level": worst_level(finding for _, finding in findings),
        "budget": _budget(budget),
        "topology": _topology(topology),
        "machine": asdict(machine) | {"name": machine.short},
        "server": {"pid": roster.pid, "address": roster.address, "threads": roster.threads}
        if roster
        else None,
        "seats": [seat_to_json(seat) for seat in roster.seats] if roster else [],
        "workers": _workers(roster, sitters, libraries) if roster else [],
        "throttling": {"window": _change(window), "life": _change(life)},
        "preset": roster.preset if roster else None,
        "findings": [
            {"section": section, "level": one.level, "text": one.text, "advice": one.advice}
            for section, one in findings
        ],
    }


def check_neighbours(seats: Iterable[Seat], neighbours: Iterable[ServerStatus]) -> list[DoctorFinding]:
    """Whether other servers have CPUs of these seats too.

    Args:
        seats: of one server.
        neighbours: other servers on this machine.
    """
    own = {cpu for seat in seats for cpu in seat.cpus}
    findings = []
    for other in neighbours:
        shared = own.intersection(cpu for seat in other.seats for cpu in seat.cpus)
        if shared:
            text = f"another server (pid {other.pid}, {other.address}) also has CPUs {format_cpulist(shared)}"
            advice = "give each server its own CPUs: --node-id, taskset, cpuset; or run one server for both"
            findings.append(DoctorFinding("red", text, advice))
    return findings


def _check(roster: ServerStatus, budget: Budget, root: Path) -> SeatReport:
    by_index = {seat.index: seat for seat in roster.seats}
    seated = {by_index[worker.seat]: worker.pid for worker in roster.workers if worker.pid}
    report = check_seats(seated, root)
    findings = []
    for worker in roster.workers:
        seat = by_index[worker.seat]
        if not worker.pid:
            advice = (
                "it is being started, or the number of workers was lowered (SIGTTOU): read the server's log"
            )
            findings.append(DoctorFinding("yellow", f"seat {seat.index}: no worker sits there", advice))
        elif worker.state == SUSPENDED:
            text = f"seat {seat.index} (pid {worker.pid}): the worker does not run, its connections hang"
            advice = f"let it go on (kill -CONT {worker.pid}), or end it (kill -KILL): another takes its seat"
            findings.append(DoctorFinding("red", text, advice))
        elif worker.state != "ready":
            text = f"seat {seat.index} (pid {worker.pid}): the worker is {worker.state}"
            findings.append(DoctorFinding("yellow", text, "ask again when it is ready"))
        gone = set(seat.cpus) - budget.cpus
        if gone:
            text = f"seat {seat.index}: CPUs {format_cpulist(gone)} are no longer allowed for this server"
            advice = "its mask or cpuset was narrowed after the start: restart it, so that it plans anew"
            findings.append(DoctorFinding("yellow", text, advice))
    return SeatReport(report.sitters, (*report.findings, *findings))


def _others(roster: ServerStatus, neighbours: Iterable[ServerStatus]) -> list[DoctorFinding]:
    findings = []
    if roster.others:
        pids = ", ".join(map(str, roster.others))
        text = f"processes {pids} sit beside another worker in a seat"
        advice = "a reload is going on and they are leaving: ask again in a moment"
        findings.append(DoctorFinding("yellow", text, advice))
    findings += check_neighbours(roster.seats, neighbours)
    findings += [DoctorFinding("green", f"planned so: {note}") for note in roster.notes]
    return findings


def _arbiter(roster: ServerStatus, root: Path) -> list[DoctorFinding]:
    arbiter = Process.read(roster.pid, root)
    if arbiter is None:
        return []
    status = read_text(root / f"proc/{roster.pid}/status") or ""
    above = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
    parent = Process.read(int(above[1]), root) if above else None
    return check_mask(arbiter, parent, Libraries.read(roster.pid, root))


def _policy(sitters: Iterable[SeatedProcess], topology: Topology) -> list[DoctorFinding]:
    """Whether the workers' memory policy is in force; with one node of memory it makes no difference."""
    if sum(not node.memoryless for node in topology.nodes) < 2:
        return []
    seated = [sitter for sitter in sitters if sitter.process and sitter.process.policy]
    refused = [
        s for s in seated if s.seat.memory_node is not None and s.process and s.process.policy == "default"
    ]
    if refused:
        text = f"memory policy: first touch in seats {format_cpulist(s.seat.index for s in refused)}"
        advice = "set_mempolicy was refused: --cap-add SYS_NICE (docker), capabilities.add (Kubernetes)"
        return [
            DoctorFinding(
                "green", text + " (pages are local as long as workers sit before they load)", advice
            )
        ]
    words = sorted({s.process.policy for s in seated if s.process and s.process.policy})
    return [DoctorFinding("green", f"memory policy: {', '.join(words)}")] if words else []


def _ever(now: ThrottlingSample) -> ThrottlingChange | None:
    """Since the control groups were made, which no file tells when."""
    counts = max(now.groups.items(), key=lambda item: item[1].throttled_usec, default=None)
    if counts is None:
        return None
    source, count = counts
    return ThrottlingChange(math.inf, count.nr_periods, count.nr_throttled, count.throttled_usec, source)


def _change(change: ThrottlingChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return asdict(change) | {"seconds": round(change.seconds, 3) if math.isfinite(change.seconds) else None}


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "cpus": format_cpulist(budget.cpus),
        "online": budget.online,
        "quota": budget.quota,
        "quota_source": str(budget.quota_source) if budget.quota_source else None,
        "effective": budget.effective,
        "memory_limit_bytes": budget.memory_limit_bytes,
        "memory_source": str(budget.memory_source) if budget.memory_source else None,
        "mems": None if budget.mems is None else format_cpulist(budget.mems),
        "explain": budget.explain(),
    }


def _topology(topology: Topology) -> dict[str, Any]:
    def cores(cpus: Iterable[int]) -> list[dict[str, Any]]:
        groups = topology.cores(cpus)
        return [{"cpus": format_cpulist(group), "kind": topology.by_id[group[0]].kind} for group in groups]

    nodes = [
        {
            "id": node.id,
            "memory_bytes": node.memory_bytes,
            "distances": {str(other): distance for other, distance in node.distances.items()},
            "cores": cores(node.cpus),
        }
        for node in topology.nodes
    ]
    without = cores(cpu.id for cpu in topology.cpus if cpu.node is None)
    if without:
        nodes.append({"id": None, "memory_bytes": None, "distances": {}, "cores": without})
    return {"cpus": len(topology.cpus), "smt": topology.smt, "nodes": nodes}


def _workers(
    roster: ServerStatus, sitters: Iterable[SeatedProcess], libraries: Mapping[int, Libraries]
) -> list[dict[str, Any]]:
    processes = {sitter.pid: sitter.process for sitter in sitters}
    workers = []
    for worker in roster.workers:
        process, mapped = processes.get(worker.pid), libraries.get(worker.pid)
        pages = process.anonymous_bytes if process else None
        node = roster.seats[worker.seat].memory_node
        share = process.share_on(node) if process and node is not None else None
        workers.append(
            {
                **asdict(worker),
                "threads": [
                    asdict(thread) | {"allowed": format_cpulist(thread.allowed)}
                    for thread in (process.threads if process else ())
                ],
                "policy": process.policy if process else None,
                "bytes_by_node": None if pages is None else {str(key): value for key, value in pages.items()},
                "share_on_node": None if share is None else round(share, 4),
                "libraries": asdict(mapped) if mapped else None,
            }
        )
    return workers
