"""Starts this program again, once, with an allocator ahead of it or more variables; it starts no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cpuserve.machine.launch import Allocator, folders, preload

__all__ = ["relaunch", "relaunched"]


def relaunch(allocator: Allocator, variables: Mapping[str, str]) -> None:
    """Replace this process by itself with the allocator and the variables; return when it has both.

    A library reads its variables when it is loaded, and others read them in /proc/PID/environ.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    environ = relaunched(allocator, variables, os.environ)
    if environ is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606  # itself


def relaunched(
    allocator: Allocator, variables: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str] | None:
    """The environment to start again with; None where it is the one there is.

    Args:
        allocator: to load, unless the user's LD_PRELOAD has one.
        variables: to add; those that are set already stay.
        env: the environment there is.

    Raises:
        CpuserveError: an allocator that was asked for by name is not there.
    """
    wanted = {**variables, **env}
    found = preload(allocator, "none", folders(env), env).allocator
    if found is not None:
        said = env.get("LD_PRELOAD", "")
        wanted["LD_PRELOAD"] = f"{said}:{found}" if said else str(found)
    return wanted if wanted != env else None
