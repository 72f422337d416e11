"""The process of a seat: binds itself, then does the work it is given. Run as ``python -m``."""

from __future__ import annotations

import pickle
import signal
import sys
from multiprocessing.connection import Connection

from cpuserve.errors import CpuserveError
from cpuserve.machine.numa import bind_to_seat
from cpuserve.machine.placement import Seat

__all__ = ["main"]


def main() -> None:
    """Take a seat and a task from the socket whose number is the first argument."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes; the one that started this ends it
    words = Connection(int(sys.argv[1]))
    seat: Seat = words.recv()
    bind_to_seat(seat)
    try:
        task = pickle.loads(words.recv_bytes())  # noqa: S301  # of the process that started this one; imports the rest
        task.run(words, seat.threads)
    except CpuserveError as error:
        words.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # nobody wants the work any more


if __name__ == "__main__":
    main()
