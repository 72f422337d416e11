"""Runs a model on the frames of videos and writes the answers."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from cpuserve.errors import UsageError, VideoError
from cpuserve.video.answered_frames import AnsweredFrame
from cpuserve.video.held_interrupt import HeldInterrupt, hear_interrupt, heard
from cpuserve.video.outputs.frame_outputs import FrameFiles, FrameOutput, OutputPlan
from cpuserve.video.outputs.journal import Line
from cpuserve.video.outputs.run_record import RunRecord, refuse_present
from cpuserve.video.region import Region
from cpuserve.video.scale import Scaler
from cpuserve.video.tracks import Tracks, Zones
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import VideoSource

__all__ = ["AnswerSource", "InferOptions", "InferSummary", "Watcher", "asked_of", "infer", "open_files"]


@dataclass(frozen=True)
class InferOptions:
    """What decides the answers beside the model.

    Attributes:
        every: only frames with a number that this divides.
        topk: number of classes wanted; None for the model's own.
        scaler: of swscale.
        track: whether boxes get the numbers of their tracks.
        zones: the zones whose boxes are counted, by name.
        live_timeout_s: how long nothing may come from a live source before its connection counts as broken.
    """

    every: int = 1
    topk: int | None = None
    scaler: Scaler = "bilinear"
    track: bool = False
    zones: Mapping[str, Region] = field(default_factory=dict)
    live_timeout_s: float = 10.0


@dataclass(frozen=True)
class LiveCounts:
    """What became of the frames of a live source.

    Attributes:
        dropped: decoded and left out, as the model was busy.
        reconnects: how often the source had to be opened anew.
    """

    dropped: int = 0
    reconnects: int = 0


class AnswerSource(Protocol):
    """Decodes videos and answers their frames: in this process, or in several seats.

    Attributes:
        name: of the model.
        version: of the model.
        checksum: of its files.
    """

    name: str
    version: int
    checksum: str

    def probe(self, source: VideoSource) -> VideoFile:
        """What the packets of a file say."""

    def answer(self, source: VideoSource, video: VideoFile | None, start: int) -> Iterator[AnsweredFrame]:
        """The answered frames of a video, in order, from number ``start`` on."""

    def live_counts(self) -> LiveCounts:
        """What became of the frames of the live sources so far."""

    def child_ns(self) -> int:
        """CPU time of the processes that have answered frames beside this one, decoding not in it."""


class Watcher(Protocol):
    """Is told how a run goes on."""

    def begin(self, source: VideoSource, video: VideoFile | None, start: int) -> None:
        """A video begins with the frame of number ``start``; None: nobody knows its length."""

    def frame(self, number: int, counts: LiveCounts) -> None:
        """A frame was written."""

    def end(self, source: VideoSource, error: str) -> None:
        """A video ended, early where ``error`` says why."""


@dataclass
class InferSummary:
    """What a run did.

    Attributes:
        frames: answered in this run.
        frames_before: answered by the run that this one went on with.
        seconds: it took.
        errors: by the name of each video that ended early, why.
        dropped: frames of live sources that were left out.
        reconnects: how often live sources were opened anew.
        interrupted: whether the user ended it.
        cpu_ns: CPU time by part: ``decode``, ``scale``, ``model`` (with an encoder's), ``output``.
        videos: that were read in this run.
    """

    frames: int = 0
    frames_before: int = 0
    seconds: float = 0.0
    errors: dict[str, str] = field(default_factory=dict)
    dropped: int = 0
    reconnects: int = 0
    interrupted: bool = False
    cpu_ns: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("decode", "scale", "model", "output"), 0)
    )
    videos: int = 0

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; CPU times are milliseconds a frame."""
        frames = max(1, self.frames)
        parts = {name: round(ns / frames / 1e6, 3) for name, ns in self.cpu_ns.items()}
        return {
            "videos": self.videos,
            "frames": self.frames,
            "frames_before": self.frames_before,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "cpu_ms_per_frame": {**parts, "total": round(sum(self.cpu_ns.values()) / frames / 1e6, 3)},
            "dropped": self.dropped,
            "reconnects": self.reconnects,
            "interrupted": self.interrupted,
            "errors": self.errors,
        }


def infer(
    sources: Sequence[VideoSource],
    answers: AnswerSource,
    output: FrameOutput,
    options: InferOptions,
    *,
    record: RunRecord | None = None,
    watcher: Watcher | None = None,
) -> InferSummary:
    """Answer the frames of all videos and write them, one video after the other.

    A video that cannot be read, or not to its end, is in the summary's errors; the others are done. The user
    ends live sources by Ctrl-C or SIGTERM, after which everything is written as at the end of a file.

    Args:
        sources: the videos.
        answers: decodes and answers.
        output: takes the frames.
        options: what decides the answers.
        record: says how far a run before came, and is told how far this one is.
        watcher: is told how it goes on.

    Raises:
        KeyboardInterrupt: the user ended a run over files; `FrameFiles` can be continued.
        UsageError: tracks or zones are asked of a model that finds no boxes.
        CpuserveError: the output cannot be written.
    """
    with HeldInterrupt() as interrupt:
        return _all_videos(sources, answers, output, options, record, watcher, interrupt)


def _all_videos(
    sources: Sequence[VideoSource],
    answers: AnswerSource,
    output: FrameOutput,
    options: InferOptions,
    record: RunRecord | None,
    watcher: Watcher | None,
    interrupt: HeldInterrupt,
) -> InferSummary:
    summary, began = InferSummary(), time.monotonic()
    process, thread, child = _process_ns(), time.thread_time_ns(), answers.child_ns()
    zones = Zones(options.zones) if options.zones else None
    try:
        for source in sources:
            if record is not None and source.name in record.done:
                if record.done[source.name]:
                    summary.errors[source.name] = record.done[source.name]
                continue
            hear_interrupt()
            error = _one_video(source, answers, output, options, zones, summary, watcher)
            if error:
                summary.errors[source.name] = error
            if record is not None:
                record.done[source.name] = error
                record.save()
            if summary.interrupted:
                break
        if summary.interrupted:  # it cannot be continued: once more Ctrl-C must not cost what it gave
            interrupt.ignore()
            output.finish()
        else:
            with heard():
                output.finish()
        if record is not None:
            record.complete = True
            record.save()
    finally:
        output.close()
    counts = answers.live_counts()
    summary.dropped, summary.reconnects = counts.dropped, counts.reconnects
    summary.seconds = time.monotonic() - began
    main = time.thread_time_ns() - thread
    summary.cpu_ns["output"] = main
    summary.cpu_ns["model"] = max(0, _process_ns() - process - main) + answers.child_ns() - child
    return summary


def _one_video(
    source: VideoSource,
    answers: AnswerSource,
    output: FrameOutput,
    options: InferOptions,
    zones: Zones | None,
    summary: InferSummary,
    watcher: Watcher | None,
) -> str:
    """Why the video ended early; empty where it did not."""
    error = ""
    summary.videos += 1
    try:
        video = None if source.live else answers.probe(source)
    except VideoError as problem:
        video, error = None, str(problem)
    rate = 25.0 if video is None else video.frame_rate
    tracks = Tracks(rate / options.every) if options.track else None
    start = 0
    for line in output.begin(source, None if video is None else video.time_base):
        start = line["frame"] + 1
        summary.frames_before += 1
        if tracks is not None:
            tracks.add(line, line["time_s"])
    if watcher is not None:
        watcher.begin(source, video, start)
    if not error:
        try:
            with closing(answers.answer(source, video, start)) as frames:  # type: ignore[type-var]
                for frame in frames:
                    line = _line(source, frame, tracks, zones)
                    output.append(line, frame)
                    summary.frames += 1
                    summary.cpu_ns["decode"] += frame.facts.decode_ns
                    summary.cpu_ns["scale"] += frame.facts.scale_ns
                    if watcher is not None:
                        watcher.frame(frame.number, answers.live_counts())
                    hear_interrupt()
        except VideoError as problem:
            error = str(problem)
        except KeyboardInterrupt:
            if not source.live:
                raise
            summary.interrupted = True
    output.end(source)
    if watcher is not None:
        watcher.end(source, error)
    return error


def _line(source: VideoSource, frame: AnsweredFrame, tracks: Tracks | None, zones: Zones | None) -> Line:
    line: Line = {"video": source.name, "frame": frame.number, "pts": frame.pts}
    line |= {"time_s": round(frame.time_s, 6), **frame.answer}
    if (tracks or zones) and "detections" not in line:
        raise UsageError(f"model {line['model']} finds no boxes, which --track numbers and --zones counts")
    if tracks is not None:
        tracks.add(line, line["time_s"])
    if zones is not None:
        zones.add(line, frame.facts.width, frame.facts.height)
    return line


def asked_of(answers: AnswerSource, options: InferOptions) -> dict[str, Any]:
    """What decides the answers, for the record of a run."""
    return {
        "model": answers.name,
        "version": answers.version,
        "checksum": answers.checksum,
        "every": options.every,
        "topk": options.topk,
        "scaler": options.scaler,
        "track": options.track,
        "zones": {name: region.corners for name, region in options.zones.items()},
    }


def open_files(
    plan: OutputPlan,
    sources: Sequence[VideoSource],
    asked: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[FrameFiles, RunRecord]:
    """Open the files of a run, and the record of how far it is.

    Args:
        plan: the files.
        sources: the videos.
        asked: the model and the options.
        resume: go on with what an earlier run left.
        overwrite: replace what an earlier run left.

    Raises:
        UsageError: the files are there already, the earlier run was asked for something else, or a live
            source is to be continued.
        CpuserveError: a file cannot be written.
    """
    videos = [[source.name, *_identity(source)] for source in sources]
    record = RunRecord(plan.record, {**asked, "format": plan.as_format, "videos": videos})
    # what somebody moved away cannot be continued: its videos are answered anew
    known = resume and record.read_back() and plan.is_there()
    if known:
        record.refuse_live(sources)
    if not known:
        replaced = plan.files.values() if resume else plan.replaced()
        refuse_present(sources, replaced, resume=resume, overwrite=overwrite)
    facts = {name: str(value) for name, value in asked.items()}
    files = FrameFiles(plan, facts, anew=not known)
    if not known:
        record.done, record.complete = {}, False
        record.save()
    return files, record


def _identity(source: VideoSource) -> tuple[int, int]:
    """What changes when the file does."""
    if source.live:
        return 0, 0
    state = source.path.stat()
    return state.st_size, state.st_mtime_ns


def _process_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round((used.ru_utime + used.ru_stime) * 1e9)
