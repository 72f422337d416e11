"""Makes the doctor's report on the machine and on a running server; ``GET /v2/placement`` answers it too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
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
from cpuserve.machine.pod import Pod, check_pod
from cpuserve.machine.process import Process
from cpuserve.machine.seat_checks import DoctorFinding, SeatedProcess, SeatReport, check_seats, worst_level
from cpuserve.machine.server_status import (
    SUSPENDED,
    ServerStatus,
    WorkerStatus,
    seat_to_json,
    unreached_workers,
)
from cpuserve.machine.topology import Topology

__all__ = ["SECTIONS", "check_neighbours", "diagnose", "throttling_sample"]

SECTIONS = ("budget", "pod", "throttling", "server", "openmp", "memory", "processor")
"""The sections of the report, in their order."""


def throttling_sample(server: ServerStatus | None, root: Path = Path("/")) -> ThrottlingSample:
    """The throttling counters now: of the server's control groups, without a server of the caller's."""
    return ThrottlingSample.take(Budget.read(root, pid=server.pid if server else "self").stat_files)


def diagnose(
    server: ServerStatus | None,
    before: ThrottlingSample | None = None,
    *,
    neighbours: Iterable[ServerStatus] = (),
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Compare a server with its plan and check the machine.

    Args:
        server: the server; None checks the machine alone.
        before: the throttling counters at the start of the sample window.
        neighbours: other servers on this machine.
        root: where /sys and /proc are.

    Returns:
        level, budget, pod, topology, machine, server, seats, workers, throttling, preset, findings.
    """
    budget = Budget.read(root, pid=server.pid if server else "self")
    topology = Topology.read(root)
    machine = Fingerprint.read(root, budget, topology)
    pod = Pod.read(budget, topology, root, server.pid if server else "self")
    now = ThrottlingSample.take(budget.stat_files)
    window = now.since(before) if before else None
    # the server may have been moved to other groups since
    life = (now.since(server.start) if server else None) or _ever(now)
    threads = server.threads if server else None
    found: dict[str, list[DoctorFinding]] = {section: [] for section in SECTIONS}
    seated: tuple[SeatedProcess, ...] = ()
    libraries: dict[int, Libraries] = {}
    if server is None:
        found["server"].append(
            DoctorFinding("green", "no server of this user runs here: only the machine was checked")
        )
    else:
        report = _check(server, budget, root)
        seated = report.seated
        found["server"] += [*report.findings, *_others(server, neighbours)]
        libraries = {
            one.pid: read for one in seated if one.process and (read := Libraries.read(one.pid, root))
        }
        found["openmp"] += [*_arbiter(server, root), *check_openmp(tuple(libraries.values()))]
        used = [one.anonymous_bytes for one in libraries.values() if one.anonymous_bytes is not None]
        found["memory"] += _policy(seated, topology)
        found["memory"] += check_memory(budget, sum(used) if used else None)
        found["memory"] += check_allocator(libraries.values())
    found["budget"] += check_budget(budget, threads)
    found["pod"] += check_pod(pod)
    found["throttling"] += check_throttling(budget, threads, window, life)
    found["memory"] += check_pages(root, tuple(libraries.values()))
    found["processor"] += check_processor(machine)
    findings = [(section, finding) for section in SECTIONS for finding in found[section]]
    return {
        "level": worst_level(finding for _, finding in findings),
        "budget": _budget(budget),
        "pod": pod.to_json() if pod else None,
        "topology": _topology(topology),
        "machine": asdict(machine) | {"name": machine.short},
        "server": _server(server) if server else None,
        "seats": [seat_to_json(seat) for seat in server.seats] if server else [],
        "workers": _workers(server, seated, libraries) if server else [],
        "throttling": {"window": _change(window), "life": _change(life)},
        "preset": server.preset if server else None,
        "findings": [
            {"section": section, "level": one.level, "text": one.text, "advice": one.advice}
            for section, one in findings
        ],
    }


def check_neighbours(seats: Iterable[Seat], neighbours: Iterable[ServerStatus]) -> list[DoctorFinding]:
    """Find servers that use CPUs of these seats too.

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


def _check(server: ServerStatus, budget: Budget, root: Path) -> SeatReport:
    by_index = {seat.index: seat for seat in server.seats}
    seated = {by_index[worker.seat]: worker.pid for worker in server.workers if worker.pid}
    report = check_seats(seated, root)
    dead = {one.pid for one in report.seated if one.process is None}
    findings = []
    for worker in server.workers:
        seat = by_index[worker.seat]
        if not worker.pid:
            advice = "it is starting, or the number of workers was lowered (SIGTTOU): read the server's log"
            findings.append(DoctorFinding("yellow", f"seat {seat.index}: it has no worker", advice))
        elif worker.state == SUSPENDED and worker.pid not in dead:
            text = f"seat {seat.index} (pid {worker.pid}): the worker does not run, its connections hang"
            advice = (
                f"continue it (kill -CONT {worker.pid}) or end it (kill -KILL): a new worker takes its seat"
            )
            findings.append(DoctorFinding("red", text, advice))
        elif worker.state != "ready" and worker.pid not in dead:
            text = f"seat {seat.index} (pid {worker.pid}): the worker is {worker.state}"
            findings.append(DoctorFinding("yellow", text, "run the doctor again when it is ready"))
        gone = set(seat.cpus) - budget.cpus
        if gone:
            text = f"seat {seat.index}: CPUs {format_cpulist(gone)} are no longer allowed for this server"
            advice = "its mask or cpuset was narrowed after the start: restart it, so that it plans again"
            findings.append(DoctorFinding("yellow", text, advice))
    findings += _channels(server.workers)
    return SeatReport(report.seated, (*report.findings, *findings))


def _channels(workers: Sequence[WorkerStatus]) -> list[DoctorFinding]:
    """Workers that no gRPC channel has reached, while clients use others."""
    channels = [worker.grpc_channels for worker in workers if worker.state == "ready"]
    found = unreached_workers(channels)
    return [DoctorFinding("yellow", *found)] if found is not None else []


def _others(server: ServerStatus, neighbours: Iterable[ServerStatus]) -> list[DoctorFinding]:
    findings = []
    if server.others:
        pids = ", ".join(map(str, server.others))
        text = f"processes {pids} share a seat with another worker"
        advice = "a reload is going on and they will end: run the doctor again in a moment"
        findings.append(DoctorFinding("yellow", text, advice))
    findings += check_neighbours(server.seats, neighbours)
    findings += [DoctorFinding("green", f"plan: {note}") for note in server.notes]
    return findings


def _arbiter(server: ServerStatus, root: Path) -> list[DoctorFinding]:
    arbiter = Process.read(server.pid, root)
    if arbiter is None:
        return []
    status = read_text(root / f"proc/{server.pid}/status") or ""
    above = re.search(r"^PPid:\s*(\d+)", status, re.MULTILINE)
    parent = Process.read(int(above[1]), root) if above else None
    return check_mask(arbiter, parent, Libraries.read(server.pid, root))


def _policy(seated: Iterable[SeatedProcess], topology: Topology) -> list[DoctorFinding]:
    """Check the memory policy of the workers; with one node of memory it makes no difference."""
    if sum(not node.memoryless for node in topology.nodes) < 2:
        return []
    seated = [one for one in seated if one.process and one.process.policy]
    refused = [
        s for s in seated if s.seat.memory_node is not None and s.process and s.process.policy == "default"
    ]
    if refused:
        text = f"memory policy: first touch in seats {format_cpulist(s.seat.index for s in refused)}"
        advice = "set_mempolicy was refused: --cap-add SYS_NICE (docker), capabilities.add (Kubernetes)"
        return [
            DoctorFinding("green", text + " (pages are local as long as workers load in their seats)", advice)
        ]
    words = sorted({s.process.policy for s in seated if s.process and s.process.policy})
    return [DoctorFinding("green", f"memory policy: {', '.join(words)}")] if words else []


def _ever(now: ThrottlingSample) -> ThrottlingChange | None:
    """The change since the control groups were made; no file tells when that was."""
    counts = max(now.groups.items(), key=lambda item: item[1].throttled_usec, default=None)
    if counts is None:
        return None
    source, count = counts
    return ThrottlingChange(math.inf, count.nr_periods, count.nr_throttled, count.throttled_usec, source)


def _change(change: ThrottlingChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return asdict(change) | {"seconds": round(change.seconds, 3) if math.isfinite(change.seconds) else None}


def _server(server: ServerStatus) -> dict[str, Any]:
    """What the server is, and its settings that are not the default, each with where it comes from."""
    published, origin = server.published, server.published.get("origin") or {}
    return {
        "pid": server.pid,
        "address": server.address,
        "threads": server.threads,
        "settings": {
            name: {
                "value": _hidden(published.get(name), "(a path)"),
                "from": _hidden(origin[name], "settings file"),
            }
            for name in sorted(origin)
        },
    }


def _hidden(value: Any, instead: str) -> Any:
    """A value that clients may see: no path of this machine."""
    return instead if isinstance(value, str) and "/" in value else value


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
    server: ServerStatus, seated: Iterable[SeatedProcess], libraries: Mapping[int, Libraries]
) -> list[dict[str, Any]]:
    processes = {one.pid: one.process for one in seated}
    workers = []
    for worker in server.workers:
        process, mapped = processes.get(worker.pid), libraries.get(worker.pid)
        pages = process.anonymous_bytes if process else None
        node = server.seats[worker.seat].memory_node
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
