"""Decodes videos and answers their frames with one model, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Self

from cpuserve.video.answered_frames import AnsweredFrame, answer_frames
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.decoding import decode, kept_decoders, probe_apart
from cpuserve.video.infer import InferOptions, LiveCounts
from cpuserve.video.live import LiveSource
from cpuserve.video.live_answers import answer_live
from cpuserve.video.model_input import ModelInput
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import VideoSource

__all__ = ["LocalAnswers"]


class LocalAnswers:
    """Answers frames in this process; they are decoded in processes beside it. A context manager.

    Attributes:
        name: of the model.
        version: of the model.
        checksum: of its files.

    Args:
        model: answers: one in this process, or replicas.
        options: which frames, and how.
        pictures: whether the whole pictures are wanted too.
        processes: how many decode; None is as many as this process may use CPUs.
        max_pixels: larger pictures are refused; None is the setting's default.
    """

    def __init__(
        self,
        model: AnsweringModel,
        options: InferOptions,
        *,
        pictures: bool = False,
        processes: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self._model = model
        self.name, self.version, self.checksum = model.name, model.version, model.checksum
        self._options = options
        self._stage = ModelInput(model.scale, pictures)
        self._processes = processes
        self._max_pixels = max_pixels
        self._counts = LiveCounts()
        self._kept = ExitStack()

    def __enter__(self) -> Self:
        self._kept.enter_context(kept_decoders())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the model, and end the processes that decode."""
        self._kept.close()
        self._model.close()

    def probe(self, source: VideoSource) -> VideoFile:
        """What the packets of a file say.

        Raises:
            VideoError: it cannot be opened, or has no video.
        """
        return probe_apart(source.path, max_pixels=self._max_pixels)

    def answer(
        self, source: VideoSource, video: VideoFile | None, start: int = 0, stop: int | None = None
    ) -> Iterator[AnsweredFrame]:
        """The answered frames of a video, in order, from number ``start`` up to ``stop``.

        Raises:
            VideoError: the video cannot be read, or not to its end. What came before was right.
        """
        if source.live:
            yield from self._live(source)
            return
        if video is not None and start >= video.frames:
            return
        decoded = decode(
            source.path if video is None else video,
            self._stage,
            processes=self._processes,
            every=self._options.every,
            start=start,
            stop=stop,
            max_pixels=self._max_pixels,
        )
        with closing(decoded):  # type: ignore[type-var]
            yield from answer_frames(self._model, decoded, source.name, topk=self._options.topk)

    def _live(self, source: VideoSource) -> Iterator[AnsweredFrame]:
        before, every = self._counts, self._options.every
        live = LiveSource(
            source.address,
            self._stage,
            every=every,
            max_pixels=self._max_pixels,
            timeout_s=self._options.live_timeout_s,
        )
        with closing(answer_live(self._model, live, source.name, topk=self._options.topk)) as frames:  # type: ignore[type-var]
            try:
                for frame in frames:
                    self._count(before, live)
                    yield frame
            finally:
                self._count(before, live)

    def _count(self, before: LiveCounts, live: LiveSource) -> None:
        now = live.counts
        self._counts = LiveCounts(before.dropped + now.dropped, before.reconnects + now.reconnects)

    def live_counts(self) -> LiveCounts:
        """What became of the frames of the live sources so far."""
        return self._counts

    def child_ns(self) -> int:
        """0: this process answers."""
        return 0
