"""Finds libraries to preload and sets variables, for a program in a seat and for cpuserve itself."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuserve.errors import CpuserveError
from cpuserve.machine import numa
from cpuserve.machine.placement import Seat

__all__ = [
    "Allocator",
    "OpenMP",
    "Preload",
    "find_library",
    "find_preload",
    "library_folders",
    "program_environment",
    "relaunch",
    "relaunch_environment",
]

Allocator = Literal["none", "auto", "jemalloc", "tcmalloc"]
OpenMP = Literal["auto", "none", "libiomp5"]

_NAMES = {
    "jemalloc": ("libjemalloc.so",),
    "tcmalloc": ("libtcmalloc_minimal.so", "libtcmalloc.so"),
    "libiomp5": ("libiomp5.so",),
}
_INTEL = {
    # Inside a mask the runtime counts only the CPUs of the mask: this fills cores one by one, siblings last.
    "KMP_AFFINITY": "granularity=fine,compact,1,0",
    "KMP_BLOCKTIME": "1",
}


@dataclass(frozen=True)
class Preload:
    """Libraries to preload.

    Attributes:
        allocator: the allocator's file, or None for the program's own.
        openmp: the OpenMP runtime's file, or None.
        missing: the libraries that ``auto`` did not find.
    """

    allocator: Path | None = None
    openmp: Path | None = None
    missing: tuple[str, ...] = ()


def find_preload(
    allocator: Allocator, openmp: OpenMP, where: Iterable[Path], env: Mapping[str, str] = os.environ
) -> Preload:
    """Find the libraries to preload.

    Where the user's LD_PRELOAD already names a library of a kind, none of that kind is added.

    Args:
        allocator: ``auto`` is jemalloc, else tcmalloc, else the program's own.
        openmp: ``auto`` is libiomp5 when it is found.
        where: the folders to look in, in this order.
        env: the program's environment.

    Raises:
        CpuserveError: a library that was asked for by name is not there.
    """
    places = tuple(where)
    said = env.get("LD_PRELOAD", "")
    missing: list[str] = []

    def one(wanted: str, candidates: tuple[str, ...], flag: str, kind: str) -> Path | None:
        if wanted == "none" or re.search(kind, said):
            return None
        for name in candidates if wanted == "auto" else (wanted,):
            found = find_library(name, places)
            if found:
                return found
        if wanted != "auto":
            raise CpuserveError(
                f"{flag} {wanted}: no {' or '.join(_NAMES[wanted])} in {', '.join(map(str, places))}: "
                "install it, or name the file in LD_PRELOAD"
            )
        missing.extend(candidates)
        return None

    heap = one(allocator, ("jemalloc", "tcmalloc"), "--allocator", r"lib(jemalloc|tcmalloc|mimalloc)")
    runtime = one(openmp, ("libiomp5",), "--openmp", r"lib(iomp5|omp|gomp)\b")
    return Preload(heap, runtime, tuple(missing))


def find_library(name: str, where: Iterable[Path]) -> Path | None:
    """The file of ``jemalloc``, ``tcmalloc`` or ``libiomp5``: the plain name, else the highest version."""
    for folder in where:
        for stem in _NAMES[name]:
            plain = folder / stem
            versions = [plain] if plain.is_file() else [f for f in folder.glob(f"{stem}.*") if f.is_file()]
            if versions:
                return max(versions, key=lambda file: [int(n) for n in re.findall(r"\d+", file.name)])
    return None


def library_folders(env: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The folders to look in: those of this Python, the active environment, the user, the system."""
    roots = [sys.prefix, env.get("VIRTUAL_ENV"), env.get("CONDA_PREFIX")]
    places = [Path(root) / "lib" for root in roots if root]
    if env.get("HOME"):
        places.append(Path(env["HOME"]) / ".local/lib")
    for system in (Path("/usr/local"), Path("/usr"), Path("/")):
        places += [system / "lib64", *sorted((system / "lib").glob("*-linux-*")), system / "lib"]
    return tuple(dict.fromkeys(place for place in places if place.is_dir()))


def program_environment(seat: Seat, found: Preload, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables to add for a program that uses a whole seat; variables that are set already stay.

    OpenMP's other ways to place threads (GOMP_CPU_AFFINITY, OMP_PLACES) are not needed: the affinity mask
    confines the threads.
    """
    wanted = numa.seat_environment(seat, env, blas_threads=seat.threads)
    wanted["CPUSERVE_SEAT"] = str(seat.index)
    libraries = [str(file) for file in (found.allocator, found.openmp) if file]
    if libraries:
        wanted["LD_PRELOAD"] = ":".join([*filter(None, [env.get("LD_PRELOAD")]), *libraries])
    if found.openmp:
        wanted |= {name: value for name, value in _INTEL.items() if name not in env}
    return wanted


def relaunch(allocator: Allocator, variables: Mapping[str, str]) -> None:
    """Start this program again, in this process, with the allocator and variables; return if it has them.

    An allocator must be loaded first, and a library reads its variables when it is loaded.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    environ = relaunch_environment(allocator, variables, os.environ)
    if environ is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606  # itself


def relaunch_environment(
    allocator: Allocator, variables: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str] | None:
    """The environment for starting again; None when the present one is right.

    Args:
        allocator: to preload, unless the user's LD_PRELOAD has one.
        variables: to add; those that are set already stay.
        env: the present environment.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    wanted = {**variables, **env}
    found = find_preload(allocator, "none", library_folders(env), env).allocator
    if found is not None:
        said = env.get("LD_PRELOAD", "")
        wanted["LD_PRELOAD"] = f"{said}:{found}" if said else str(found)
    return wanted if wanted != env else None
