"""What was observed of a run of a cascade: its figures, and the audit's shares of wrong labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cpuserve.video.audit_bound import AuditedRate, AuditState
from cpuserve.video.cascade_choice import DecidedBy

if TYPE_CHECKING:
    from cpuserve.video.audit import Audit
    from cpuserve.video.cascade_run import RunCounts
    from cpuserve.video.drift import DriftResponse

__all__ = ["ObservedRun", "observed_run"]


@dataclass(frozen=True)
class ObservedRun:
    """A run, or the part of it that is done.

    Attributes:
        time: when these figures were made, in UTC, as ISO 8601 says it.
        labels: where its labels are; the same run has the same.
        videos: their names.
        frames: labelled.
        positive: those labelled yes.
        fps: frames labelled in a second.
        shares: share of frames by who decided, 0 to 1.
        audited: decided frames that the reference answered too.
        dropped: frames of live sources that were left out.
        state: what the audit says of the budgets; None without an audit.
        fn: share of the frames with the object that are missed; None without an audit.
        fp: share of the frames without it that are falsely reported; None without an audit.
        alarms: a sentence on each.
    """

    time: str
    labels: str
    videos: tuple[str, ...]
    frames: int
    positive: int
    fps: float
    shares: Mapping[str, float]
    audited: int
    dropped: int
    state: AuditState | None = None
    fn: AuditedRate | None = None
    fp: AuditedRate | None = None
    alarms: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {**asdict(self), "state": self.state and self.state.name.lower()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ObservedRun:
        """The run that `as_json` wrote.

        Raises:
            KeyError: a state is unknown.
            TypeError: keys are missing or unknown.
        """
        state, *rates = (document.pop(name) for name in ("state", "fn", "fp"))
        fn, fp = (AuditedRate(**rate) if rate else None for rate in rates)
        videos, alarms = (tuple(document.pop(name)) for name in ("videos", "alarms"))
        known = AuditState[state.upper()] if state else None
        return cls(**document, videos=videos, alarms=alarms, state=known, fn=fn, fp=fp)


def observed_run(
    counts: RunCounts,
    audit: Audit | None,
    drift: DriftResponse,
    *,
    videos: Sequence[str] = (),
    labels: str = "",
    dropped: int = 0,
) -> ObservedRun:
    """What is observed by now.

    Args:
        counts: of the run.
        audit: of the run; None where there is none.
        drift: of the run.
        videos: names of its videos.
        labels: where its labels are.
        dropped: frames of live sources that were left out.
    """
    verdict = None if audit is None else audit.verdict()
    return ObservedRun(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=labels,
        videos=tuple(videos),
        frames=counts.frames,
        positive=counts.positive,
        fps=round(counts.frames_per_s, 2),
        shares={stage.name.lower(): counts.by_stage[stage] / max(1, counts.frames) for stage in DecidedBy},
        audited=counts.audited,
        dropped=dropped,
        state=None if verdict is None else verdict.state,
        fn=None if verdict is None else verdict.fn,
        fp=None if verdict is None else verdict.fp,
        alarms=tuple(f"frame {one.number}: {one.words}; {one.done}" for one in drift.alarms),
    )
