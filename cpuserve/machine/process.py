"""Reads a running process: the CPUs of its threads and the NUMA nodes of its memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cpuserve.machine.files import parse_cpulist, read_text

__all__ = ["Process", "Thread", "moves_threads"]

_MOVING = re.compile(r"(OMP_PROC_BIND|OMP_PLACES|KMP_AFFINITY|KMP_HW_SUBSET|GOMP_CPU_AFFINITY)=(.+)")
_HARMLESS = frozenset({"false", "none", "disabled"})


@dataclass(frozen=True)
class Thread:
    """One thread of a process.

    Attributes:
        tid: its id; the main thread has that of the process.
        name: as the kernel shows it, at most 15 characters.
        allowed: the CPUs it may run on.
        last_cpu: the CPU it ran on last, or None when the kernel does not tell.
    """

    tid: int
    name: str
    allowed: tuple[int, ...]
    last_cpu: int | None


@dataclass(frozen=True)
class Process:
    """One process at one moment.

    Attributes:
        pid: its id.
        threads: by id, the main thread first.
        anonymous_bytes: node to bytes of anonymous memory there (heap, stacks, weights that were copied);
            None when it may not be read.
        affinity_variables: ``NAME=value`` of the variables in its environment that make OpenMP move threads.
        policy: its memory policy, such as ``prefer:0`` or ``default`` (first touch); None when it may not be
            read.
    """

    pid: int
    threads: tuple[Thread, ...]
    anonymous_bytes: Mapping[int, int] | None = field(default=None, hash=False)
    affinity_variables: tuple[str, ...] = ()
    policy: str | None = None

    @classmethod
    def read(cls, pid: int, root: Path = Path("/")) -> Process | None:
        """Read ``root/proc/PID``; None when there is no such process, or it has just ended."""
        folder = root / f"proc/{pid}"
        try:
            tids = sorted(int(entry.name) for entry in (folder / "task").iterdir())
        except OSError:
            return None
        tids.sort(key=lambda tid: tid != pid)
        threads = tuple(thread for tid in tids if (thread := _thread(folder / f"task/{tid}", tid)))
        if not threads:
            return None
        maps = read_text(folder / "numa_maps")
        return cls(pid, threads, _anonymous(maps), _variables(folder / "environ"), _policy(maps))

    @property
    def allowed(self) -> frozenset[int]:
        """The CPUs that any of its threads may run on."""
        return frozenset(cpu for thread in self.threads for cpu in thread.allowed)

    def share_on(self, node: int) -> float | None:
        """The part, 0 to 1, of the anonymous memory that is on ``node``; None when no memory can be seen."""
        total = sum((self.anonymous_bytes or {}).values())
        return (self.anonymous_bytes or {}).get(node, 0) / total if total else None


def moves_threads(variable: str) -> bool:
    """Whether ``NAME=value`` makes an OpenMP runtime change threads' CPUs."""
    found = _MOVING.match(variable)
    return found is not None and found[2].lower() not in _HARMLESS


def _thread(folder: Path, tid: int) -> Thread | None:
    status = read_text(folder / "status") or ""
    allowed = re.search(r"^Cpus_allowed_list:\s*(\S*)", status, re.MULTILINE)
    name = re.search(r"^Name:\s*(.*)", status, re.MULTILINE)
    # What has ended keeps its entry until its parent has looked.
    if allowed is None or re.search(r"^State:\s*[ZX]", status, re.MULTILINE):
        return None
    # The name, in brackets, may hold blanks and brackets itself: count the fields after its end.
    fields = (read_text(folder / "stat") or "").rpartition(")")[2].split()
    last = int(fields[36]) if len(fields) > 36 else None
    return Thread(tid, name[1] if name else "?", parse_cpulist(allowed[1]), last)


def _policy(text: str | None) -> str | None:
    """The policy of most mappings: a library may have given some of its own another one."""
    words = [fields[1] for line in (text or "").splitlines() if len(fields := line.split()) > 1]
    return max(sorted(set(words)), key=words.count, default=None)


def _anonymous(text: str | None) -> dict[int, int] | None:
    if text is None:
        return None
    pages: dict[int, int] = {}
    for line in text.splitlines():
        # A private mapping of a file counts the file's own pages in the same columns.
        if " anon=" not in line or " file=" in line:
            continue
        size = re.search(r" kernelpagesize_kB=(\d+)", line)
        unit = (int(size[1]) if size else 4) << 10
        for node, count in re.findall(r" N(\d+)=(\d+)", line):
            pages[int(node)] = pages.get(int(node), 0) + int(count) * unit
    return pages


def _variables(file: Path) -> tuple[str, ...]:
    return tuple(word for word in (read_text(file) or "").split("\0") if moves_threads(word))
