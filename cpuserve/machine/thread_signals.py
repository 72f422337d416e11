"""Keeps signals to the main thread, which computes nothing.

The kernel may give a signal for the process to any thread. One that computes has large registers (AMX: 8 KiB)
which are stored and loaded around the handler, and not every kernel and hypervisor does that without a fault.
"""

from __future__ import annotations

import signal

__all__ = ["leave_signals_to_main_thread", "take_all_signals"]

_FOR_THE_PROCESS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGCHLD),
)


def leave_signals_to_main_thread() -> None:
    """Block the signals that servers are sent, in this thread and those it starts, in C too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PROCESS)


def take_all_signals() -> None:
    """Block no signal: a process inherits what the thread that started it has blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
