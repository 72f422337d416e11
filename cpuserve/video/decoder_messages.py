"""What a process that wants frames and the processes that decode them say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.machine.placement import Seat
from cpuserve.video.picture_slots import Placed
from cpuserve.video.segment_decoder import FrameChoice, Which
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile

__all__ = ["Begin", "Failure", "Job", "Probe", "Result"]


@dataclass(frozen=True)
class Probe:
    """Asks for the packets of a file. The answer is a `VideoFile` or a `Failure`."""

    path: Path
    max_pixels: int


@dataclass(frozen=True)
class Begin:
    """Says what the following jobs are about.

    Attributes:
        video: the file.
        which: which of its frames are decoded.
        choice: which of them are wanted.
        stage: a pickled stage.
        import_path: where Python looks for the stage's module.
        max_pixels: larger pictures are refused.
        most_bytes: of the slots.
        seat: where to run; None is where the kernel likes.
    """

    video: VideoFile
    which: Which
    choice: FrameChoice
    stage: bytes
    import_path: list[str]
    max_pixels: int
    most_bytes: int
    seat: Seat | None


@dataclass(frozen=True)
class Job:
    """Asks for the frames from the keyframe of one segment to the end of another, or of the same.

    Attributes:
        number: of the job; the answers name it.
        first: the first segment.
        last: the last segment.
        base: number of the first frame, where packets do not tell it.
        start: smaller numbers are not wanted.
    """

    number: int
    first: Segment
    last: Segment
    base: int
    start: int


@dataclass(frozen=True)
class Result:
    """What the stage made of one frame; ``placed`` are its pictures in a slot, ``slot`` is -1 without any."""

    number: int
    pts: int
    time_s: float
    value: Any
    slot: int
    placed: Placed


@dataclass(frozen=True)
class Failure:
    """An error, where in the code it came from, and at which frame."""

    error: Exception
    where: str
    number: int = -1
