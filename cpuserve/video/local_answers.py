"""Decodes videos and answers their frames with one model in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from cpuserve.video.answered_frames import AnsweredFrame, answer_frames
from cpuserve.video.decoding import decode
from cpuserve.video.frame_model import FrameModel
from cpuserve.video.infer import InferOptions, LiveCounts
from cpuserve.video.model_input import ModelInput
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import VideoSource

__all__ = ["LocalAnswers"]


class LocalAnswers:
    """Answers frames in this process; they are decoded in processes beside it.

    Args:
        model: answers; it stays the caller's.
        options: which frames, and how.
        pictures: whether the whole pictures are wanted too.
        processes: how many decode; None is as many as this process may use CPUs.
    """

    def __init__(
        self,
        model: FrameModel,
        options: InferOptions,
        *,
        pictures: bool = False,
        processes: int | None = None,
    ) -> None:
        self._model = model
        self._options = options
        self._stage = ModelInput(model.scale, pictures)
        self._processes = processes

    def answer(
        self, source: VideoSource, video: VideoFile | None, start: int = 0, stop: int | None = None
    ) -> Iterator[AnsweredFrame]:
        """The answered frames of a video, in order, from number ``start`` up to ``stop``.

        Raises:
            VideoError: the video cannot be read, or not to its end. What came before was right.
        """
        if video is not None and start >= video.frames:
            return
        decoded = decode(
            source.path,
            self._stage,
            processes=self._processes,
            every=self._options.every,
            start=start,
            stop=stop,
        )
        with closing(decoded):  # type: ignore[type-var]
            yield from answer_frames(self._model, decoded, source.name, topk=self._options.topk)

    def live_counts(self) -> LiveCounts:
        """What became of the frames of the live sources so far."""
        return LiveCounts()

    def child_ns(self) -> int:
        """0: this process answers."""
        return 0
