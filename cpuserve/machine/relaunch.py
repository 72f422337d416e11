"""Starts this program again, once, with an allocator loaded ahead of it; nobody can change it while it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cpuserve.machine.launch import Allocator, folders, preload

__all__ = ["relaunch", "relaunched"]


def relaunch(allocator: Allocator) -> None:
    """Replace this process by itself with the allocator; return when there is nothing to load.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    environ = relaunched(allocator, os.environ)
    if environ is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def relaunched(allocator: Allocator, env: Mapping[str, str]) -> dict[str, str] | None:
    """The environment to start again with, or None: the allocator is the one there is.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    found = preload(allocator, "none", folders(env), env).allocator
    if found is None:
        return None
    said = env.get("LD_PRELOAD", "")
    return {**env, "LD_PRELOAD": f"{said}:{found}" if said else str(found)}
