"""Starts a process in each seat for work on video, bound to the seat before anything is loaded."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from cpuserve.errors import CpuserveError
from cpuserve.machine.budget import Budget
from cpuserve.machine.numa import seat_environment
from cpuserve.machine.placement import Seat, SeatPlan, plan_seats
from cpuserve.machine.process_controls import die_with_parent
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from cpuserve.video.held_interrupt import heard

__all__ = ["SeatProcess", "SeatTask", "plan_video_seats"]


class SeatTask(Protocol):
    """Work that the process of a seat does. It can be pickled, and is imported in the seat."""

    def run(self, words: Connection, threads: int) -> None:
        """Do the work; returns when ``words`` is closed.

        Args:
            words: to the process that started this one.
            threads: how many compute threads the seat has.
        """


def plan_video_seats(settings: Settings, root: Path = Path("/")) -> SeatPlan:
    """The seats for work on video: as few as possible with at most 8 cores each, none across NUMA nodes.

    Each decodes and infers. Where there is one seat only, no other process is needed.

    Args:
        settings: what they say of workers, cores and nodes holds.
        root: where /sys and /proc are.

    Raises:
        PlacementError: the seats do not fit what this process may use.
    """
    return plan_seats(
        Topology.read(root),
        Budget.read(root),
        workers=settings.workers,
        cores_per_worker=settings.cores_per_worker,
        use_logical_cores=settings.use_logical_core,
        node_ids=settings.node_id,
        mode=settings.mode,
    )


class SeatProcess:
    """A process in a seat. It ends with this one.

    Attributes:
        seat: where it is.
        words: what it says and is told.
        pid: its number.

    Args:
        seat: where to put it.
        task: what it does.
    """

    def __init__(self, seat: Seat, task: SeatTask) -> None:
        self.seat = seat
        ours, theirs = socket.socketpair()
        with theirs:
            command = die_with_parent(
                sys.executable, "-m", "cpuserve.video.seat_process", str(theirs.fileno())
            )
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **seat_environment(seat)},
                pass_fds=[theirs.fileno()],  # and standard input, which may be a video
                process_group=0,  # Ctrl-C is for the command
            )
        self.words = Connection(ours.detach())
        self.pid = self._process.pid
        with suppress(OSError):  # that it has ended is found when it is heard
            self.words.send(seat)
            self.words.send_bytes(pickle.dumps(task))

    def hear(self) -> Any:
        """The next message.

        Raises:
            CpuserveError: the process has ended, or says that its work failed.
        """
        try:
            with heard():
                self.words.poll(None)
            message = self.words.recv()
        except (EOFError, OSError) as error:
            raise CpuserveError(self.ending()) from error
        if isinstance(message, CpuserveError):
            raise message
        return message

    def say(self, message: Any) -> None:
        """Send a message.

        Raises:
            CpuserveError: the process has ended.
        """
        try:
            self.words.send(message)
        except OSError as error:
            raise CpuserveError(self.ending()) from error

    def ending(self) -> str:
        """How the process ended, which it has done or is about to do, in words."""
        self.words.close()
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        more = " (memory may have run out)" if code == -signal.SIGKILL else ""
        return f"the process of seat {self.seat.index} {how}{more}"

    def close(self) -> None:
        """End the process."""
        self.words.close()
        self._process.terminate()
        self._process.wait()
