"""What the decoder of a training video hands on: small pictures, and those for the reference."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cpuserve.video.decoding import StageResult
from cpuserve.video.scale import Scale

if TYPE_CHECKING:
    from cpuserve.video.frame import Frame
    from cpuserve.video.segments import Segment
    from cpuserve.video.video_file import VideoFile

__all__ = ["FOR_REFERENCE", "DecodeCostStage", "TrainingFrame", "TrainingStage"]

FOR_REFERENCE = "reference"
"""Name of the picture that the reference is asked about."""


class TrainingFrame(NamedTuple):
    """What a training pass knows of a frame, beside its pictures.

    Attributes:
        key: a keyframe.
        packet_bytes: size of its packet.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        scale_s: CPU seconds for the small pictures.
    """

    key: bool
    packet_bytes: int
    width: int
    height: int
    scale_s: float


class TrainingStage:
    """Scales each frame to small pictures, and some frames to what the reference takes.

    Args:
        small: scale by name of the picture.
        reference: what the reference takes.
        asked: numbers of the frames that get a picture for it.
    """

    def __init__(self, small: Mapping[str, Scale], reference: Scale, asked: Collection[int]) -> None:
        self._small = dict(small)
        self._reference = reference
        self._asked = frozenset(asked)

    def start(self, _video: VideoFile, _segment: Segment) -> None:
        """Does nothing: frames do not depend on each other."""

    def __call__(self, frame: Frame) -> StageResult:
        """The frame's pictures and `TrainingFrame`."""
        began = time.thread_time()
        pictures = {name: frame.scaled(scale) for name, scale in self._small.items()}
        spent = time.thread_time() - began
        if frame.number in self._asked:
            pictures[FOR_REFERENCE] = frame.scaled(self._reference)
        facts = TrainingFrame(frame.key, frame.packet_bytes, frame.width, frame.height, spent)
        return StageResult(facts, pictures)


class DecodeCostStage:
    """Gives the CPU seconds since the frame before: what decoding alone takes."""

    def __init__(self) -> None:
        self._left = 0.0

    def start(self, _video: VideoFile, _segment: Segment) -> None:
        """A decoder begins, or goes on with the next segment."""
        if not self._left:
            self._left = time.thread_time()

    def __call__(self, frame: Frame) -> StageResult:  # its pictures are not needed
        """The seconds."""
        now = time.thread_time()
        spent, self._left = now - self._left, now
        return StageResult(spent)
