"""Checks that the processes of a server run in the seats that were planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuserve.machine.files import format_cpulist
from cpuserve.machine.placement import Seat
from cpuserve.machine.process import Process, Thread

__all__ = [
    "MIN_BYTES",
    "MIN_SHARE",
    "DoctorFinding",
    "Level",
    "SeatReport",
    "SeatedProcess",
    "check_seats",
    "worst_level",
]

Level = Literal["green", "yellow", "red"]

MIN_SHARE = 0.85
"""The part of a worker's anonymous memory that must be on its own node. It is below 1, because pages shared
with the arbiter stay on the arbiter's node."""

MIN_BYTES = 16 << 20
"""Anonymous memory below which the pages shared with the arbiter decide the share."""

_ORDER: tuple[Level, ...] = ("green", "yellow", "red")


@dataclass(frozen=True)
class DoctorFinding:
    """One line of the doctor's report.

    Attributes:
        level: ``green`` is as planned, ``yellow`` costs speed or is unknown, ``red`` is not as planned.
        text: what was found.
        advice: what to do about it; empty for nothing.
    """

    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True)
class SeatedProcess:
    """A seat and its process; None when there is no such process."""

    seat: Seat
    pid: int
    process: Process | None


@dataclass(frozen=True)
class SeatReport:
    """The processes of all seats and the findings on them.

    Attributes:
        seated: one a seat, by its number.
        findings: seat by seat, then those about several seats.
    """

    seated: tuple[SeatedProcess, ...]
    findings: tuple[DoctorFinding, ...]

    @property
    def level(self) -> Level:
        """The worst level of any finding."""
        return worst_level(self.findings)


def worst_level(findings: Iterable[DoctorFinding]) -> Level:
    """The worst level of any finding; green when there is none."""
    return max((finding.level for finding in findings), key=_ORDER.index, default="green")


def check_seats(pids_by_seat: Mapping[Seat, int], root: Path = Path("/")) -> SeatReport:
    """Read the process of every seat and compare it with the plan.

    Args:
        pids_by_seat: each seat and the id of its process.
        root: where /proc is.
    """
    ordered = sorted(pids_by_seat.items(), key=lambda item: item[0].index)
    seated = tuple(SeatedProcess(seat, pid, Process.read(pid, root)) for seat, pid in ordered)
    findings: list[DoctorFinding] = []
    for one in seated:
        if one.process is None:
            text = f"{_who(one)}: there is no such process"
            findings.append(DoctorFinding("red", text, "the worker has died: read the server's log"))
        else:
            findings += _threads(one, one.process)
            findings += _pages(one, one.process)
    findings += _overlaps(seated)
    return SeatReport(seated, tuple(findings))


def _threads(one: SeatedProcess, process: Process) -> list[DoctorFinding]:
    seat = frozenset(one.seat.cpus)
    where = f"CPUs {format_cpulist(seat)}"
    strays = [thread for thread in process.threads if not seat.issuperset(thread.allowed)]
    if strays:
        allowed = format_cpulist(cpu for thread in strays for cpu in thread.allowed)
        return [
            DoctorFinding(
                "red",
                f"{_who(one)}: {len(strays)} of {len(process.threads)} threads may leave {where} "
                f"(they may run on {allowed}): {_names(strays)}",
                "another program has moved them, or they started before the worker took its seat (a "
                "preloaded application): restart the worker",
            )
        ]
    narrowed = _narrowed(one, process)
    if narrowed:
        return [narrowed]
    text = f"{_who(one)}: all {len(process.threads)} threads stay on {where}"
    unused = seat - process.allowed
    if unused:
        text += f", though none may use {format_cpulist(unused)}"
    return [DoctorFinding("green", text)]


def _narrowed(one: SeatedProcess, process: Process) -> DoctorFinding | None:
    """Whether something has taken CPUs of the seat away from the threads, as OpenMP runtimes do."""
    seat = frozenset(one.seat.cpus)
    masks = [frozenset(thread.allowed) for thread in process.threads]
    main = masks[0]
    crowd = masks.count(main)
    # One thread a CPU may be pinned on purpose. A mask smaller than the seat that many threads have in common
    # was inherited from a main thread that has been narrowed.
    crowded = main < seat and crowd > len(main) and 2 * crowd > len(masks)
    starved = len(process.allowed) < one.seat.threads
    if not crowded and not starved:
        return None
    pinned_elsewhere = any(mask < seat and mask != main for mask in masks)
    level: Level = "red" if starved or process.affinity_variables or not pinned_elsewhere else "yellow"
    count, cpus = (crowd, main) if crowded else (len(masks), process.allowed)
    variables = ", ".join(process.affinity_variables)
    return DoctorFinding(
        level,
        f"{_who(one)}: {count} of {len(masks)} threads are confined to CPUs {format_cpulist(cpus)} of "
        f"{format_cpulist(seat)}, where {one.seat.threads} threads were planned"
        + (f"; its environment has {variables}" if variables else ""),
        "an OpenMP runtime or a library has narrowed the mask: unset OMP_PROC_BIND, OMP_PLACES, "
        "KMP_AFFINITY and GOMP_CPU_AFFINITY",
    )


def _pages(one: SeatedProcess, process: Process) -> list[DoctorFinding]:
    node = one.seat.memory_node
    if node is None:
        return []
    if process.anonymous_bytes is None:
        text = f"{_who(one)}: its pages' nodes cannot be read (/proc/{one.pid}/numa_maps)"
        return [
            DoctorFinding("yellow", text, "ask as root or as the server's own user, on a kernel with NUMA")
        ]
    total = sum(process.anonymous_bytes.values())
    share = process.share_on(node) or 0.0
    text = f"{_who(one)}: {share:.1%} of {total / (1 << 20):.0f} MiB anonymous memory is on node {node}"
    if total < MIN_BYTES:
        return [DoctorFinding("green", text + " (too little to judge)")]
    if share >= MIN_SHARE:
        return [DoctorFinding("green", text)]
    level: Level = "yellow" if share >= 0.5 else "red"
    return [
        DoctorFinding(
            level,
            f"{text}, less than {MIN_SHARE:.0%}",
            "pages stay where they were first written: restart the worker, so that it loads its models in "
            "its seat, and see whether the node is full",
        )
    ]


def _overlaps(seated: Iterable[SeatedProcess]) -> list[DoctorFinding]:
    users: dict[int, set[SeatedProcess]] = {}
    for one in seated:
        seen = one.process.allowed if one.process else frozenset[int]()
        for cpu in seen | frozenset(one.seat.cpus):
            users.setdefault(cpu, set()).add(one)
    shared: dict[tuple[int, ...], list[int]] = {}
    who: dict[int, SeatedProcess] = {}
    for cpu, group in sorted(users.items()):
        who |= {one.seat.index: one for one in group}
        if len(group) > 1:
            shared.setdefault(tuple(sorted(one.seat.index for one in group)), []).append(cpu)
    return [
        DoctorFinding(
            "red",
            f"CPUs {format_cpulist(cpus)} are shared by seats "
            + ", ".join(f"{index} (pid {who[index].pid})" for index in indices),
            "two workers on one CPU slow each other many times: give each server its own CPUs "
            "(--workers, cpuset, taskset), or restart it so that it plans again",
        )
        for indices, cpus in shared.items()
    ]


def _who(one: SeatedProcess) -> str:
    return f"seat {one.seat.index} (pid {one.pid})"


def _names(threads: list[Thread]) -> str:
    names = [f"{thread.name} ({thread.tid})" for thread in threads[:3]]
    return ", ".join(names) + (" and others" if len(threads) > 3 else "")
