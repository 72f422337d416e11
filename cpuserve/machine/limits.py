"""Judges the limits a server runs under: mask, quota and its throttling, memory; it changes none of them."""

from __future__ import annotations

import math

from cpuserve.machine.budget import Budget
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.process import Process
from cpuserve.machine.throttling import Change
from cpuserve.machine.verify import Finding, Level

__all__ = ["MANY", "judge_budget", "judge_mask", "judge_memory", "judge_throttling"]

MANY = 0.05
"""The part of the periods that may be throttled before it is a fault: one slow request in twenty is."""

_FULL = 0.9


def judge_budget(budget: Budget, threads: int | None) -> list[Finding]:
    """The budget and its arithmetic; ``threads`` is how many compute threads the server runs, if one does."""
    lines = [Finding("green", line) for line in budget.explain()]
    if budget.online and len(budget.cpus) < budget.online:
        advice = (
            "to use more: docker --cpuset-cpus, Kubernetes static CPU manager, taskset, systemd AllowedCPUs"
        )
        lines[0] = Finding("green", lines[0].text, advice)
    quota = budget.quota
    if quota is None:
        return lines
    if quota != int(quota):
        lines[1] = Finding(
            "yellow",
            f"{lines[1].text}: not a whole number, so the last of {math.ceil(quota)} threads is stopped in "
            "every period under load",
            f"give {math.ceil(quota)} CPUs: docker --cpus, Kubernetes limits.cpu, cpu.max",
        )
    if threads is not None and threads > math.ceil(quota):
        lines.append(
            Finding(
                "yellow",
                f"{threads} compute threads for {quota:g} CPUs of time: the quota was lowered after the "
                "start, or --threads asks for more",
                "restart the server, so that it plans for the quota there is",
            )
        )
    return lines


def judge_throttling(
    budget: Budget, threads: int | None, window: Change | None, life: Change | None
) -> list[Finding]:
    """Whether the quota stops the server: in the sample window, and over its life.

    Args:
        budget: the server's.
        threads: compute threads of all workers together; None when no server runs.
        window: what the counters did just now.
        life: what they did since the server started, or since the group was made.
    """
    if budget.quota is None and not (window and window.nr_throttled):
        return [Finding("green", "throttling: none, there is no quota in sight")]
    if window is None:
        text = "throttling: no control group in sight counts it (cpu.stat)"
        return [Finding("yellow", text, "run the doctor where the group's cpu.stat can be read")]
    over = budget.quota is not None and threads is not None and threads > budget.quota
    now = window.share >= MANY and window.nr_throttled > 1
    level: Level = "red" if now and over else "yellow" if now else "green"
    limit = "" if budget.quota is None else f", quota {budget.quota:g} CPUs"
    running = "" if threads is None else f" for {threads} compute threads"
    findings = [
        Finding(
            level,
            f"throttling now: stopped in {window.nr_throttled} of {window.nr_periods} periods in "
            f"{window.seconds:.1f} s ({window.throttled_usec / 1000:.0f} ms of CPU time){limit}{running}",
            _advice(budget, threads) if now else "",
        )
    ]
    if life is not None:
        before = life.share >= MANY
        since = "the group was made" if math.isinf(life.seconds) else "the start"
        findings.append(
            Finding(
                "yellow" if before else "green",
                f"throttling since {since}: stopped in {life.nr_throttled} of {life.nr_periods} periods "
                f"({life.throttled_usec / 1e6:.1f} s of CPU time)",
                "" if not before else "as above" if now else _advice(budget, threads),
            )
        )
    return findings


def _advice(budget: Budget, threads: int | None) -> str:
    if budget.quota is None:
        return "a group above the ones in sight has a quota: ask who runs the machine"
    wanted = max(threads or 0, math.ceil(budget.quota + 0.5))
    fewer = int(budget.quota)
    less = f", or run at most {fewer} compute threads (--workers, --threads)" if fewer else ""
    return (
        f"raise the quota to {wanted} CPUs (docker --cpus {wanted}, Kubernetes limits.cpu {wanted}, cpu.max)"
        + less
    )


def judge_mask(arbiter: Process, parent: Process | None, libraries: Libraries | None) -> list[Finding]:
    """Whether an OpenMP runtime took CPUs from the arbiter before it planned."""
    variables = ", ".join(arbiter.affinity_variables)
    if not variables or libraries is None or not libraries.openmp:
        return []
    mask = frozenset(arbiter.threads[0].allowed)
    seated = any(word.startswith("CPUSERVE_SEAT=") for word in libraries.variables)  # narrowed on purpose
    wider = parent is not None and not seated and frozenset(parent.threads[0].allowed) > mask
    level: Level = "red" if wider else "yellow"
    return [
        Finding(
            level,
            f"{', '.join(libraries.openmp)} is loaded into the arbiter (pid {arbiter.pid}) and {variables} "
            f"moves its threads: it may run on CPUs {format_cpulist(mask)}"
            + (f", its parent on {format_cpulist(parent.threads[0].allowed)}" if parent and wider else "")
            + "; the seats were planned for that mask",
            "unset the variable, or take the runtime out of LD_PRELOAD, and start again",
        )
    ]


def judge_memory(budget: Budget, used: int | None) -> list[Finding]:
    """How near the workers' own memory, in bytes, is to the control group's limit."""
    limit = budget.memory_limit_bytes
    if limit is None or used is None:
        return []
    text = f"the workers' own memory: {used >> 20} MiB of {limit >> 20} MiB ({used / limit:.0%})"
    if used < _FULL * limit:
        return [Finding("green", text)]
    advice = "the kernel will kill a worker: raise the limit (docker --memory), or run fewer --workers"
    return [Finding("yellow", text, advice)]
