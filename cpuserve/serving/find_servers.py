"""Finds the servers that run here by the worker tables they hold open, without a request to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cpuserve.machine.files import read_text
from cpuserve.machine.server_status import SUSPENDED, ServerStatus, WorkerStatus
from cpuserve.serving.worker_table import EMPTY, LINK, STATES, WorkerTable

__all__ = ["find_servers", "server_status"]


def find_servers(root: Path = Path("/"), pids: Iterable[int] | None = None) -> tuple[ServerStatus, ...]:
    """Every other server whose processes the caller may read, by the arbiter's process id.

    Process ids are those of the caller's pid namespace.

    Args:
        root: where /proc is.
        pids: the only processes to look into, such as a server's arbiter; None looks into all.
    """
    holders: dict[tuple[int, int], dict[int, Path]] = {}
    folders = (root / "proc").iterdir() if pids is None else (root / f"proc/{pid}" for pid in pids)
    for folder in folders:
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            for key, file in _tables(folder):
                holders.setdefault(key, {})[int(folder.name)] = file
    found = []
    for files in holders.values():
        with suppress(OSError, ValueError):  # it has just ended, or is another version's
            table = WorkerTable.snapshot(next(iter(files.values())))
            outside = {_inner(root, pid): pid for pid in files}
            if table.description.get("pid") in outside:  # else a program holds a table but serves nothing
                found.append(server_status(table, outside))
    return tuple(sorted(found, key=lambda one: one.pid))


def server_status(table: WorkerTable, processes: Mapping[int, int]) -> ServerStatus:
    """The server's description and the worker of each seat.

    Args:
        table: the server's.
        processes: its process ids in its own pid namespace, to those in the caller's.
    """
    arbiter = table.description["pid"]
    workers = []
    for seat in range(len(table.description["seats"])):
        row = table.of_seat(seat)
        if row is None:
            workers.append(WorkerStatus(seat, 0, STATES[EMPTY]))
        else:
            state = SUSPENDED if row.hangs else STATES[row.state]
            pid = processes.get(row.pid, row.pid)
            workers.append(WorkerStatus(seat, pid, state, row.grpc_channels))
    seated = {worker.pid for worker in workers}
    others = [pid for inner, pid in processes.items() if inner != arbiter and pid not in seated]
    return ServerStatus.from_description(
        table.description, processes.get(arbiter, arbiter), workers, sorted(others)
    )


def _tables(folder: Path) -> Iterable[tuple[tuple[int, int], Path]]:
    """The device and inode of a process's worker table, and a path to it."""
    try:
        descriptors = list((folder / "fd").iterdir())
    except OSError:
        return  # another user's, or gone
    for file in descriptors:
        with suppress(OSError):  # closed since
            if str(file.readlink()) == LINK:
                status = file.stat()
                yield (status.st_dev, status.st_ino), file
                return


def _inner(root: Path, pid: int) -> int:
    """A process's id in its own, innermost pid namespace."""
    found = re.search(r"^NSpid:.*?(\d+)$", read_text(root / f"proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) if found else pid
