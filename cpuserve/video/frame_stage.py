"""What runs on each frame inside the process that decodes it, and what comes of a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from cpuserve.serving.decode import Pixels
    from cpuserve.video.frame import Frame
    from cpuserve.video.segments import Segment
    from cpuserve.video.video_file import VideoFile

__all__ = ["DecodedFrame", "FrameStage", "LateStage", "PreparedStage", "StageResult"]


@dataclass
class StageResult:
    """What a stage makes of a frame.

    Attributes:
        value: small, and can be pickled.
        pictures: u8 arrays; they travel through shared memory.
    """

    value: Any = None
    pictures: dict[str, Pixels] = field(default_factory=dict)


class FrameStage(Protocol):
    """Code that runs on every frame inside the process that decodes it. It can be pickled."""

    def start(self, video: VideoFile, segment: Segment) -> None:
        """Get ready for the frames of one segment; here a small model is loaded."""

    def __call__(self, frame: Frame) -> StageResult | None:
        """What comes of a frame; None leaves it out."""


@runtime_checkable
class PreparedStage(Protocol):
    """A stage that can load before there is a file what it needs for any file."""

    def prepare(self) -> None:
        """Load it, once for all stages of this process."""


@runtime_checkable
class LateStage(Protocol):
    """A stage that leaves frames out, but not the last one: only behind it is it known to be the last."""

    def late(self) -> StageResult | None:
        """What comes of the latest frame, which turned out to be the last; None where it was not left out."""


class DecodedFrame:
    """What a stage made of one frame, in the process that asked for it.

    Attributes:
        number: place of the frame in the order of presentation.
        pts: time in units of the file's time base.
        time_s: seconds from the first frame.
        value: what the stage gave.
        pictures: u8 views of shared memory. They are valid until `release`, which asking for the next frame
            calls unless `keep` was called.
    """

    __slots__ = ("_free", "_kept", "number", "pictures", "pts", "time_s", "value")

    def __init__(
        self,
        number: int,
        pts: int,
        time_s: float,
        value: Any = None,
        pictures: dict[str, Pixels] | None = None,
        free: Callable[[], None] | None = None,
    ) -> None:
        self.number = number
        self.pts = pts
        self.time_s = time_s
        self.value = value
        self.pictures = pictures or {}
        self._free = free
        self._kept = False

    def keep(self) -> DecodedFrame:
        """Keep the pictures valid until `release`. Decoding waits when all slots are kept."""
        self._kept = True
        return self

    def release(self) -> None:
        """Give the memory of the pictures back. Any thread may do so."""
        free, self._free = self._free, None
        self.pictures = {}
        if free is not None:
            free()

    def pass_on(self) -> None:
        """Release it, unless it is kept."""
        if not self._kept:
            self.release()
