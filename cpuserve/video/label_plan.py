"""Which parts of the training videos are labelled, so that it costs no more than was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpuserve.errors import UsageError
from cpuserve.video.video_file import VideoFile

__all__ = ["Stretch", "plan_stretches"]

_STRETCH_S = 60.0


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of a video.

    Attributes:
        video: its place among the videos.
        start: number of the first frame.
        stop: number of the frame behind the last one.
    """

    video: int
    start: int
    stop: int


def plan_stretches(videos: Sequence[VideoFile], most: int) -> list[Stretch]:
    """All frames if there are no more than ``most``; else stretches of a minute, spread over the whole time.

    A stretch is made of whole segments, so that detectors begin in it as they begin when the cascade runs.

    Args:
        videos: with their segments.
        most: frames to label.

    Raises:
        UsageError: ``most`` is below 1.
    """
    if most < 1:
        raise UsageError(f"--most-labels is {most}: at least one frame has to be labelled")
    total = sum(video.frames for video in videos)
    if total <= most:
        return [Stretch(place, 0, video.frames) for place, video in enumerate(videos)]
    found = []
    for place, video in enumerate(videos):
        pieces = _pieces(video, place)
        wanted = most * video.frames / total
        count = max(1, min(len(pieces), int(wanted * len(pieces) / video.frames)))
        # the middle of each of so many equal parts of the time
        chosen = [pieces[(2 * turn + 1) * len(pieces) // (2 * count)] for turn in range(count)]
        left = max(1, int(wanted))
        for piece in chosen:
            stop = min(piece.stop, piece.start + left)
            left -= stop - piece.start
            if stop > piece.start:
                found.append(Stretch(place, piece.start, stop))
    return found


def _pieces(video: VideoFile, place: int) -> list[Stretch]:
    """The whole video in parts of about a minute."""
    length = _STRETCH_S * video.frame_rate
    pieces: list[Stretch] = []
    start = 0
    for segment in video.segments:
        if segment.stop - start >= length or segment is video.segments[-1]:
            pieces.append(Stretch(place, start, segment.stop))
            start = segment.stop
    return pieces
