"""The stage that scales frames for a model in the process that decodes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpuserve.video.frame_stage import StageResult
from cpuserve.video.scale import Scale

if TYPE_CHECKING:
    from cpuserve.video.frame import Frame
    from cpuserve.video.segments import Segment
    from cpuserve.video.video_file import VideoFile

__all__ = ["SCALED", "ScaledFrames"]

SCALED = "scaled"
"""The name of the pixels among the pictures of a frame."""


@dataclass
class ScaledFrames:
    """Gives width and height of each frame as value, and its pixels as picture `SCALED`.

    Attributes:
        scale: what the model takes.
    """

    scale: Scale

    def start(self, _video: VideoFile, _segment: Segment) -> None:
        """Nothing has to be ready."""

    def __call__(self, frame: Frame) -> StageResult:
        """The size of the frame, and its pixels."""
        return StageResult((frame.width, frame.height), {SCALED: frame.scaled(self.scale)})
