"""The checks of ``cpuserve doctor`` on limits and speed, from the CPU quota to the allocator."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cpuserve.machine.budget import Budget
from cpuserve.machine.cgroup import ThrottlingChange
from cpuserve.machine.files import format_cpulist, read_int, read_text
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.process import Process, moves_threads
from cpuserve.machine.seat_checks import DoctorFinding, Level

__all__ = [
    "MANY",
    "check_allocator",
    "check_budget",
    "check_mask",
    "check_memory",
    "check_openmp",
    "check_pages",
    "check_processor",
    "check_throttling",
]

MANY = 0.05
"""The part of the periods, 0 to 1, from which throttling is a fault: about one slow request in twenty."""

_FULL = 0.9

_X86 = {
    "AVX2": {"avx2"},
    "AVX512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16", "amx_bf16"},
    "AMX": {"amx_int8", "amx_bf16"},
}
_ARM = {
    "NEON": {"asimd"},
    "dot product": {"asimddp"},
    "SVE": {"sve", "sve2"},
    "int8 matrix": {"i8mm"},
    "BF16": {"bf16"},
}


def check_budget(budget: Budget, threads: int | None) -> list[DoctorFinding]:
    """Check the budget.

    Args:
        budget: of the server, or of this process.
        threads: compute threads of all workers together; None when no server runs.
    """
    lines = [DoctorFinding("green", line) for line in budget.explain()]
    if budget.online and len(budget.cpus) < budget.online:
        advice = (
            "to use more: docker --cpuset-cpus, Kubernetes static CPU manager, taskset, systemd AllowedCPUs"
        )
        lines[0] = DoctorFinding("green", lines[0].text, advice)
    quota = budget.quota
    if quota is None:
        return lines
    if quota != int(quota):
        lines[1] = DoctorFinding(
            "yellow",
            f"{lines[1].text}: not a whole number, so the last of {math.ceil(quota)} threads is stopped in "
            "every period under load",
            f"give {math.ceil(quota)} CPUs: docker --cpus, Kubernetes limits.cpu, cpu.max",
        )
    if threads is not None and threads > math.ceil(quota):
        lines.append(
            DoctorFinding(
                "yellow",
                f"{threads} compute threads for {quota:g} CPUs of time: the quota was lowered after the "
                "start, or --threads asks for more",
                "restart the server, so that it plans for the quota there is",
            )
        )
    return lines


def check_throttling(
    budget: Budget, threads: int | None, window: ThrottlingChange | None, life: ThrottlingChange | None
) -> list[DoctorFinding]:
    """Check whether the quota stops the server: in the sample window, and since its start.

    Args:
        budget: the server's.
        threads: compute threads of all workers together; None when no server runs.
        window: the change of the counters just now.
        life: their change since the server started, or since the group was made.
    """
    if budget.quota is None and not (window and window.nr_throttled):
        return [DoctorFinding("green", "throttling: none, there is no quota in sight")]
    if window is None:
        text = "throttling: no control group in sight counts it (cpu.stat)"
        return [DoctorFinding("yellow", text, "run the doctor where the group's cpu.stat can be read")]
    over = budget.quota is not None and threads is not None and threads > budget.quota
    now = window.share >= MANY and window.nr_throttled > 1
    level: Level = "red" if now and over else "yellow" if now else "green"
    limit = "" if budget.quota is None else f", quota {budget.quota:g} CPUs"
    running = "" if threads is None else f" for {threads} compute threads"
    findings = [
        DoctorFinding(
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
            DoctorFinding(
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


def check_mask(arbiter: Process, parent: Process | None, libraries: Libraries | None) -> list[DoctorFinding]:
    """Check whether an OpenMP runtime took CPUs from the arbiter before it planned the seats."""
    variables = ", ".join(arbiter.affinity_variables)
    if not variables or libraries is None or not libraries.openmp:
        return []
    mask = frozenset(arbiter.threads[0].allowed)
    seated = any(word.startswith("CPUSERVE_SEAT=") for word in libraries.variables)  # narrowed on purpose
    wider = parent is not None and not seated and frozenset(parent.threads[0].allowed) > mask
    level: Level = "red" if wider else "yellow"
    return [
        DoctorFinding(
            level,
            f"{', '.join(libraries.openmp)} is loaded into the arbiter (pid {arbiter.pid}) and {variables} "
            f"moves its threads: it may run on CPUs {format_cpulist(mask)}"
            + (f", its parent on {format_cpulist(parent.threads[0].allowed)}" if parent and wider else "")
            + "; the seats were planned for that mask",
            "unset the variable, or take the runtime out of LD_PRELOAD, and start again",
        )
    ]


def check_memory(budget: Budget, used: int | None) -> list[DoctorFinding]:
    """Check how near the workers' own memory, in bytes, is to the control group's limit."""
    limit = budget.memory_limit_bytes
    if limit is None or used is None:
        return []
    text = f"the workers' own memory: {used >> 20} MiB of {limit >> 20} MiB ({used / limit:.0%})"
    if used < _FULL * limit:
        return [DoctorFinding("green", text)]
    advice = "the kernel will kill a worker: raise the limit (docker --memory), or run fewer --workers"
    return [DoctorFinding("yellow", text, advice)]


def check_processor(machine: Fingerprint) -> list[DoctorFinding]:
    """Check the instruction sets that inference kernels use, and the governor of the clock frequency."""
    flags = set(machine.flags)
    kinds = _ARM if flags & {"asimd", "sve"} else _X86
    there = {name: bool(flags & words) for name, words in kinds.items()}
    text = f"{machine.cpu}: " + ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in there.items())
    if not flags:
        text = "the processor's instruction sets are not shown"
        findings = [DoctorFinding("yellow", text, "run the doctor where /proc/cpuinfo can be read")]
    elif not there.get("AVX2", True):
        advice = "pass the host's CPU model to the virtual machine, or use a machine with AVX2"
        findings = [DoctorFinding("yellow", text, advice)]
    elif not there.get("VNNI", there.get("dot product", True)):
        findings = [
            DoctorFinding("green", text, "without dot-product instructions int8 models gain less over f32")
        ]
    else:
        findings = [DoctorFinding("green", text)]
    governor = machine.governor
    if not governor:
        findings.append(
            DoctorFinding("green", "governor: the kernel shows none (usual in a virtual machine)")
        )
    elif governor == "performance":
        findings.append(DoctorFinding("green", "governor: performance"))
    else:
        advice = "the clock follows the load, which costs latency: cpupower frequency-set -g performance"
        findings.append(DoctorFinding("yellow", f"governor: {governor}", advice))
    return findings


def check_openmp(workers: Sequence[Libraries]) -> list[DoctorFinding]:
    """Check whether OpenMP's variables have any effect on the workers."""
    runtimes = sorted({name for libraries in workers for name in libraries.openmp})
    variables = sorted({word for libraries in workers for word in libraries.variables})
    openmp = [word for word in variables if word.startswith(("OMP_", "KMP_", "GOMP_"))]
    engine = "; OpenVINO computes with oneTBB" if any(libraries.tbb for libraries in workers) else ""
    if not runtimes:
        said = f" ({', '.join(openmp)} is set)" if openmp else ""
        return [
            DoctorFinding(
                "green",
                "no OpenMP runtime is mapped: OMP_NUM_THREADS, KMP_* and GOMP_* have no effect"
                f"{said}{engine}",
            )
        ]
    moving = [word for word in openmp if moves_threads(word)]
    text = f"OpenMP runtimes mapped: {', '.join(runtimes)}; OMP_NUM_THREADS counts for what they run{engine}"
    if moving:
        return [
            DoctorFinding(
                "yellow",
                f"{text}; {', '.join(moving)} makes them move threads",
                "unset it: the seats already decide where threads run",
            )
        ]
    if len(runtimes) > 1:
        advice = "two runtimes start two teams on the same CPUs: let one library bring OpenMP"
        return [DoctorFinding("yellow", text, advice)]
    return [DoctorFinding("green", text)]


def check_allocator(workers: Iterable[Libraries]) -> list[DoctorFinding]:
    """Which allocator the workers use."""
    names = sorted({libraries.allocator or "not known" for libraries in workers})
    if not names:
        return []
    text = f"allocator: {', '.join(names)}"
    if names == ["musl"]:
        advice = "musl's allocator is slow with many threads: cpuserve run --allocator auto -- cpuserve serve"
        return [DoctorFinding("yellow", text, advice)]
    if names == ["glibc"]:
        return [
            DoctorFinding("green", text, "to try another: cpuserve run --allocator auto -- cpuserve serve")
        ]
    return [DoctorFinding("green", text)]


def check_pages(root: Path, workers: Sequence[Libraries]) -> list[DoctorFinding]:
    """Check transparent and reserved huge pages, and how much of the workers' memory is in them."""
    choice = read_text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", choice)
    reserved = read_int(root / "proc/sys/vm/nr_hugepages") or 0
    huge = [libraries.huge_bytes for libraries in workers if libraries.huge_bytes is not None]
    used = f"; {sum(huge) / (1 << 20):.0f} MiB of the workers' memory is in them" if huge else ""
    text = f"transparent huge pages: {chosen[1] if chosen else 'not shown'}{used}; reserved: {reserved}"
    if chosen and chosen[1] == "madvise" and workers and not sum(huge):
        advice = "to try them for weights: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (glibc 2.35 or newer)"
        return [DoctorFinding("green", text, advice)]
    return [DoctorFinding("green", text)]
