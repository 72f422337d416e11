"""What a process that wants frames and the processes that decode them say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError, VideoError
from cpuserve.machine.placement import Seat
from cpuserve.video.picture_slots import Placed
from cpuserve.video.segment_decoder import FrameChoice, Which
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile

__all__ = [
    "LIVE_COUNTS",
    "Begin",
    "Failure",
    "Job",
    "Prepare",
    "Probe",
    "Renew",
    "Result",
    "SourceEnd",
    "Watch",
]

LIVE_COUNTS = ("number", "decoded", "dropped", "reconnects", "errors", "pts", "recorded")
"""What a decoder of a live source tells in the first page of its memory, in this order.

``number`` and ``pts`` are those of the last frame, ``recorded`` is 1 once the source is known to be a
recording behind an address, the others count.
"""


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
class Prepare:
    """Asks for what a stage needs to be loaded before there is a file. There is no answer.

    Attributes:
        stage: a pickled stage.
        import_path: where Python looks for the stage's module.
        seat: where to run; None is where the kernel likes.
    """

    stage: bytes
    import_path: list[str]
    seat: Seat | None


@dataclass(frozen=True)
class Renew:
    """Says that another reader asks from now on. The descriptor of its memory follows the message."""


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
class Watch:
    """Asks for the frames of a live source, until it ends. A pipe's descriptor follows the message.

    Attributes:
        address: what FFmpeg opens; ``-`` is the descriptor that follows.
        stage: a pickled stage.
        import_path: where Python looks for the stage's module.
        max_pixels: larger pictures are refused.
        most_bytes: of the slots.
        which: which frames are decoded.
        every: only frames with a number that this divides.
        number: of the first frame.
        behind: time of the last frame that a decoder before this one gave; None for the first one.
        options: of FFmpeg's container and protocol.
        timeout_s: how long nothing may come before the source counts as broken, or a file as ended.
        attempts: how often the source is opened without a frame before it is given up; None is for ever.
        waits_s: the first and the longest wait before it is opened again; each wait doubles the one before.
    """

    address: str
    stage: bytes
    import_path: list[str]
    max_pixels: int
    most_bytes: int
    which: Which
    every: int
    number: int
    behind: int | None
    options: dict[str, str]
    timeout_s: float
    attempts: int | None
    waits_s: tuple[float, float]


@dataclass(frozen=True)
class SourceEnd:
    """A live source has ended, as ``reason`` says where that was not by itself."""

    reason: str | None = None


@dataclass(frozen=True)
class Failure:
    """An error, where in the code it came from, and at which frame."""

    error: Exception
    where: str
    number: int = -1

    def told(self, name: str) -> Exception:
        """The error, or one that names the video and the frame where it was no refusal of this project's."""
        if isinstance(self.error, CpuserveError):
            return self.error
        kind = type(self.error).__name__
        error = VideoError(f"{name}: the stage failed at frame {self.number}: {kind}: {self.error}")
        error.__cause__ = self.error
        error.add_note(self.where)
        return error
