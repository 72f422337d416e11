"""Shows how far a run of a cascade is, and which part of the frames each stage decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpuserve.cli.video.progress import FrameProgress

if TYPE_CHECKING:
    from cpuserve.video.cascade_run import CascadeRun
    from cpuserve.video.infer import LiveCounts

__all__ = ["RunProgress"]


class RunProgress(FrameProgress):
    """As `FrameProgress`, with the share of the frames that the reference was asked about, and alarms."""

    _run: CascadeRun | None = None

    def labelled(self, number: int, run: CascadeRun) -> None:
        """A frame was labelled."""
        from cpuserve.video.infer import LiveCounts  # noqa: PLC0415

        self._run = run
        self.frame(number, LiveCounts())

    def text(self, number: int, counts: LiveCounts, now: float) -> str:
        """One line on how far the run is."""
        words = super().text(number, counts, now)
        if self._run is None:
            return words
        seen, alarms = self._run.counts, len(self._run.drift.alarms)
        shares = [
            f"{stage.name.lower()} {count / seen.frames:.0%}"
            for stage, count in seen.by_stage.items()
            if count
        ]
        return ", ".join([words, *shares, *([f"{alarms} alarms"] if alarms else [])])
