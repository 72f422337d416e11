"""Gives every frame of a video its label, in order, once the frames it depends on have theirs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from cpuserve.errors import CpuserveError
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_stage import SKIPPED, Decision
from cpuserve.video.window_questions import OpenQuestion

__all__ = ["FrameLabels", "LabelledFrame"]

_REMEMBERED = 1 << 16  # labels that later frames may copy; no detector looks further back
_MOST_WAITING = 4096

_Answer = Future[tuple[bool, float]] | OpenQuestion | None


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its label.

    Attributes:
        number: its place in the video, from 0.
        stage: who decided.
        label: whether the object is there, as the cascade says.
        difference: what the detector says, or NaN.
        specialised: what the CNN says, or NaN.
        packets: what the sizes of packets say, or NaN.
        reference: how sure the reference is, 0 to 1; NaN where it was not asked.
        truth: what the reference says; None where it was not asked.
        audit: probability with which it was chosen to be audited; 0: it was not.
    """

    number: int
    stage: DecidedBy
    label: bool
    difference: float = math.nan
    specialised: float = math.nan
    packets: float = math.nan
    reference: float = math.nan
    truth: bool | None = None
    audit: float = 0.0


class FrameLabels:
    """Puts decisions and answers together.

    Args:
        first: number of the first frame.
        label_before: that of the frame before it, which frames copy until one is looked at.
        live: frames that are left out were dropped: they get no label, and what would copy the label of one
            copies the latest label.
    """

    def __init__(self, first: int = 0, *, label_before: bool = False, live: bool = False) -> None:
        self._live = live
        self._latest = label_before
        self._next = first  # number of the next frame to be added
        self._looked = first - 1  # number of the last frame that was looked at
        self._labels: dict[int, bool] = {first - 1: label_before}
        self._waiting: deque[tuple[int, Decision, _Answer]] = deque()

    def add(self, number: int, decision: Decision, answer: _Answer = None) -> None:
        """Take what was decided about a frame. Those left out before it were skipped.

        Args:
            number: ascending.
            decision: about it.
            answer: the reference's, of frames that it is asked about, or may be.
        """
        if not self._live:
            self.skip_to(number)
        if decision.anchor < 0 and (decision.stage == DecidedBy.SKIPPED or isinstance(answer, OpenQuestion)):
            decision = decision._replace(anchor=self._looked)  # of a frame before the segment, it may be
        if decision.stage != DecidedBy.SKIPPED:
            self._looked = number
        self._waiting.append((number, decision, answer))
        self._next = number + 1

    def skip_to(self, stop: int) -> None:
        """All frames before this one that were not added were skipped."""
        for number in range(self._next, stop):
            self._waiting.append((number, SKIPPED._replace(anchor=self._looked), None))
        self._next = max(self._next, stop)

    def ready(self, *, all_of_them: bool = False) -> Iterator[LabelledFrame]:
        """The next frames whose labels are known.

        Args:
            all_of_them: wait for those that the reference has not answered yet. It is waited for as well when
                very many frames wait.

        Raises:
            CpuserveError: the reference could not answer.
        """
        while self._waiting:
            _, _, answer = self._waiting[0]
            wait = all_of_them or len(self._waiting) > _MOST_WAITING
            if answer is not None and not (wait or answer.done()):
                return
            yield self._labelled(*self._waiting.popleft())

    def drop(self) -> None:
        """Forget frames that are not labelled yet; the reference need not answer them."""
        for _, _, answer in self._waiting:
            if answer is not None:
                answer.cancel()
        self._waiting.clear()

    def _labelled(self, number: int, decision: Decision, answer: _Answer) -> LabelledFrame:
        found = None if answer is None else _found(number, answer)
        truth, score = found or (None, math.nan)
        if isinstance(answer, OpenQuestion):  # now it is settled who decides
            settled, anchor = answer.decision, decision.anchor
            copies = settled.stage == DecidedBy.SKIPPED
            decision = settled._replace(anchor=anchor if copies else -1)
        if decision.stage == DecidedBy.REFERENCE and truth is not None:
            label = truth
        elif decision.stage == DecidedBy.SKIPPED or decision.anchor >= 0:
            known = self._labels.get(decision.anchor, self._latest) if self._live else None
            label = self._labels[decision.anchor] if known is None else known
        else:
            label = decision.label
        self._labels[number] = self._latest = label
        self._labels.pop(number - _REMEMBERED, None)
        return LabelledFrame(
            number=number,
            stage=DecidedBy(decision.stage),
            label=label,
            difference=decision.difference,
            specialised=decision.specialised,
            packets=decision.packets,
            reference=score,
            truth=truth,
            audit=decision.audit,
        )


def _found(number: int, answer: Future[tuple[bool, float]] | OpenQuestion) -> tuple[bool, float] | None:
    try:
        return answer.result()
    except (CpuserveError, RuntimeError) as error:  # RuntimeError is OpenVINO's
        raise CpuserveError(f"the reference could not answer frame {number}: {error}") from error
