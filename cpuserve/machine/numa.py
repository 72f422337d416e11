"""Binds a process to its seat: CPU affinity and memory policy. No other module changes either."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuserve.errors import PlacementError
from cpuserve.machine.files import format_cpulist
from cpuserve.machine.placement import Seat

__all__ = ["Binding", "Policy", "bind_to_seat", "seat_environment"]

Policy = Literal["preferred", "first-touch"]

_MPOL_PREFERRED = 1
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
_ROUNDS = 100

_MEANING = {
    errno.EPERM: "refused, which is what a container without CAP_SYS_NICE does",
    errno.EACCES: "refused by a security module",
    errno.ENOSYS: "not offered by this kernel or its sandbox",
    errno.EINVAL: "the node has no memory, or the cpuset does not allow it",
}


@dataclass(frozen=True)
class Binding:
    """What the kernel granted when a process was bound to its seat.

    Attributes:
        cpus: the CPUs every thread may now run on, read back from the kernel.
        policy: ``preferred`` when memory comes from the seat's node as long as it has any, ``first-touch``
            when each page comes from the node of the CPU that first writes it.
        reason: one line on what was not granted, or None.
    """

    cpus: tuple[int, ...]
    policy: Policy
    reason: str | None = None


def bind_to_seat(seat: Seat, *, strict: bool = False) -> Binding:
    """Move all threads of this process to the seat's CPUs and its memory to the seat's node.

    Call it before numpy or OpenVINO is imported: pages that are already allocated do not move, and the memory
    policy holds for the calling thread and those it starts later.

    Args:
        seat: the seat.
        strict: fail when the CPUs are not exactly the seat's. The memory policy may still be refused: with
            the affinity alone, first touch puts pages on the same node.

    Raises:
        PlacementError: ``strict``, and a thread could not be given the seat's CPUs.
    """
    cpus, trouble = _move(frozenset(seat.cpus))
    if trouble and strict:
        raise PlacementError(f"seat {seat.index} (CPUs {format_cpulist(seat.cpus)}): {trouble}")
    refused = None if seat.memory_node is None else _prefer(seat.memory_node)
    policy: Policy = "first-touch" if seat.memory_node is None or refused else "preferred"
    return Binding(cpus, policy, "; ".join(line for line in (trouble, refused) if line) or None)


def seat_environment(
    seat: Seat, env: Mapping[str, str] = os.environ, *, blas_threads: int = 1
) -> dict[str, str]:
    """The variables that limit numerical libraries to the seat's threads, except those that ``env`` has.

    Where the user has set OMP_NUM_THREADS, MKL's and numexpr's are left out: both follow it, and PyTorch
    would prefer MKL_NUM_THREADS to it.

    Args:
        seat: its ``threads`` is the size of every OpenMP team.
        env: the variables that are set already.
        blas_threads: OpenBLAS's own pool, which only a program that computes with it needs.
    """
    wanted = {"OPENBLAS_NUM_THREADS": blas_threads}
    if "OMP_NUM_THREADS" not in env:
        teams = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        wanted |= dict.fromkeys(teams, seat.threads)
    return {name: str(value) for name, value in wanted.items() if name not in env}


def _move(wanted: frozenset[int]) -> tuple[tuple[int, ...], str | None]:
    """Give every thread the mask, and repeat for new threads until there are none."""
    if not wanted:
        return tuple(sorted(os.sched_getaffinity(0))), "a seat without CPUs"
    masks: dict[int, frozenset[int]] = {}
    for _ in range(_ROUNDS):
        fresh = [tid for tid in _threads() if tid not in masks]
        if not fresh:
            break
        for tid in fresh:
            try:
                os.sched_setaffinity(tid, wanted)
                # The kernel silently leaves out CPUs that the cpuset does not allow.
                masks[tid] = frozenset(os.sched_getaffinity(tid))
            except ProcessLookupError:
                masks[tid] = wanted  # The thread has ended.
            except OSError as error:
                still = os.sched_getaffinity(0)
                return tuple(sorted(still)), (
                    f"CPUs {format_cpulist(wanted)} refused ({os.strerror(error.errno or 0)}): "
                    f"this process stays on {format_cpulist(still)}"
                )
    else:
        return tuple(sorted(os.sched_getaffinity(0))), (
            f"threads kept starting while {_ROUNDS} rounds of moving them went by"
        )
    got = frozenset.intersection(*masks.values()) if masks else frozenset(os.sched_getaffinity(0))
    if got == wanted:
        return tuple(sorted(got)), None
    return tuple(sorted(got)), (
        f"only CPUs {format_cpulist(got)} of {format_cpulist(wanted)} were given: "
        "the cpuset of this process does not allow the others"
    )


def _threads() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]


def _prefer(node: int) -> str | None:
    """Prefer memory of ``node``; return why that was refused, or None."""
    machine = platform.machine()
    number = _SET_MEMPOLICY.get(machine)
    # A 32-bit program on a 64-bit kernel reports the same machine but counts its calls differently.
    if number is None or _BITS != 64:
        return f"memory policy: first touch, set_mempolicy is not known here for {machine}, {_BITS} bits"
    words = node // _BITS + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // _BITS] = 1 << (node % _BITS)
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel reads one bit fewer than it is told.
    bits = ctypes.c_ulong(words * _BITS + 1)
    result = libc.syscall(ctypes.c_long(number), ctypes.c_long(_MPOL_PREFERRED), ctypes.byref(mask), bits)
    if result == 0:
        return None
    code = ctypes.get_errno()
    meaning = _MEANING.get(code, "unexpected")
    name = errno.errorcode.get(code, str(code))
    return f"memory policy: first touch, set_mempolicy for node {node} gave {name} ({meaning})"
