"""Ends a command that runs over videos at Ctrl-C or SIGTERM: exit code and message."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["ended_by_signals"]

_SIGNALLED = 128  # the exit code is this and the signal's number


@contextmanager
def ended_by_signals(again: str) -> Iterator[None]:
    """A run that Ctrl-C and SIGTERM end where it can be left, with a line that says so.

    Args:
        again: how it is gone on with; empty where it cannot be.
    """
    from cpuserve.video.held_interrupt import HeldInterrupt  # noqa: PLC0415  # not for --help

    interrupt = HeldInterrupt()
    try:
        with interrupt:
            yield
    except KeyboardInterrupt:
        click.echo(f"cpuserve: interrupted{'; ' * bool(again)}{again}", err=True)
        sys.exit(_SIGNALLED + (interrupt.number or signal.SIGINT))
    finally:
        if interrupt.number:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more is answered by the end that is near
