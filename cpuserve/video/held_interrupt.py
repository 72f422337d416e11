"""Ctrl-C and SIGTERM that end a run only where it can be left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, ClassVar, TypeVar

__all__ = ["HeldInterrupt", "hear_interrupt", "heard", "heard_result"]

_Result = TypeVar("_Result")
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class HeldInterrupt:
    """While it lasts, Ctrl-C and SIGTERM raise `KeyboardInterrupt` in blocks of `heard` only.

    Python raises at Ctrl-C between any two steps of the main thread. Where that is behind the step that takes
    a lock and before the one that cares for its release, as in `threading.Condition` and by it in futures,
    all who need the lock wait for ever. So the signal is kept until the main thread waits where it holds
    none. In other threads than the main one nothing is changed, as nothing is raised there. Within another
    one, that one stays in force, and is what ``with`` gives.

    Attributes:
        number: of the signal that was raised last; 0 for none.
    """

    in_force: ClassVar[HeldInterrupt | None] = None

    def __init__(self) -> None:
        self.number = 0
        self._pending = 0
        self._listening = self._ignoring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> HeldInterrupt:
        if not _in_main_thread():
            return self
        if HeldInterrupt.in_force is not None:
            return HeldInterrupt.in_force
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) is default:  # ignored, or somebody else's: left alone
                self._before[number] = signal.signal(number, self._note)
        HeldInterrupt.in_force = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if HeldInterrupt.in_force is not self:
            return
        HeldInterrupt.in_force = None
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is None:
            self.hear()

    def hear(self) -> None:
        """Raise what came meanwhile.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        if self._pending:
            self.number, self._pending = self._pending, 0
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block that a signal ends at once."""
        self._listening = True
        try:
            self.hear()
            yield
        finally:
            self._listening = False

    def ignore(self) -> None:
        """From now on signals change nothing, nor does one that came: what was asked for is being done."""
        self._ignoring, self._pending = True, 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._ignoring:
            return
        self._pending = number
        if self._listening:
            self._listening = False  # what is done now is not to be left again
            self.hear()


@contextmanager
def heard() -> Iterator[None]:
    """A wait, in which no lock of Python's may be taken, that Ctrl-C ends where a `HeldInterrupt` holds it.

    Raises:
        KeyboardInterrupt: it comes, or came before.
    """
    held = HeldInterrupt.in_force
    if held is None or not _in_main_thread():
        yield
        return
    with held.listening():
        yield


def hear_interrupt() -> None:
    """Raise the Ctrl-C that a `HeldInterrupt` holds.

    Raises:
        KeyboardInterrupt: it came.
    """
    with heard():
        pass


def heard_result(future: Future[_Result]) -> _Result:
    """The result of a future, for which Ctrl-C may end the wait."""
    if not future.done():
        done: SimpleQueue[Future[_Result]] = SimpleQueue()
        future.add_done_callback(done.put)
        with heard():
            done.get()
    return future.result()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
