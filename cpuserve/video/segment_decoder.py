"""Decodes segments of a file, in this process, with one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cpuserve.video.ffmpeg import PictureType, av
from cpuserve.video.frame import Frame
from cpuserve.video.packets import PacketReader
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import VideoFile

__all__ = ["FrameChoice", "SegmentDecoder", "SegmentEnd", "Which"]

Which = Literal["all", "nonref", "nonkey"]

_MOST_REORDERED = 64  # packets; codecs allow 16 frames


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a file are wanted.

    Attributes:
        every: only numbers that this divides.
        start: the first number.
        stop: the number behind the last one.
    """

    every: int
    start: int
    stop: int

    def takes(self, number: int) -> bool:
        """Whether a frame of this number is wanted."""
        return self.start <= number < self.stop and number % self.every == 0

    def last_between(self, first: int, behind: int) -> int | None:
        """The last wanted number from ``first`` on and before ``behind``; None when there is none."""
        last = (min(behind, self.stop) - 1) // self.every * self.every
        return last if last >= max(first, self.start) else None


@dataclass
class SegmentEnd:
    """What came of a segment.

    Attributes:
        frames: how many frames came out of the decoder, wanted or not.
        undecodable: numbers of frames whose packets the decoder refused; -1 where it is not known.
        apart: whether it was decoded apart from what is before it and behind it. Where it was not, the file
            has to be decoded from its beginning.
    """

    frames: int = 0
    undecodable: list[int] = field(default_factory=list)
    apart: bool = True


class SegmentDecoder:
    """Decodes segments of one file.

    Args:
        video: the file.
        which: which of its frames are decoded: ``all``, those that others need (``nonref`` skips the others),
            or keyframes only (``nonkey`` skips all others), as FFmpeg's skip_frame.
        max_pixels: larger pictures are refused before memory for them is taken.
        at_packet: is called with the number of each packet's frame before it is decoded.
    """

    def __init__(
        self,
        video: VideoFile,
        which: Which,
        max_pixels: int,
        at_packet: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._video = video
        self._which = which
        self._at_packet = at_packet
        self._scaler = PictureScaler()
        # where packets do not tell the order of frames, leaving some out would lose count
        self._skips: Which = which if video.ordered else "all"
        skip = "NONREF" if self._skips == "nonref" else "DEFAULT"
        self._reader = PacketReader(video.path, video.packets, max_pixels, skip)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def decode(
        self, first: Segment, last: Segment, end: SegmentEnd, base: int, choice: FrameChoice
    ) -> Iterator[Frame]:
        """Decode from the keyframe of one segment to the end of another, or of the same.

        Args:
            first: the first segment.
            last: the last segment.
            end: is filled in.
            base: number of the first frame, where packets do not tell it.
            choice: which frames are wanted.

        Yields:
            The wanted frames, in the order of their numbers. Each is valid until the next one is asked for.
            None comes where the first segment turns out not to be decodable apart from what is before it.

        Raises:
            VideoError: the file has changed, or cannot be read any more.
        """
        video = self._video
        numbered = self._by_packet if video.ordered else self._by_count
        for number, picture in numbered(first, last, end, base, choice):
            if choice.takes(number) and self._kept(picture):
                pts = video.pts_of(number)
                yield Frame(
                    picture,
                    self._scaler,
                    number=number,
                    pts=pts,
                    time_s=video.time_s(pts),
                    key=bool(picture.key_frame),
                    packet_bytes=int(video.packets.sizes[self._row(picture, number)]),
                )

    def _number(self, picture: Any) -> int:
        """The number of a picture; -1 where it is of no packet."""
        numbers, times = self._video.numbers, self._video.pts
        if picture.opaque is not None:
            return int(numbers[picture.opaque])
        # some decoders forget the packet when they leave fields out; the time they keep
        place = int(np.searchsorted(times, picture.pts)) if picture.pts is not None else len(times)
        return place if place < len(times) and times[place] == picture.pts else -1

    def _row(self, picture: Any, number: int) -> int:
        """The row of a picture's packet."""
        rows = self._video.rows
        return int(rows[min(number, len(rows) - 1)]) if picture.opaque is None else int(picture.opaque)

    def _kept(self, picture: Any) -> bool:
        """Whether a picture is one of those asked for, where none was left out when decoding."""
        if self._skips == self._which or picture.key_frame:
            return True
        return self._which == "nonref" and picture.pict_type != PictureType.B

    def _by_packet(
        self, first: Segment, last: Segment, end: SegmentEnd, _base: int, choice: FrameChoice
    ) -> Iterator[tuple[int, Any]]:
        """Pictures with the numbers of their packets."""
        wanted = choice.last_between(first.start, last.stop)
        if wanted is None:
            return
        behind = int(self._video.rows[first.start : wanted + 1].max()) + 1
        last_number = -1
        for picture in self._pictures(first.packet, behind, end):
            number = self._number(picture)
            if first.start <= number < last.stop:
                if not end.frames and first.index and (number != first.start or not picture.key_frame):
                    end.apart = False
                    return
                end.frames += 1
                if number <= last_number:  # a damaged file: its place in the order has gone by
                    end.undecodable.append(number)
                    continue
                last_number = number
                yield number, picture

    def _by_count(
        self, first: Segment, last: Segment, end: SegmentEnd, base: int, choice: FrameChoice
    ) -> Iterator[tuple[int, Any]]:
        """Pictures counted from that of the first keyframe on, up to that of the segment behind."""
        segments = self._video.segments
        following = segments[last.index + 1].packet if last.index + 1 < len(segments) else None
        behind = len(self._video.packets) if following is None else following + _MOST_REORDERED
        begun = not first.index
        for picture in self._pictures(first.packet, behind, end):
            if not begun and picture.opaque == first.packet:
                begun = end.apart = bool(picture.key_frame)
                if not begun:
                    return
            if following is not None and picture.opaque == following:
                return
            if begun:
                yield base + end.frames, picture
                end.frames += 1
        # no keyframe at the start: nothing was given. None behind the end: too many may have been given
        end.apart = begun and following is None

    def _pictures(self, row: int, behind: int, end: SegmentEnd) -> Iterator[Any]:
        """All pictures of packets ``row`` to ``behind``, in the order in which they are shown."""
        video = self._video
        alone = self._skips == "nonkey"  # others would have to come between keyframes for their order
        for place, packet in self._reader.read(row, behind):
            number = int(video.numbers[place])
            if alone and not (video.packets.key[place] and number >= 0):
                continue
            if number >= 0:
                self._at_packet(number)
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                end.undecodable.append(number)
                continue
            yield from pictures
            if alone:
                yield from self._rest(end, number)
                self._reader.stream.codec_context.flush_buffers()
        if not alone:
            yield from self._rest(end, -1)

    def _rest(self, end: SegmentEnd, number: int) -> Iterator[Any]:
        """The pictures that the decoder still holds."""
        try:
            yield from self._reader.stream.codec_context.decode(None)
        except av.FFmpegError:
            end.undecodable.append(number)
