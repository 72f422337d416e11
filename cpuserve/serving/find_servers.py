"""Finds the servers that run here by the boards they hold open; it asks none of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cpuserve.machine.files import read_text
from cpuserve.machine.server_status import SUSPENDED, ServerStatus, WorkerStatus
from cpuserve.serving.worker_table import EMPTY, LINK, STATES, Board

__all__ = ["find", "roster"]


def find(root: Path = Path("/")) -> tuple[ServerStatus, ...]:
    """Every server whose processes the caller may look into, by the arbiter's process id.

    In a container that is the container's own; outside, ids are those outside.
    """
    holders: dict[tuple[int, int], dict[int, Path]] = {}
    for folder in (root / "proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            for key, file in _boards(folder):
                holders.setdefault(key, {})[int(folder.name)] = file
    found = []
    for files in holders.values():
        with suppress(OSError, ValueError):  # it has just ended, or another version's server wrote it
            board = Board.snapshot(next(iter(files.values())))
            outside = {_inner(root, pid): pid for pid in files}
            if board.about.get("pid") in outside:  # else a program holds a board that serves nothing
                found.append(roster(board, outside))
    return tuple(sorted(found, key=lambda one: one.pid))


def roster(board: Board, processes: Mapping[int, int]) -> ServerStatus:
    """Who sits where.

    Args:
        board: the server's.
        processes: the ids of its processes as they call themselves, to ids as the caller sees them.
    """
    arbiter = board.about["pid"]
    workers = []
    for seat in range(len(board.about["seats"])):
        line = board.of_seat(seat)
        if line is None:
            workers.append(WorkerStatus(seat, 0, STATES[EMPTY]))
        else:
            state = SUSPENDED if line.silent else STATES[line.state]
            workers.append(WorkerStatus(seat, processes.get(line.pid, line.pid), state))
    seated = {worker.pid for worker in workers}
    others = [pid for inner, pid in processes.items() if inner != arbiter and pid not in seated]
    return ServerStatus.from_description(
        board.about, processes.get(arbiter, arbiter), workers, sorted(others)
    )


def _boards(folder: Path) -> Iterable[tuple[tuple[int, int], Path]]:
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
    """A process's id as it calls itself, in the innermost pid namespace."""
    found = re.search(r"^NSpid:.*?(\d+)$", read_text(root / f"proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) if found else pid
