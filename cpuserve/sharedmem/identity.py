"""Tells a process from a later one with the same process id, by the time it started."""

from __future__ import annotations

from pathlib import Path

__all__ = ["start_time"]

_START = 18  # field 22 in proc(5); these begin after field 3


def start_time(pid: int) -> int:
    """When a process started, in the kernel's ticks, at least 1; 0 when there is none, or it has ended.

    It works for other users' processes too.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or hidden from this user
        return 0
    state, *fields = text.rpartition(")")[2].split()  # the name in front may hold anything
    return 0 if state in "ZX" else int(fields[_START]) + 1
