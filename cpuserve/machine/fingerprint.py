"""Names a machine by what decides its speed, so that presets are applied only where they were measured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpuserve.machine.budget import Budget
from cpuserve.machine.files import read_text
from cpuserve.machine.topology import Topology

__all__ = ["FLAGS", "Fingerprint"]

FLAGS = (
    "amx_int8",
    "amx_bf16",
    "avx512_vnni",
    "avx512_bf16",
    "avx512f",
    "avx_vnni",
    "avx2",
    "sve2",
    "sve",
    "i8mm",
    "bf16",
    "asimddp",
    "asimd",
)
"""Instruction sets that inference kernels choose by, most telling first, as /proc/cpuinfo spells them."""

_NOISE = re.compile(r"\((?:R|TM)\)|@.*|\b(?:CPU|Processor|\d+-Core|with .*)", re.IGNORECASE)


@dataclass(frozen=True)
class Fingerprint:
    """What is known of the part of the machine that this process may use.

    Attributes:
        cpu: the processor's name.
        vendor: its maker; on ARM the implementer's number.
        family: with ``model`` and ``stepping`` the exact part; empty when the kernel does not tell.
        model: see ``family``.
        stepping: see ``family``.
        flags: which of ``FLAGS`` it has.
        cpus: usable logical CPUs.
        cores: usable physical cores.
        kinds: usable cores of each kind, such as ``6P8E``; empty on a machine of one kind.
        threads: how many threads can run at once under the quota.
        quota: CPU time in CPUs; None is no quota.
        nodes: NUMA nodes with usable CPUs, 1 when the kernel shows none.
        smt: whether two usable CPUs share a core.
        cache_bytes: the largest last-level cache over usable CPUs.
        governor: of the clock frequency; empty when the kernel does not tell.
        memory_bytes: the machine's memory, or the control group's limit when that is less.
        kernel: its release.
    """

    cpu: str
    vendor: str
    family: str
    model: str
    stepping: str
    flags: tuple[str, ...]
    cpus: int
    cores: int
    kinds: str
    threads: int
    quota: float | None
    nodes: int
    smt: bool
    cache_bytes: int
    governor: str
    memory_bytes: int
    kernel: str

    @classmethod
    def read(cls, root: Path, budget: Budget, topology: Topology) -> Fingerprint:
        """Read /proc and /sys below ``root``, for the part of ``topology`` that ``budget`` allows."""
        info = _cpuinfo(root, min(budget.cpus, default=0))
        words = set((info.get("flags") or info.get("Features") or "").split())
        usable = [topology.by_id[cpu] for cpu in sorted(budget.cpus) if cpu in topology.by_id]
        cores = topology.cores(budget.cpus)
        memory = re.search(r"^MemTotal:\s*(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE)
        limits = [int(memory[1]) << 10 if memory else 0, budget.memory_limit_bytes or 0]
        kinds = [topology.by_id[core[0]].kind for core in cores if core[0] in topology.by_id]
        counts = {kind: kinds.count(kind) for kind in ("P", "E")}
        return cls(
            cpu=info.get("model name") or f"CPU part {info.get('CPU part', 'unknown')}",
            vendor=info.get("vendor_id") or info.get("CPU implementer", ""),
            family=info.get("cpu family") or info.get("CPU architecture", ""),
            model=info.get("model") or info.get("CPU part", ""),
            stepping=info.get("stepping") or info.get("CPU revision", ""),
            flags=tuple(flag for flag in FLAGS if flag in words),
            cpus=len(budget.cpus),
            cores=len(cores),
            kinds="".join(f"{count}{kind}" for kind, count in counts.items() if count),
            threads=budget.effective,
            quota=budget.quota,
            nodes=len({cpu.node for cpu in usable}) or 1,
            smt=any(len(core) > 1 for core in cores),
            cache_bytes=max((c.last_cache.size_bytes for c in usable if c.last_cache), default=0),
            governor=_governor(root, budget),
            memory_bytes=min((limit for limit in limits if limit), default=0),
            kernel=read_text(root / "proc/sys/kernel/osrelease") or "",
        )

    @property
    def short(self) -> str:
        """A readable name that stays the same as long as the speed should, such as ``amd-epyc-2c-1n-...``."""
        isa = self.flags[0].replace("_", "") if self.flags else "base"
        return f"{self._slug}-{min(self.cores, self.threads)}c-{self.nodes}n-{isa}-{self._digest}"

    @property
    def _slug(self) -> str:
        words = re.findall(r"[a-z0-9]+", _NOISE.sub(" ", self.cpu).lower())
        return "-".join(words[:6]) or "cpu"

    @property
    def _digest(self) -> str:
        # Memory size and kernel are shown but left out: both differ between machines that measure the same.
        deciding = {
            name: value for name, value in vars(self).items() if name not in {"memory_bytes", "kernel"}
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]


def _cpuinfo(root: Path, cpu: int) -> Mapping[str, str]:
    """The paragraph of ``cpu`` (machines with two kinds of core differ), or the first."""
    paragraphs = []
    for paragraph in (read_text(root / "proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines())
        paragraphs.append({name.strip(): value.strip() for name, _, value in pairs})
    first = paragraphs[0] if paragraphs else {}
    return next((info for info in paragraphs if info.get("processor") == str(cpu)), first)


def _governor(root: Path, budget: Budget) -> str:
    folder = root / "sys/devices/system/cpu"
    found = {read_text(folder / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in budget.cpus}
    return "+".join(sorted(name for name in found if name))
