"""Reads from /proc which thread runtimes and which allocator processes have mapped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpuserve.machine.libraries import Libraries

__all__ = ["mapped_libraries"]


def mapped_libraries(pids: Iterable[int], root: Path = Path("/")) -> dict[str, Any]:
    """The runtimes, allocators and OpenMP variables of these processes.

    Args:
        pids: workers of one server.
        root: where /proc is.

    Returns:
        ``openmp``, file names of the OpenMP runtimes of any of them, such as ``libgomp.so.1.0.0``; ``tbb``,
        whether any maps oneTBB; ``allocators`` and ``variables`` (of OpenMP and BLAS, with values) of any.
    """
    found = [one for pid in pids if (one := Libraries.read(pid, root)) is not None]
    return {
        "openmp": sorted({name for one in found for name in one.openmp}),
        "tbb": any(one.tbb for one in found),
        "allocators": sorted({one.allocator for one in found if one.allocator}),
        "variables": sorted({word for one in found for word in one.variables}),
    }
