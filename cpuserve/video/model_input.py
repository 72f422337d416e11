"""Scales frames for a model inside the process that decodes them, and counts the CPU time of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import thread_time_ns
from typing import TYPE_CHECKING, NamedTuple

from cpuserve.video.decoding import StageResult
from cpuserve.video.scale import Scale

if TYPE_CHECKING:
    from cpuserve.video.frame import Frame
    from cpuserve.video.segments import Segment
    from cpuserve.video.video_file import VideoFile

__all__ = ["MODEL", "WHOLE", "FrameFacts", "ModelInput"]

MODEL, WHOLE = "model", "whole"
"""The names of the pictures: scaled for the model, and the whole one, BGR."""


class FrameFacts(NamedTuple):
    """What goes with the pictures of a frame.

    Attributes:
        width: of the frame as it is shown, in pixels.
        height: of the same.
        decode_ns: CPU time that decoding took since the frame before.
        scale_ns: CPU time that scaling took.
    """

    width: int
    height: int
    decode_ns: int
    scale_ns: int


@dataclass
class ModelInput:
    """The stage that makes a model's input of each frame.

    Attributes:
        scale: of the model.
        whole: also give the whole picture, to draw on.
    """

    scale: Scale
    whole: bool = False
    _mark: int = field(default=0, repr=False)

    def start(self, _video: VideoFile, _segment: Segment) -> None:
        """Begin to count."""
        self._mark = thread_time_ns()

    def __call__(self, frame: Frame) -> StageResult:
        """The pictures `MODEL` and, if it is wanted, `WHOLE`; the value is a `FrameFacts`."""
        decoded = thread_time_ns()
        pictures = {MODEL: frame.scaled(self.scale)}
        if self.whole:
            pictures[WHOLE] = frame.scaled(Scale(frame.width, frame.height, "BGR"))
        scaled = thread_time_ns()
        facts = FrameFacts(frame.width, frame.height, decoded - self._mark, scaled - decoded)
        self._mark = scaled
        return StageResult(facts, pictures)
