"""Asks the reference about the looks at a window only while the window may still be positive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from cpuserve.serving.decode import Pixels
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_stage import Decision
from cpuserve.video.held_looks import likelihood
from cpuserve.video.windows import WINDOW_FRAMES

__all__ = ["OpenQuestion", "WindowQuestions"]

Scope = tuple[int, int]
"""The window and the segment that a frame is in."""

Answer = Future[tuple[bool, float]]


@dataclass
class _Window:
    """The looks at one window that the network left open.

    Attributes:
        waiting: those that were neither asked nor spared yet; once it is closed, the least likely first.
        bare: those whose pictures have not come, by the numbers of their frames.
        asked: the latest that was asked.
        questions: how many were asked.
        denied: whether a look says that the window is negative.
        closed: whether all its looks are known.
    """

    waiting: deque[OpenQuestion] = field(default_factory=deque)
    bare: dict[int, OpenQuestion] = field(default_factory=dict)
    asked: OpenQuestion | None = None
    questions: int = 0
    denied: bool = False
    closed: bool = False


class OpenQuestion:
    """A look that the reference may be asked about: like a future of its label.

    Attributes:
        decision: what is known of the frame; once it is settled, who decides about it.
        pixels: for the reference; they may come later than the look, and are dropped once it is settled.
        settled: whether it was asked or spared.
    """

    def __init__(
        self, owner: WindowQuestions, window: _Window, number: int, decision: Decision, pixels: Pixels | None
    ) -> None:
        self.number = number
        self.decision = decision
        self.pixels = pixels
        self.settled = False
        self.answer: Answer | None = None
        self._owner = owner
        self._window = window

    def done(self) -> bool:
        """Whether it is settled, and answered where it was asked."""
        self._owner.pump()
        return self.settled and (self.answer is None or self.answer.done())

    def result(self) -> tuple[bool, float] | None:
        """The label and how sure the reference is; None where it was not asked. Waits for it.

        Raises:
            CpuserveError: the reference could not answer.
        """
        self._owner.settle(self._window, self)
        return None if self.answer is None else self.answer.result()

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if self.answer is not None:
            self.answer.cancel()


class WindowQuestions:
    """Puts off the questions about a window until its looks are known, and spares those that decide nothing.

    Args:
        ask: has the reference answer a frame.
        audit: with which probability a spared frame is audited all the same, by its number; 0: it is not.
        most_asked: looks at a window that the reference is asked about.
    """

    def __init__(
        self,
        ask: Callable[[Pixels, Decision], Answer],
        audit: Callable[[int], float],
        most_asked: int = WINDOW_FRAMES,
    ) -> None:
        self._ask, self._audit, self._most_asked = ask, audit, most_asked
        self._scope: Scope | None = None
        self._window = _Window()
        self._open: deque[_Window] = deque()

    def see(
        self, scope: Scope, number: int, decision: Decision, pixels: Pixels | None
    ) -> OpenQuestion | None:
        """Take a look; in order.

        Args:
            scope: its window and segment.
            number: of the frame.
            decision: about it.
            pixels: for the reference, of looks that it may be asked about; None where `supply` brings them.

        Returns:
            The question, of looks that are left open.
        """
        if scope != self._scope:
            self.close()
            self._scope, self._window = scope, _Window()
        if decision.stage == DecidedBy.SPECIALISED and not decision.label:
            self._window.denied = True
        if decision.stage != DecidedBy.REFERENCE:
            return None
        question = OpenQuestion(self, self._window, number, decision, pixels)
        if pixels is None:
            self._window.bare[number] = question
        self._window.waiting.append(question)
        return question

    def supply(self, number: int, pixels: Pixels) -> None:
        """Take the picture of an earlier look at the latest window; before that window is closed.

        Args:
            number: of the frame.
            pixels: for the reference.
        """
        question = self._window.bare.pop(number, None)
        if question is not None:
            question.pixels = pixels

    def close(self) -> None:
        """The latest window has no more looks."""
        window = self._window
        window.closed = True
        if window.waiting:
            window.waiting = deque(
                sorted(window.waiting, key=lambda one: likelihood(one.decision.specialised))
            )
            self._open.append(window)
        self._scope, self._window = None, _Window()
        self.pump()

    def pump(self) -> None:
        """Ask what can be asked by now, without waiting."""
        self._open = deque(window for window in self._open if not self._step(window))

    def settle(self, window: _Window, question: OpenQuestion) -> None:
        """Wait until a question is asked or spared."""
        if not window.closed:
            self.close()
        while not question.settled:
            if window.asked is not None and window.asked.answer is not None:
                wait([window.asked.answer])
            self.pump()

    def _step(self, window: _Window) -> bool:
        """Go on with a window; True when nothing of it waits any more."""
        if window.asked is not None and window.asked.answer is not None:
            answer = window.asked.answer
            if not answer.done():
                return False
            # an answer that failed is told where the label is wanted
            failed = answer.cancelled() or answer.exception() is not None
            window.denied |= failed or not answer.result()[0]
        while window.waiting and (window.denied or window.questions >= self._most_asked):
            self._spare(window.waiting.popleft(), denied=window.denied)
        if not window.waiting:
            return True
        question = window.asked = window.waiting.popleft()
        window.questions += 1
        question.answer = self._ask(self._taken(question), question.decision)
        return not window.waiting

    def _spare(self, question: OpenQuestion, *, denied: bool) -> None:
        """Settle a look without asking: it copies a label, or is positive as those that were asked are."""
        probability = self._audit(question.number)
        stage = DecidedBy.SKIPPED if denied else DecidedBy.SPECIALISED
        question.decision = question.decision._replace(stage=int(stage), label=True, audit=probability)
        if probability:
            question.answer = self._ask(self._taken(question), question.decision)
        question.settled, question.pixels = True, None

    @staticmethod
    def _taken(question: OpenQuestion) -> Pixels:
        """The picture of a question, which is settled with it."""
        pixels, question.pixels, question.settled = question.pixels, None, True
        if pixels is None:
            raise RuntimeError(f"no picture came of frame {question.number}, which has to be asked about")
        return pixels
