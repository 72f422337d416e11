"""Runs a cascade over a video: decoders decide, the reference answers the rest, each frame gets its label."""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cpuserve.errors import UsageError
from cpuserve.serving.decode import Pixels
from cpuserve.video.audit import Audit, is_audited, probability_of_audit
from cpuserve.video.cascade_choice import DecidedBy
from cpuserve.video.cascade_file import Cascade
from cpuserve.video.cascade_stage import (
    ALL_TO_THE_REFERENCE,
    REFERENCE_PICTURE,
    CascadeStage,
    Decision,
    Thresholds,
)
from cpuserve.video.decoding import DecodedFrame, Which, decode
from cpuserve.video.drift import DriftResponse, OnDrift
from cpuserve.video.frame_labels import FrameLabels, LabelledFrame
from cpuserve.video.live import LiveSource
from cpuserve.video.scale import Scale
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import shown_address
from cpuserve.video.window_questions import WindowQuestions
from cpuserve.video.windows import WINDOW_FRAMES

__all__ = ["CascadeRun", "ReferenceAnswers", "RunCounts"]

_LIVE_QUEUE = 64  # decided frames that may wait for the reference


class ReferenceAnswers(Protocol):
    """A reference: `FrameModel` or `Replicas`."""

    name: str
    checksum: str
    scale: Scale

    def submit(self, pixels: Pixels, width: int, height: int) -> Future[dict[str, Any]]:
        """Answer a scaled frame."""

    def submit_seen(self, pixels: Pixels, width: int, height: int) -> Future[Any]:
        """As `submit`, with the mask of a segmentation."""


@dataclass
class RunCounts:
    """What a run did so far.

    Attributes:
        frames: labelled.
        positive: those labelled yes.
        by_stage: frames by who decided.
        audited: decided frames that the reference answered too.
        dropped: frames of live sources that were left out.
        reconnects: how often live sources were opened anew.
        decoders_ns: CPU time of the processes that decode and decide.
        began: when, in seconds of the monotonic clock.
    """

    frames: int = 0
    positive: int = 0
    by_stage: dict[DecidedBy, int] = field(default_factory=lambda: dict.fromkeys(DecidedBy, 0))
    audited: int = 0
    dropped: int = 0
    reconnects: int = 0
    decoders_ns: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, frame: LabelledFrame) -> None:
        """Count a frame."""
        self.frames += 1
        self.positive += frame.label
        self.by_stage[frame.stage] += 1
        self.audited += frame.audit > 0

    @property
    def frames_per_s(self) -> float:
        """Since the start."""
        return self.frames / max(1e-9, time.monotonic() - self.began)


class CascadeRun:
    """Labels videos with a cascade.

    Args:
        directory: of the cascade.
        cascade: what was read of it.
        reference: answers frames; the same model as in training.
        audit_rate: smallest probability with which a decided frame is audited; 0: none is.
        seed: of the audit.
        on_drift: what to do when a budget is in danger.
        processes: that decode; None for as many as this process may use CPUs.
        every_frame: the reference is asked about every frame; there is no audit then.
        live_timeout_s: how long nothing may come from a live source before its connection counts as broken.

    Attributes:
        counts: what was done so far.
        audit: what the reference said of decided frames; None without an audit.
        drift: alarms, and the thresholds in force.

    Raises:
        UsageError: the reference is not the model of the training.
    """

    def __init__(
        self,
        directory: Path,
        cascade: Cascade,
        reference: ReferenceAnswers,
        *,
        audit_rate: float = 0.01,
        seed: int = 0,
        on_drift: OnDrift = "alarm",
        processes: int | None = None,
        every_frame: bool = False,
        live_timeout_s: float = 10.0,
    ) -> None:
        _check_reference(cascade, reference)
        promise = cascade.promise
        self._directory, self._cascade = directory, cascade
        self._reference, self._query = reference, cascade.parsed_query()
        self._audit_rate, self._seed, self._processes = 0.0 if every_frame else audit_rate, seed, processes
        self._live_timeout_s = live_timeout_s
        self.counts = RunCounts()
        self.audit: Audit | None = None
        if self._audit_rate:
            slack = WINDOW_FRAMES - 1 if cascade.sampling.looks else 0
            self.audit = Audit(promise.fn, promise.fp, promise.confidence, audit_rate, slack)
        limits = ALL_TO_THE_REFERENCE if every_frame else Thresholds.of(cascade)
        self.drift = DriftResponse(self.audit, limits, on_drift)
        self._begin("")

    def label(
        self, video: VideoFile, first: int = 0, *, label_before: bool = False, name: str = ""
    ) -> Generator[LabelledFrame]:
        """Label the frames of a file, in order.

        Args:
            video: the file.
            first: number of the first frame.
            label_before: label of the frame before it.
            name: of the video, another one for each of the run: the audit's sample depends on it.

        Raises:
            VideoError: the file cannot be read, or a decoder crashed.
            CpuserveError: the reference could not answer.
        """
        while True:
            labels = FrameLabels(first, label_before=label_before)
            self._begin(name, video)
            changed: LabelledFrame | None = None
            with closing(self._decoded(video, first)) as decoded:
                for frame in self._ordered(decoded, labels, video):
                    yield frame
                    if self.drift.see(frame):
                        changed = frame
                        break
            labels.drop()
            if changed is None or changed.number + 1 >= video.frames:
                return
            first, label_before = changed.number + 1, changed.label

    def label_live(self, address: str) -> Generator[tuple[LabelledFrame, DecodedFrame]]:
        """Label the frames of a live source until it ends; those that come too fast are dropped and counted.

        Args:
            address: of the source, as `LiveSource` takes it.

        Raises:
            VideoError: the source was given up.
            UsageError: the cascade decides by the sizes of packets, which a live source does not have.
            CpuserveError: the reference could not answer.
        """
        name = shown_address(address)
        if self._cascade.packets is not None:
            raise UsageError(
                f"the cascade decides by the sizes of packets, which the live source {name} does not "
                "have: train one without"
            )
        first, label_before, changed = 0, False, True
        while changed:
            labels, times = FrameLabels(label_before=label_before, live=True), deque[DecodedFrame]()
            # numbers begin anew, and what is audited of them must not
            self._begin(f"{name} from {first}")
            changed = False
            with LiveSource(
                address,
                self._stage(live=True),
                queue=_LIVE_QUEUE,
                which=self._which,
                timeout_s=self._live_timeout_s,
            ) as source:
                for frame in self._from_live(source, labels, times):
                    label_before = frame.label
                    shown = dataclasses.replace(frame, number=first + frame.number)
                    yield shown, times.popleft()
                    if self.drift.see(shown):
                        first, changed = shown.number + 1, True
                        break
                counts = source.counts
                self.counts.dropped += counts.dropped
                self.counts.reconnects += counts.reconnects
            labels.drop()

    def _from_live(
        self, source: LiveSource, labels: FrameLabels, times: deque[DecodedFrame]
    ) -> Iterator[LabelledFrame]:
        for one in source:
            self._take(one, labels)
            times.append(one)
            yield from self._counted(labels.ready())
        self._questions.close()
        yield from self._counted(labels.ready(all_of_them=True))

    def see(self, frame: LabelledFrame) -> None:
        """Take a frame that an earlier run labelled: counts, audit and thresholds go on from there."""
        self.counts.add(frame)
        self.drift.see(frame)

    def _decoded(self, video: VideoFile, first: int) -> Generator[DecodedFrame]:
        yield from decode(video, self._stage(), processes=self._processes, which=self._which, start=first)

    def _begin(self, name: str, video: VideoFile | None = None) -> None:
        """Forget the windows of the video before."""
        self._name = name
        most = self._cascade.sampling.most_asked
        self._questions = WindowQuestions(self._ask, self._audit_of_spared, most)
        segments = () if video is None else video.segments
        self._segments = [segment.start for segment in segments]

    def _audit_of_spared(self, number: int) -> float:
        probability = probability_of_audit(self._audit_rate, near=True)
        return probability if is_audited(self._seed, self._name, number, probability) else 0.0

    def _stage(self, *, live: bool = False) -> CascadeStage:
        return CascadeStage(
            *(self._directory, self._cascade, self.drift.thresholds),
            audit_rate=self._audit_rate,
            seed=self._seed,
            name=self._name,
            live=live,
        )

    @property
    def _which(self) -> Which:
        return "all" if self.drift.thresholds.reference_only else self._cascade.sampling.which

    def _ordered(
        self, decoded: Iterator[DecodedFrame], labels: FrameLabels, video: VideoFile
    ) -> Iterator[LabelledFrame]:
        for one in decoded:
            self._take(one, labels)
            yield from self._counted(labels.ready())
        self._questions.close()
        # frames that are not decoded, or not told, may follow the last one that is
        if self._which != "all" or (self.drift.thresholds.looks and video.ordered):
            labels.skip_to(video.frames)
        yield from self._counted(labels.ready(all_of_them=True))

    def _take(self, one: DecodedFrame, labels: FrameLabels) -> None:
        decision: Decision = one.value
        self.counts.decoders_ns += decision.cpu_ns
        pixels = one.pictures.get(REFERENCE_PICTURE)
        pixels = None if pixels is None else pixels.copy()
        for name in one.pictures.keys() - {REFERENCE_PICTURE}:
            self._questions.supply(int(name), one.pictures[name].copy())
        if self.drift.thresholds.looks:
            scope = one.number // WINDOW_FRAMES, bisect_right(self._segments, one.number)
            question = self._questions.see(scope, one.number, decision, pixels)
            if question is not None:
                labels.add(one.number, decision, question)
                return
        labels.add(one.number, decision, None if pixels is None else self._ask(pixels, decision))

    def _counted(self, frames: Iterator[LabelledFrame]) -> Iterator[LabelledFrame]:
        for frame in frames:
            self.counts.add(frame)
            yield frame

    def _ask(self, pixels: Pixels, decision: Decision) -> Future[tuple[bool, float]]:
        width, height = decision.width, decision.height
        if self._query.needs_mask:
            seen = self._reference.submit_seen(pixels, width, height)
            return _then(seen, lambda found: self._query.present(found.answer, width, height, found.mask))
        answer = self._reference.submit(pixels, width, height)
        return _then(answer, lambda found: self._query.present(found, width, height))


def _check_reference(cascade: Cascade, reference: ReferenceAnswers) -> None:
    wanted = cascade.reference
    if reference.checksum and reference.checksum != wanted.checksum:
        raise UsageError(
            f"model {reference.name} is not the {wanted.model} version {wanted.version} that the cascade was "
            "trained with: its files differ. Serve that one, or train again"
        )
    if reference.scale != wanted.scale:
        raise UsageError(
            f"model {reference.name} takes {reference.scale}, and the cascade was trained with {wanted.scale}"
        )


def _then(answer: Future[Any], made: Callable[[Any], tuple[bool, float]]) -> Future[tuple[bool, float]]:
    """What is made of an answer, once it is there."""
    result: Future[tuple[bool, float]] = Future()

    def finish(done: Future[Any]) -> None:
        if not result.set_running_or_notify_cancel():
            return  # nobody waits for it any more
        try:
            result.set_result(made(done.result()))
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
            result.set_exception(error)

    answer.add_done_callback(finish)
    return result
