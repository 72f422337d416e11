"""Judges what makes inference slow without being wrong: clock, instructions, allocator, pages, OpenMP."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cpuserve.machine.files import read_int, read_text
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.libraries import Libraries
from cpuserve.machine.process import moves_threads
from cpuserve.machine.verify import Finding

__all__ = ["judge_allocator", "judge_openmp", "judge_pages", "judge_processor"]

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


def judge_processor(machine: Fingerprint) -> list[Finding]:
    """The instruction sets that inference kernels choose by, and the governor of the clock."""
    flags = set(machine.flags)
    kinds = _ARM if flags & {"asimd", "sve"} else _X86
    there = {name: bool(flags & words) for name, words in kinds.items()}
    text = f"{machine.cpu}: " + ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in there.items())
    if not flags:
        text = "the processor's instruction sets are not shown"
        findings = [Finding("yellow", text, "run the doctor where /proc/cpuinfo can be read")]
    elif not there.get("AVX2", True):
        advice = "pass the host's CPU model to the virtual machine, or use a machine with AVX2"
        findings = [Finding("yellow", text, advice)]
    elif not there.get("VNNI", there.get("dot product", True)):
        findings = [Finding("green", text, "without dot-product instructions int8 models gain less over f32")]
    else:
        findings = [Finding("green", text)]
    governor = machine.governor
    if not governor:
        findings.append(Finding("green", "governor: the kernel shows none (usual in a virtual machine)"))
    elif governor == "performance":
        findings.append(Finding("green", "governor: performance"))
    else:
        advice = "the clock follows the load, which costs latency: cpupower frequency-set -g performance"
        findings.append(Finding("yellow", f"governor: {governor}", advice))
    return findings


def judge_openmp(workers: Sequence[Libraries]) -> list[Finding]:
    """Whether OpenMP's variables can have any effect on the workers."""
    runtimes = sorted({name for libraries in workers for name in libraries.openmp})
    variables = sorted({word for libraries in workers for word in libraries.variables})
    openmp = [word for word in variables if word.startswith(("OMP_", "KMP_", "GOMP_"))]
    engine = "; OpenVINO computes with oneTBB" if any(libraries.tbb for libraries in workers) else ""
    if not runtimes:
        said = f" ({', '.join(openmp)} is set)" if openmp else ""
        return [
            Finding(
                "green",
                "no OpenMP runtime is mapped: OMP_NUM_THREADS, KMP_* and GOMP_* have no effect"
                f"{said}{engine}",
            )
        ]
    moving = [word for word in openmp if moves_threads(word)]
    text = f"OpenMP runtimes mapped: {', '.join(runtimes)}; OMP_NUM_THREADS counts for what they run{engine}"
    if moving:
        return [
            Finding(
                "yellow",
                f"{text}; {', '.join(moving)} makes them move threads",
                "unset it: the seats already decide where threads run",
            )
        ]
    if len(runtimes) > 1:
        advice = "two runtimes start two teams on the same CPUs: let one library bring OpenMP"
        return [Finding("yellow", text, advice)]
    return [Finding("green", text)]


def judge_allocator(workers: Iterable[Libraries]) -> list[Finding]:
    """Which allocator the workers use."""
    names = sorted({libraries.allocator or "not known" for libraries in workers})
    if not names:
        return []
    text = f"allocator: {', '.join(names)}"
    if names == ["musl"]:
        advice = "musl's allocator is slow with many threads: cpuserve run --allocator auto -- cpuserve serve"
        return [Finding("yellow", text, advice)]
    if names == ["glibc"]:
        return [Finding("green", text, "to try another: cpuserve run --allocator auto -- cpuserve serve")]
    return [Finding("green", text)]


def judge_pages(root: Path, workers: Sequence[Libraries]) -> list[Finding]:
    """Transparent and reserved huge pages, and how much of the workers' memory is in them."""
    choice = read_text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", choice)
    reserved = read_int(root / "proc/sys/vm/nr_hugepages") or 0
    huge = [libraries.huge_bytes for libraries in workers if libraries.huge_bytes is not None]
    used = f"; {sum(huge) / (1 << 20):.0f} MiB of the workers' memory is in them" if huge else ""
    text = f"transparent huge pages: {chosen[1] if chosen else 'not shown'}{used}; reserved: {reserved}"
    if chosen and chosen[1] == "madvise" and workers and not sum(huge):
        advice = "to try them for weights: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 (glibc 2.35 or newer)"
        return [Finding("green", text, advice)]
    return [Finding("green", text)]
