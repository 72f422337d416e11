"""Ctrl-C that waits until what must not be done by half is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

__all__ = ["HeldInterrupt"]


class HeldInterrupt:
    """Raises `KeyboardInterrupt` at Ctrl-C as Python does, but for blocks that hold it back until their end.

    A blocked signal would not do: another thread takes it, and the main one raises all the same. In other
    threads than the main one nothing is changed, as nothing is raised there.
    """

    def __init__(self) -> None:
        self._held = self._pending = False
        self._before: object = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if before is signal.default_int_handler:  # ignored, or somebody else's: left alone
                self._before = before
                signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that is done whole before Ctrl-C is heard."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._held:
            raise KeyboardInterrupt
        self._pending = True
