"""What a video file says of itself, and its packets, read without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import VideoError
from cpuserve.video.segments import Segment, divide

try:
    import av
except ImportError as error:  # pragma: no cover
    raise VideoError("reading video needs the extra video: pip install 'cpuserve[video]'") from error

__all__ = ["VideoFile", "probe"]


@dataclass(frozen=True)
class VideoFile:
    """A video file as its packets tell, which are read without decoding them.

    Attributes:
        path: the file.
        width: of the coded pictures, in pixels.
        height: of the coded pictures, in pixels.
        frame_rate: frames a second on average.
        codec: FFmpeg's name of the codec, such as ``h264``.
        time_base: seconds of one unit of ``pts``.
        duration_s: seconds from the first frame to the end of the last one.
        pts: i64 [frames], in the order of presentation.
        packet_bytes: i64 [frames], in the order of presentation.
        key: bool [frames], in the order of presentation: whether a frame is a keyframe.
        segments: parts that can be decoded apart from each other.
    """

    path: Path
    width: int
    height: int
    frame_rate: float
    codec: str
    time_base: Fraction
    duration_s: float
    pts: npt.NDArray[np.int64]
    packet_bytes: npt.NDArray[np.int64]
    key: npt.NDArray[np.bool_]
    segments: tuple[Segment, ...]

    @property
    def frames(self) -> int:
        """How many frames the packets promise. Damaged files decode to fewer."""
        return len(self.pts)

    def time_s(self, pts: int) -> float:
        """Seconds of a time in units of the time base, counted from the first frame."""
        return float((pts - int(self.pts[0])) * self.time_base)


def probe(path: str | Path) -> VideoFile:
    """Read the packets of a file.

    Raises:
        VideoError: it cannot be opened, or has no video.
    """
    path = Path(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: there is no video in it")
            stream = container.streams.video[0]
            packets: list[Any] = [
                (p.pts if p.pts is not None else p.dts, p.size, p.is_keyframe)
                for p in container.demux(stream)
                if p.size and not p.is_discard
            ]
            context = stream.codec_context
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            width, height, codec = context.width, context.height, context.name
            base = stream.time_base or Fraction(1, 25)
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror or error}") from error
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {error.strerror or error}") from error
    if not packets:
        raise VideoError(f"{path}: there is no frame in it")
    times = np.array([pts for pts, _, _ in packets], np.int64)
    order = np.argsort(times, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    pts = times[order]
    key = np.array([key for _, _, key in packets], bool)
    keyframes = [(int(place), int(rank[place])) for place in np.flatnonzero(key)]
    return VideoFile(
        path,
        width,
        height,
        float(rate),
        codec,
        base,
        float((pts[-1] - pts[0]) * base + 1 / rate),
        pts,
        np.array([size for _, size, _ in packets], np.int64)[order],
        key[order],
        divide(keyframes, len(packets)),
    )
