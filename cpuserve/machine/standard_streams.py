"""Keeps descriptors 0, 1 and 2 open, and puts what native libraries write to stderr into the log."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sys
from contextlib import suppress

__all__ = ["NativeOutput", "reserve"]

_log = logging.getLogger("cpuserve.native")
_LONGEST_LINE = 500
_READ_BYTES = 1 << 16
_DIGITS = re.compile(r"0x[0-9a-f]+|\d+")


def reserve() -> None:
    """Open ``/dev/null`` as each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next file or socket that is opened gets such a number, and libraries that write to stderr
    write into it.
    """
    for number in range(3):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the least number that is free
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False, errors="backslashreplace"))  # noqa: SIM115


class NativeOutput:
    """Puts the lines that native libraries of a process write to stderr into the log.

    They go into a pipe that the process reads regularly, and its parent once more when the process has ended.
    A write never blocks: what does not fit into the pipe is lost.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._rest = b""

    def take_over(self) -> None:
        """Connect descriptor 2 to the pipe; Python's own stderr and the log keep their target."""
        before = sys.stderr
        with suppress(OSError, ValueError):
            before.flush()
        sys.stderr = open(  # noqa: SIM115, PTH123  # as long as the process lives
            os.dup(2), "w", buffering=1, errors="backslashreplace"
        )
        loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
        for handler in {handler for logger in loggers for handler in logger.handlers}:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stderr)
        os.dup2(self._write, 2)

    def log(self, *, ended: bool = False) -> None:
        """Write what the pipe holds to the log, a warning a line.

        Of lines that differ in nothing but digits the first is written, and how many more there were: clients
        can make a library write one for every wrong call that they send.

        Args:
            ended: the process has ended, so that an unfinished line is written too.
        """
        try:
            self._rest += os.read(self._read, _READ_BYTES)
        except BlockingIOError:
            if not ended:
                return
        *lines, self._rest = (self._rest + b"\n" * ended).split(b"\n")
        alike: dict[str, list[str]] = {}
        for line in lines:
            text = line[:_LONGEST_LINE].decode("utf-8", "backslashreplace")
            alike.setdefault(_DIGITS.sub("", text), []).append(text)
        for text, *more in alike.values():
            if text:
                shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
                _log.warning("%s%s", shown, f" (and {len(more)} more lines like this)" if more else "")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = self._rest[:_LONGEST_LINE]

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)
