"""Reads which allocator and which thread libraries a running process has mapped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cpuserve.machine.files import read_text

__all__ = ["Libraries"]

_OPENMP = re.compile(r"lib(gomp|iomp5|omp)\b.*\.so")
_ALLOCATOR = re.compile(r"lib(jemalloc|tcmalloc|mimalloc)\b|lib(jemalloc|tcmalloc|mimalloc)_")
_TBB = re.compile(r"libtbb\.so")
_VARIABLES = re.compile(r"((OMP|KMP|GOMP|MKL|OPENBLAS)_\w+|CPUSERVE_SEAT)=")


@dataclass(frozen=True)
class Libraries:
    """The libraries and variables of a process that decide about its threads and its heap.

    Attributes:
        openmp: file names of the OpenMP runtimes, such as ``libgomp.so.1.0.0``.
        tbb: whether oneTBB is mapped, which OpenVINO computes with.
        allocator: ``jemalloc``, ``tcmalloc``, ``mimalloc``, ``glibc`` or ``musl``; empty when not known.
        variables: those of OpenMP, BLAS libraries and `cpuserve run` in its first environment.
        huge_bytes: anonymous memory in huge pages; None when it may not be read.
        anonymous_bytes: all anonymous memory; None when it may not be read.
    """

    openmp: tuple[str, ...] = ()
    tbb: bool = False
    allocator: str = ""
    variables: tuple[str, ...] = ()
    huge_bytes: int | None = None
    anonymous_bytes: int | None = None

    @classmethod
    def read(cls, pid: int, root: Path = Path("/")) -> Libraries | None:
        """Read ``root/proc/PID``; None when its mappings may not be read."""
        folder = root / f"proc/{pid}"
        maps = read_text(folder / "maps")
        if maps is None:
            return None
        paths = {fields[5] for line in maps.splitlines() if len(fields := line.split(maxsplit=5)) == 6}
        names = sorted({PurePosixPath(path).name for path in paths if path.startswith("/")})
        environ = (read_text(folder / "environ") or "").split("\0")
        return cls(
            openmp=tuple(name for name in names if _OPENMP.match(name)),
            tbb=any(_TBB.match(name) for name in names),
            allocator=_allocator(names),
            variables=tuple(sorted(word for word in environ if _VARIABLES.match(word))),
            huge_bytes=_kibibytes(folder / "smaps_rollup", "AnonHugePages"),
            anonymous_bytes=_kibibytes(folder / "status", "RssAnon"),
        )


def _allocator(names: list[str]) -> str:
    for name in names:
        found = _ALLOCATOR.match(name)
        if found:
            return found[1] or found[2]
    if any(name.startswith("libc.so") or re.match(r"libc-2\.\d+\.so", name) for name in names):
        return "glibc"
    return "musl" if any(name.startswith("ld-musl") for name in names) else ""


def _kibibytes(file: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", read_text(file) or "", re.MULTILINE)
    return int(found[1]) << 10 if found else None
