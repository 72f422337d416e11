"""Runs one copy of a program in every seat and puts the seat's number before each line of its output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO

__all__ = ["Copies", "Copy"]

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_READ = 1 << 16


@dataclass(frozen=True)
class Copy:
    """One copy to start.

    Attributes:
        name: is put before its lines.
        env: its environment.
        prepare: called in the new process before the program starts.
    """

    name: str
    env: dict[str, str]
    prepare: Callable[[], None]


class Copies:
    """Running copies of a program.

    Args:
        words: the program and its arguments.
        copies: one process each.

    Raises:
        OSError: the program cannot be started; no copy is left running.
    """

    def __init__(self, words: Sequence[str], copies: Sequence[Copy]) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: list[subprocess.Popen[bytes]] = []
        # a signal that comes meanwhile is passed on once all have started
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        try:
            for copy in copies:
                self._start(words, copy, before)
            for number in _FORWARDED:
                signal.signal(number, self._signal)
        except OSError:
            self._signal(signal.SIGTERM, None)
            for process in self._running:
                process.wait()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> int:
        """Pass lines and signals on until all copies have ended.

        Returns:
            The exit code of the first copy that failed, which is 128 and the signal's number if a signal
            ended it; else 0.
        """
        code = 0
        while self._running:
            for key, _ in self._selector.select():
                key.data.read()
                if key.data.ended:
                    self._selector.unregister(key.fileobj)
            still = {key.data.process for key in self._selector.get_map().values()}
            for process in [process for process in self._running if process not in still]:
                ended = process.wait()
                self._running.remove(process)
                code = code or (128 - ended if ended < 0 else ended)
        return code

    def _start(self, words: Sequence[str], copy: Copy, mask: set[int]) -> None:
        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            copy.prepare()

        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,  # one terminal cannot be read by several
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=copy.env,
            process_group=0,  # else the terminal's Ctrl-C would come twice
            preexec_fn=prepare,  # noqa: PLW1509  # this process has one thread
        )
        self._running.append(process)
        for stream, out in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)):
            if stream is not None:
                lines = _Lines(process, stream, out, f"[{copy.name}] ".encode())
                self._selector.register(stream, selectors.EVENT_READ, lines)

    def _signal(self, number: int, _frame: FrameType | None) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)


class _Lines:
    """The lines of one output stream of one copy."""

    def __init__(
        self, process: subprocess.Popen[bytes], stream: IO[bytes], out: IO[bytes], prefix: bytes
    ) -> None:
        self.process = process
        self.ended = False
        self._stream = stream
        self._out = out
        self._prefix = prefix
        self._rest = b""

    def read(self) -> None:
        """Pass on the whole lines that have come."""
        data = os.read(self._stream.fileno(), _READ)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            self.ended = True
            self._stream.close()
            if self._rest:
                lines.append(self._rest)
        for line in lines:
            self._out.write(self._prefix + line + b"\n")
        self._out.flush()
