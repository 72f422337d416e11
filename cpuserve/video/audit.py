"""Estimates online how often a cascade errs, from a sample of its decisions that the reference answers too.

Which frames are in the sample depends on the seed, the name of the video and their number alone. The bounds
are those of `cpuserve.video.audit_bound`, which hold at any time, however often one looks.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cpuserve.video.audit_bound import AuditMonitor, AuditState, AuditVerdict
from cpuserve.video.cascade_choice import DecidedBy

if TYPE_CHECKING:
    from cpuserve.video.frame_labels import LabelledFrame

__all__ = ["Audit", "StageAudit", "is_audited", "probability_of_audit"]

_NEAR = 4.0  # decisions near a threshold are looked at so much more often
_LEAST_BUDGET = 1e-6


def probability_of_audit(rate: float, *, near: bool) -> float:
    """With which probability a decided frame is given to the reference.

    Args:
        rate: that of decisions far from all thresholds, 0 to 1.
        near: whether the score was near the threshold that decided.
    """
    return min(1.0, rate * (_NEAR if near else 1.0))


def is_audited(seed: int, video: str, number: int, probability: float) -> bool:
    """Whether a frame is in the sample: always the same for the same arguments, wherever it is decoded.

    Args:
        seed: of the sample.
        video: no two videos of a run have the same name. If the same numbers of all videos were in the
            sample, it would say nothing of errors that come at the same place of each.
        number: of the frame.
        probability: with which it is.
    """
    text = f"{seed}/{number}/{video}".encode(errors="surrogateescape")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little") < probability * 2.0**64


@dataclass(frozen=True)
class StageAudit:
    """How many labels of a stage were audited.

    Attributes:
        audited: labels.
        wrong: those among them that the reference does not agree with.
    """

    audited: int = 0
    wrong: int = 0


class Audit:
    """Compares decided labels with the reference's, for the whole run and since thresholds last changed.

    Args:
        fn: budget: share of the frames with the object that may be missed, 0 to 1.
        fp: budget: share of the frames without it that may be reported, 0 to 1.
        confidence: of alarms and bounds.
        rate: smallest probability of an audit, above 0.
        slack: frames that a label may be early or late: a frame is right when the label of one so near is.
            Cascades that look at windows as a whole promise no more.

    Attributes:
        by_stage: what was audited of each stage.
        errors: audited frames with a wrong label since the last `restart`.
    """

    def __init__(self, fn: float, fp: float, confidence: float, rate: float, slack: int = 0) -> None:
        self._make = partial(
            AuditMonitor, *(max(_LEAST_BUDGET, fn), max(_LEAST_BUDGET, fp), confidence, rate)
        )
        self._whole = self._make()
        self._current = self._make()
        self.by_stage: dict[DecidedBy, StageAudit] = {}
        self.errors: list[LabelledFrame] = []
        self._slack = slack
        self._labels: deque[tuple[int, bool]] = deque(maxlen=2 * slack + 1)
        self._waiting: deque[LabelledFrame] = deque()

    def restart(self) -> None:
        """Look for alarms anew: thresholds have changed. The estimate goes on."""
        self.finish()
        self._current = self._make()
        self.errors.clear()

    def finish(self) -> None:
        """No more frames come that are near those before."""
        while self._waiting:
            self._judge(self._waiting.popleft())
        self._labels.clear()

    def add(self, frame: LabelledFrame) -> AuditState | None:
        """Take a labelled frame; in order.

        Returns:
            DANGER or BROKEN if a frame is found wrong and a budget is since the last `restart`; None
            otherwise: only wrong ones make it worse.
        """
        if self._labels and frame.number <= self._labels[-1][0]:  # another video
            self.finish()
        self._labels.append((frame.number, frame.label))
        if frame.truth is not None:
            self._waiting.append(frame)
        state = None
        while self._waiting and self._waiting[0].number + self._slack <= frame.number:
            state = self._judge(self._waiting.popleft()) or state
        return state

    def _judge(self, frame: LabelledFrame) -> AuditState | None:
        """Count an audited frame whose neighbours are known."""
        if any(label == frame.truth for at, label in self._labels if abs(at - frame.number) <= self._slack):
            frame = replace(frame, label=bool(frame.truth))
        wrong, asked = frame.label != frame.truth, frame.stage == DecidedBy.REFERENCE
        probability = 1.0 if asked else frame.audit
        if wrong:
            self.errors.append(frame)
        for monitor in (self._whole, self._current):
            monitor.add(label=frame.label, truth=bool(frame.truth), probability=probability)
        if not asked:
            seen = self.by_stage.get(frame.stage, StageAudit())
            self.by_stage[frame.stage] = StageAudit(seen.audited + 1, seen.wrong + wrong)
        return self._current.alarm if wrong else None

    @property
    def words(self) -> str:
        """A sentence on what was seen since the last `restart`."""
        return self._current.verdict().words

    def verdict(self) -> AuditVerdict:
        """What is known of the whole run."""
        return self._whole.verdict()
