"""Decodes video files and hands the frames to a stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import av

from cpuserve.errors import VideoError
from cpuserve.serving.decode import Pixels
from cpuserve.video.frame import Frame
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile, probe

__all__ = ["DecodedFrame", "FrameStage", "StageResult", "Which", "decode", "frames"]

Which = Literal["all", "nonref", "nonkey"]


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


class DecodedFrame:
    """What a stage made of one frame, in the process that asked for it.

    Attributes:
        number: place of the frame in the order of presentation.
        pts: time in units of the file's time base.
        time_s: seconds from the first frame.
        value: what the stage gave.
        pictures: views of shared memory. They are valid until `release`, or until the next frame is asked
            for unless `keep` was called.
    """

    __slots__ = ("number", "pictures", "pts", "time_s", "value")

    def __init__(self, number: int, pts: int, time_s: float, value: Any, pictures: dict[str, Pixels]) -> None:
        self.number = number
        self.pts = pts
        self.time_s = time_s
        self.value = value
        self.pictures = pictures

    def keep(self) -> DecodedFrame:
        """Keep the pictures valid until `release`. Decoding waits when all slots are kept."""
        return self

    def release(self) -> None:
        """Give the memory of the pictures back."""
        self.pictures = {}


def decode(
    path: str | Path,
    stage: FrameStage,
    *,
    processes: int | None = None,
    which: Which = "all",
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[DecodedFrame]:
    """Decode a file in processes of their own and run a stage on its frames there.

    Args:
        path: the file.
        stage: runs in the process that decodes.
        processes: how many; None is as many as this process may use CPUs.
        which: which frames are decoded: ``all``, those that others need (``nonref`` skips the others), or
            keyframes only (``nonkey`` skips all others), as FFmpeg's skip_frame.
        every: only frames with a number that this divides.
        start: number of the first frame.
        stop: number of the frame behind the last one; None is the end of the file.

    Yields:
        What the stage made of each frame, in the order of presentation.

    Raises:
        VideoError: the file cannot be read, or a decoder crashed. What came before was right.
    """
    video = probe(path)
    place = -1
    for frame in frames(video, which=which, every=every, start=start, stop=stop):
        while place < 0 or frame.number >= video.segments[place].stop:
            place += 1
            stage.start(video, video.segments[place])
        if (made := stage(frame)) is not None:
            yield DecodedFrame(frame.number, frame.pts, frame.time_s, made.value, made.pictures)


def frames(
    path: str | Path | VideoFile,
    *,
    which: Which = "all",
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Frame]:
    """Decode a file in this thread, from its beginning: for tests, training and baselines.

    Each frame is valid until the next one is asked for.

    Raises:
        VideoError: the file cannot be read.
    """
    video = path if isinstance(path, VideoFile) else probe(path)
    scaler = PictureScaler()
    try:
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            if which != "all":
                stream.codec_context.skip_frame = {"nonref": "NONREF", "nonkey": "NONKEY"}[which]  # type: ignore[assignment]
            places = {int(pts): place for place, pts in enumerate(video.pts)}
            for count, picture in enumerate(container.decode(stream)):
                number = count if which == "all" else places.get(picture.pts or 0, count)
                if number < start or number % every:
                    continue
                if stop is not None and number >= stop:
                    return
                row = min(number, video.frames - 1)
                yield Frame(
                    picture,
                    scaler,
                    number=number,
                    pts=int(video.pts[row]),
                    time_s=video.time_s(int(video.pts[row])),
                    key=bool(picture.key_frame),
                    packet_bytes=int(video.packet_bytes[row]),
                )
    except av.FFmpegError as error:
        raise VideoError(f"{video.path}: {error.strerror or error}") from error
