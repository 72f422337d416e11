"""Labels several videos with one cascade, and keeps a record so that a killed run can go on."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cpuserve.errors import CpuserveError, UsageError, VideoError
from cpuserve.video.audit import Audit
from cpuserve.video.audit_bound import AuditState
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_file import CascadePromise
from cpuserve.video.cascade_run import CascadeRun
from cpuserve.video.decoding import kept_decoders, probe_apart
from cpuserve.video.frame_labels import LabelledFrame
from cpuserve.video.held_interrupt import HeldInterrupt, hear_interrupt
from cpuserve.video.label_file import LabelFile, read_labels
from cpuserve.video.outputs.run_record import RunRecord, refuse_present
from cpuserve.video.run_metrics import RunMetrics
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import VideoSource

__all__ = ["RunSummary", "RunWatcher", "label_files", "plan_labels", "run_videos"]


class RunWatcher(Protocol):
    """Is told how a run goes on."""

    def begin(self, source: VideoSource, video: VideoFile | None, start: int) -> None:
        """A video begins with the frame of number ``start``."""

    def labelled(self, number: int, run: CascadeRun) -> None:
        """A frame was labelled."""

    def end(self, source: VideoSource, error: str) -> None:
        """A video ended, early where ``error`` says why."""


@dataclass
class RunSummary:
    """What a run did.

    Attributes:
        promise: of the cascade.
        run: counts, audit and alarms.
        seconds: it took.
        cpu_s: CPU time, that of decoders included.
        frames_before: frames that an earlier run had labelled.
        errors: by the name of each video that ended early, why.
        dropped: frames of live sources that were left out.
        reconnects: how often live sources were opened anew.
        interrupted: whether the user ended it.
    """

    promise: CascadePromise
    run: CascadeRun
    seconds: float = 0.0
    cpu_s: float = 0.0
    frames_before: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    dropped: int = 0
    reconnects: int = 0
    interrupted: bool = False

    @property
    def frames(self) -> int:
        """Labelled in this run."""
        return self.run.counts.frames - self.frames_before

    @property
    def shares(self) -> dict[str, float]:
        """Share of frames by who decided, 0 to 1."""
        counts = self.run.counts
        return {stage.name.lower(): counts.by_stage[stage] / max(1, counts.frames) for stage in DecidedBy}

    @property
    def broken(self) -> bool:
        """Whether the audit found a budget broken."""
        return any(alarm.state is AuditState.BROKEN for alarm in self.run.drift.alarms)

    def text(self) -> str:
        """Lines for the user: what was done by whom, what was promised, and what was observed."""
        counts, drift, promise = self.run.counts, self.run.drift, self.promise
        before = f" ({self.frames_before} more were there already)" if self.frames_before else ""
        fps = self.frames / max(1e-9, self.seconds)
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items() if share)
        lines = [
            f"{self.frames} frames in {self.seconds:.1f} s, {fps:.1f} a second{before}; "
            f"{counts.positive} with the object",
            f"decided by: {shares or 'none'}; audited {counts.audited / max(1, counts.frames):.1%}",
        ]
        if promise.promised:
            lines.append(
                f"promised: at most {promise.fn_bound:.2%} of windows missed, {promise.fp_bound:.2%} falsely "
                f"reported, with confidence {promise.confidence:.0%}"
            )
        else:
            more = promise.more_minutes
            how = (
                f"label {more:.1f} more minutes and train again" if math.isfinite(more) else "see its report"
            )
            lines.append(f"promised: nothing; {how}")
        if self.run.audit is not None:
            lines.append(f"observed in frames: {self.run.audit.verdict().words}")
        lines += [f"frame {alarm.number}: {alarm.words}; {alarm.done}" for alarm in drift.alarms]
        if self.dropped or self.reconnects:
            lines.append(f"{self.dropped} frames dropped, {self.reconnects} reconnects")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        counts, audit, drift = self.run.counts, self.run.audit, self.run.drift
        frames = max(1, self.frames)
        return {
            "frames": self.frames,
            "frames_before": self.frames_before,
            "seconds": round(self.seconds, 3),
            "fps": round(self.frames / max(1e-9, self.seconds), 2),
            "cpu_ms_per_frame": round(1000 * self.cpu_s / frames, 3),
            "positive": counts.positive,
            "shares": {name: round(share, 5) for name, share in self.shares.items()},
            "audited": counts.audited,
            "promised": asdict(self.promise),
            "observed": None if audit is None else _observed(audit),
            "alarms": [
                {"frame": one.number, "state": one.state.name.lower(), "words": one.words, "done": one.done}
                for one in drift.alarms
            ],
            "reference_only": drift.thresholds.reference_only,
            "dropped": self.dropped,
            "reconnects": self.reconnects,
            "interrupted": self.interrupted,
            "errors": self.errors,
        }


def _observed(audit: Audit) -> dict[str, Any]:
    verdict = audit.verdict()
    return {
        "state": verdict.state.name.lower(),
        "fn": asdict(verdict.fn),
        "fp": asdict(verdict.fp),
        "by_stage": {stage.name.lower(): asdict(seen) for stage, seen in audit.by_stage.items()},
    }


def plan_labels(sources: Sequence[VideoSource], target: Path, *, directory: bool) -> dict[str, Path]:
    """The file of each video.

    Args:
        sources: the videos.
        target: a file for one video, or a directory in which each gets a ``.csv``.
        directory: whether the target is meant as a directory, also where there is none yet.

    Raises:
        UsageError: several videos would be written to one file.
    """
    if directory or target.is_dir():
        files = {source.name: target / f"{source.place}.csv" for source in sources}
        if len(set(files.values())) < len(files):
            raise UsageError(f"two videos of the same name would be written to one file in {target}")
        return files
    if len(sources) > 1:
        raise UsageError(
            f"{len(sources)} videos do not go into one file {target}: give a directory, as in "
            f"-o {target.stem}/"
        )
    return {source.name: target for source in sources}


def label_files(
    files: Mapping[str, Path],
    sources: Sequence[VideoSource],
    asked: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> RunRecord:
    """The record of a run, which says what is done already.

    Args:
        files: of each video.
        sources: the videos.
        asked: what decides the labels.
        resume: go on with what an earlier run left.
        overwrite: replace what an earlier run left.

    Raises:
        UsageError: a file is there already, the earlier run was asked for something else, or a live source
            is to be continued.
        CpuserveError: the record cannot be read or written.
    """
    first = next(iter(files.values()))
    path = first.with_name("run.json") if len(files) > 1 else first.with_name(f"{first.name}.run.json")
    videos = [[source.name, *_identity(source)] for source in sources]
    record = RunRecord(path, {**asked, "videos": videos})
    known = resume and record.read_back()
    if known:
        record.refuse_live(sources)
    if not known:
        refuse_present(sources, files.values(), resume=resume, overwrite=overwrite)
        for file in files.values():
            file.unlink(missing_ok=True)
        first.parent.mkdir(parents=True, exist_ok=True)
        record.save()
    return record


def run_videos(
    sources: Sequence[VideoSource],
    run: CascadeRun,
    promise: CascadePromise,
    files: Mapping[str, Path],
    record: RunRecord,
    *,
    watcher: RunWatcher | None = None,
    metrics: RunMetrics | None = None,
) -> RunSummary:
    """Label the videos one after the other, as one run with one audit.

    A video that cannot be read to its end is in the summary's errors; the others are done.

    Args:
        sources: the videos.
        run: the cascade with its reference.
        promise: of the cascade.
        files: for the labels of each video.
        record: says how far an earlier run came, and is told how far this one is.
        watcher: is told how it goes on.
        metrics: are told too.

    Raises:
        KeyboardInterrupt: the user ended it; it can be continued.
        CpuserveError: the labels cannot be written, or the reference cannot answer.
    """
    summary, began, cpu = RunSummary(promise, run), time.monotonic(), _cpu_s()
    with HeldInterrupt() as interrupt:
        with kept_decoders():
            _all_videos(sources, summary, files, record, watcher, metrics)
        if summary.interrupted:
            interrupt.ignore()
        if run.audit is not None:
            run.audit.finish()
        summary.dropped, summary.reconnects = run.counts.dropped, run.counts.reconnects
        record.complete = True
        record.save()
        if metrics is not None:
            metrics.publish(run.counts, run.audit, run.drift, summary.dropped)
    summary.seconds = time.monotonic() - began
    summary.cpu_s = _cpu_s() - cpu + run.counts.decoders_ns / 1e9
    return summary


def _all_videos(
    sources: Sequence[VideoSource],
    summary: RunSummary,
    files: Mapping[str, Path],
    record: RunRecord,
    watcher: RunWatcher | None,
    metrics: RunMetrics | None,
) -> None:
    """Label those that are not done, and see those that are."""
    run = summary.run
    for source in sources:
        done = source.name in record.done
        error = record.done.get(source.name, "")
        if done:
            for frame in read_labels(files[source.name]):
                run.see(frame)
                summary.frames_before += 1
        else:
            error = _one_video(source, summary, files[source.name], watcher, metrics)
        if error:
            summary.errors[source.name] = error
        record.done[source.name] = error
        record.save()
        if summary.interrupted:
            break


def _one_video(
    source: VideoSource,
    summary: RunSummary,
    file: Path,
    watcher: RunWatcher | None,
    metrics: RunMetrics | None,
) -> str:
    """Why the video ended early; empty where it did not."""
    run, error = summary.run, ""
    if source.live:
        return _one_live(source, summary, file, watcher, metrics)
    try:
        video = probe_apart(source.path)
    except VideoError as problem:
        return str(problem)
    before = _kept(file, video)
    for frame in before:
        run.see(frame)
    summary.frames_before += len(before)
    label_before = before[-1].label if before else False
    if watcher is not None:
        watcher.begin(source, video, len(before))
    with LabelFile(file, len(before)) as out:
        try:
            labelled = run.label(video, len(before), label_before=label_before, name=source.place)
            with closing(labelled) as frames:
                for frame in frames:
                    pts = int(video.pts[min(frame.number, video.frames - 1)])
                    out.append(frame, pts, video.time_s(pts))
                    if watcher is not None:
                        watcher.labelled(frame.number, run)
                    if metrics is not None:
                        metrics.update(run.counts, run.audit, run.drift, summary.dropped)
                    hear_interrupt()
        except VideoError as problem:
            error = str(problem)
        except UsageError:
            raise
        except CpuserveError as problem:
            raise CpuserveError(f"{problem}. The same command with --resume goes on") from problem
    if watcher is not None:
        watcher.end(source, error)
    return error


def _one_live(
    source: VideoSource,
    summary: RunSummary,
    file: Path,
    watcher: RunWatcher | None,
    metrics: RunMetrics | None,
) -> str:
    """Label a live source until it ends, or until the user ends it by Ctrl-C or SIGTERM."""
    run, error = summary.run, ""
    if watcher is not None:
        watcher.begin(source, None, 0)
    with LabelFile(file) as out, closing(run.label_live(source.address)) as frames:
        try:
            for frame, decoded in frames:
                out.append(frame, decoded.pts, decoded.time_s)
                if watcher is not None:
                    watcher.labelled(frame.number, run)
                if metrics is not None:
                    metrics.update(run.counts, run.audit, run.drift, run.counts.dropped)
                hear_interrupt()
        except VideoError as problem:
            error = str(problem)
        except KeyboardInterrupt:
            summary.interrupted = True
    if watcher is not None:
        watcher.end(source, error)
    return error


def _kept(file: Path, video: VideoFile) -> list[LabelledFrame]:
    """The frames that an earlier run labelled, up to the start of the segment that it was in.

    A segment starts afresh, so that the labels are those of a run that was not interrupted.
    """
    if not file.exists():
        return []
    labelled = list(read_labels(file))
    starts = [segment.start for segment in video.segments if segment.start <= len(labelled)]
    return labelled[: starts[-1]]


def _identity(source: VideoSource) -> tuple[int, int]:
    """What changes when the file does."""
    if source.live:
        return 0, 0
    state = source.path.stat()
    return state.st_size, state.st_mtime_ns


def _cpu_s() -> float:
    """CPU seconds of this process; decoders are children of another one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
