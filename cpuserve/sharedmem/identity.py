"""Tells one process from a later one that got the same number."""

from __future__ import annotations

from pathlib import Path

__all__ = ["start_time"]

_START = 18  # proc(5) calls it field 22; the state, in front of it here, is field 3


def start_time(pid: int) -> int:
    """When a process started, in the kernel's ticks, at least 1; 0 where there is none, or a dead one.

    Other users' processes have one too: no signal is sent, so that nothing can be refused.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or hidden from this user
        return 0
    state, *fields = text.rpartition(")")[2].split()  # the name in front may hold anything
    return 0 if state in "ZX" else int(fields[_START]) + 1
