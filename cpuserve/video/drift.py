"""What a run does when a budget is in danger: it alarms, tightens the thresholds, or asks the reference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cpuserve.video.audit import Audit
from cpuserve.video.audit_bound import AuditState
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_stage import ALL_TO_THE_REFERENCE, Thresholds
from cpuserve.video.frame_labels import LabelledFrame

__all__ = ["DriftAlarm", "DriftResponse", "OnDrift"]

OnDrift = Literal["alarm", "tighten", "reference"]

_log = logging.getLogger("cpuserve.video")
_MOST_TIGHTENINGS = 3
_END = 0.02  # of the scores: networks that err here are sure of anything


@dataclass(frozen=True)
class DriftAlarm:
    """A budget was found to be in danger.

    Attributes:
        number: of the frame at which it was.
        state: whether it is in danger or broken.
        words: what was seen.
        done: what was done.
    """

    number: int
    state: AuditState
    words: str
    done: str


class DriftResponse:
    """Watches the audit of a run and changes its thresholds.

    Each budget has to be kept since thresholds were last changed. ``tighten`` moves the thresholds by which
    the audited errors came past those errors, before a budget is broken; when that was done a few times in
    vain, or has nothing to move, all frames go to the reference. ``reference`` does so when a budget is
    broken.

    Args:
        audit: of the run.
        thresholds: in force at first.
        on_drift: what to do.

    Attributes:
        thresholds: in force.
        alarms: so far.
    """

    def __init__(self, audit: Audit | None, thresholds: Thresholds, on_drift: OnDrift) -> None:
        self.thresholds = thresholds
        self.alarms: list[DriftAlarm] = []
        self._audit = audit
        self._on_drift = on_drift
        self._tightened = 0
        self._worst: AuditState | None = None

    def see(self, frame: LabelledFrame) -> bool:
        """Take a labelled frame; in order.

        Returns:
            Whether the thresholds changed: frames behind this one have to be decided anew.
        """
        if self._audit is None:
            return False
        state = self._audit.add(frame)
        if state is None or state is self._worst:
            return False
        self._worst = state
        new = self._answer(state, self._audit.errors)
        done = "nothing was changed" if new is None else _change(self.thresholds, new)
        alarm = DriftAlarm(frame.number, state, self._audit.words, done)
        self.alarms.append(alarm)
        _log.warning("frame %d: %s; %s", alarm.number, alarm.words, alarm.done)
        if new is None:
            return False
        self.thresholds = new
        self._worst = None
        self._audit.restart()
        return True

    def _answer(self, state: AuditState, errors: Sequence[LabelledFrame]) -> Thresholds | None:
        if self._on_drift == "reference" and state is AuditState.BROKEN:
            return ALL_TO_THE_REFERENCE
        if self._on_drift != "tighten":
            return None
        new = self.thresholds
        for error in errors:
            new = _past(new, error)
        self._tightened += 1
        if new == self.thresholds or self._tightened > _MOST_TIGHTENINGS:
            return ALL_TO_THE_REFERENCE
        return new


def _past(limits: Thresholds, error: LabelledFrame) -> Thresholds:
    """Thresholds with which this frame had not been decided as it was, and others that are half as far."""
    if error.stage == DecidedBy.SKIPPED:
        return replace(limits, every=1, looks=())
    if error.stage == DecidedBy.DIFFERENCE:
        return replace(limits, delta=min(limits.delta, error.difference) / 2)
    if error.stage == DecidedBy.PACKETS:
        if error.label:
            return replace(limits, packets_high=_above(max(limits.packets_high, error.packets)))
        return replace(limits, packets_low=_below(min(limits.packets_low, error.packets)))
    if error.label:
        return replace(limits, c_high=_above(max(limits.c_high, error.specialised)))
    if error.specialised < limits.c_half:
        limits = replace(limits, c_half=_below(error.specialised))
    if error.specialised >= limits.c_low:
        return limits
    return replace(limits, c_low=_below(error.specialised))


def _above(score: float) -> float:
    """A threshold above a score, or 1 where nothing above it could be told apart."""
    return 1.0 if score > 1 - _END else (1 + score) / 2


def _below(score: float) -> float:
    """A threshold below a score, or 0 where nothing below it could be told apart."""
    return 0.0 if score < _END else score / 2


def _change(old: Thresholds, new: Thresholds) -> str:
    if new.reference_only:
        return "all frames go to the reference from here on"
    parts = [
        f"{name} {value:.4g} -> {getattr(new, name):.4g}"
        for name, value in vars(old).items()
        if value != getattr(new, name)
    ]
    return f"thresholds were tightened: {', '.join(parts)}"
