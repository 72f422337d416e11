"""Runs a program that is ended with the process that started it, however that one ends; it starts no other.

Run as ``python -m cpuserve.machine.process_controls PID COMMAND...``, PID being the starting process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from cpuserve.machine.thread_signals import take_all_signals

__all__ = ["leashed", "main"]

_PR_SET_PDEATHSIG = 1


def leashed(*command: str) -> list[str]:
    """The words to start ``command`` by, so that it gets SIGTERM when this process ends, killed or not.

    The kernel sends it when the thread that started it ends: start it from one that stays.
    """
    return [sys.executable, "-m", "cpuserve.machine.process_controls", str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for the signal, then become the program: exec keeps both the process and the wish."""
    owner, *command = sys.argv[1:]
    take_all_signals()  # else the one that is to end it might be blocked
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(owner):
        sys.exit(f"process {owner}, which wanted this, has ended")
    os.execvp(command[0], command)  # noqa: S606  # that is what it is for


if __name__ == "__main__":
    main()
