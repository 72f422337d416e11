"""What a video file says of itself, with the number and the time of each of its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import VideoError
from cpuserve.settings import SETTINGS
from cpuserve.video.ffmpeg import ContainerFlags, PacketMark, av
from cpuserve.video.packets import UNKNOWN, PacketTable, open_video, stored_packets
from cpuserve.video.picture_scaler import PictureScaler
from cpuserve.video.segments import Segment, divide

__all__ = ["VideoFile", "probe"]

_MOST_REORDERED = 64  # frames; codecs allow 16. Where times go back further, a clock was set anew
_BREAK_STEPS, _BREAK_S = 10, 1.0  # from one frame to the next: usual steps, and seconds; more is a break
_RATES_AGREE = 0.02  # share that the rate of a container may be off that of the times
_ONE_RATE = 0.75  # of the steps from frame to frame are one frame long, where only lost ones are longer
_FIRST_PACKETS = 64
_FIRST_FRAMES = 24  # that show whether frames come in the order of their times

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file, as its packets tell; they are read without decoding them.

    Attributes:
        path: the file.
        width: of the pictures as they are shown (turned as the file says), in pixels.
        height: of the pictures as they are shown, in pixels.
        frame_rate: frames a second on average, by the times of the frames.
        codec: FFmpeg's name of the codec, such as ``h264``.
        time_base: seconds of one unit of ``pts``.
        duration_s: seconds from the first frame to the end of the last one.
        pts: i64 [frames], when each frame is shown, in the order of frame numbers.
        packet_bytes: i64 [frames], in the order of frame numbers.
        key: bool [frames], in the order of frame numbers: whether it is a keyframe.
        ordered: whether the packets tell the order of the frames. Where they do not (AVI files and bare
            streams with B-frames), frames are numbered as they come from the decoder, ``packet_bytes`` and
            ``key`` are in the order of the file, and the last frames may be missing.
        segments: parts that can be decoded apart from each other.
        packets: the packets.
        rows: i64 [frames], the row of each frame's packet, in the order of frame numbers.
        numbers: i64 [packets], the number of each packet's frame; -1 for packets without one.
        missing: how many frames the times leave out, and the number of the frame before the first of them.
    """

    path: Path
    width: int
    height: int
    frame_rate: float
    codec: str
    time_base: Fraction
    duration_s: float
    pts: _Numbers
    packet_bytes: _Numbers
    key: npt.NDArray[np.bool_]
    ordered: bool
    segments: tuple[Segment, ...]
    packets: PacketTable
    rows: _Numbers
    numbers: _Numbers
    missing: tuple[int, int] = (0, 0)

    @property
    def frames(self) -> int:
        """How many frames the packets promise. Damaged files decode to fewer."""
        return len(self.pts)

    def time_s(self, pts: int) -> float:
        """Seconds of a time in units of the time base, counted from the first frame."""
        base = self.time_base
        return (pts - int(self.pts[0])) * base.numerator / base.denominator

    def pts_of(self, number: int) -> int:
        """When a frame is shown, also for numbers behind those that the packets promise."""
        behind = number - self.frames + 1
        if behind <= 0:
            return int(self.pts[number])
        return int(self.pts[-1]) + round(behind / self.frame_rate / self.time_base)


def probe(path: str | Path, *, max_pixels: int | None = None) -> VideoFile:
    """Read the packets of a file, in this process.

    `cpuserve.video.decoding.probe_apart` does so in a process of its own, which a damaged file may crash.

    Args:
        path: the file.
        max_pixels: larger pictures are refused; None is the setting's default.

    Raises:
        VideoError: it cannot be opened, has no video, or too large pictures.
    """
    path = Path(path)
    limit = SETTINGS["max_pixels"].default if max_pixels is None else max_pixels
    container, stream = open_video(str(path), limit)
    with container:
        packets = PacketTable.read(container, stream)
        if not len(packets):
            raise VideoError(f"{path}: there is no frame in it" + _because(packets.damage))
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        base = stream.time_base or 1 / rate
        codec, bare = stream.codec_context.name, _tells_no_order(container, stream)
        timed = _times_frames(container)
    # the packet that the end of the file cuts off has no row
    decoded = [one for one in _first_frames(path, limit) if one[0] < len(packets)]
    width, height = decoded[0][1] if decoded else (stream.codec_context.width, stream.codec_context.height)
    shows = ~(packets.discarded | packets.hidden)
    shows[_undecodable_start(packets, {row for row, _ in decoded})] = False
    rows = np.flatnonzero(shows)
    if not len(rows):
        raise VideoError(f"{path}: none of its frames is shown" + _because(packets.damage))
    pts = packets.pts[rows]
    places = np.argsort(pts, kind="stable")
    told = bool(np.all(pts != UNKNOWN)) and len(np.unique(pts)) == len(pts)
    told = told and int(np.abs(places - np.arange(len(places))).max()) <= _MOST_REORDERED
    by_time = not bare and _is_shown_by_time(packets, [row for row, _ in decoded])
    ordered = told and by_time
    if ordered:
        rows = rows[places]
    numbers = np.full(len(packets), -1, np.int64)
    numbers[rows] = np.arange(len(rows))
    step = 1 / rate / base
    times = packets.pts[rows] if ordered else _shown_times(packets, rows, step) if by_time else None
    if times is None:
        times = _counted_times(packets, rows, step)
    else:
        rate = _mean_rate(times, base, rate)
    return VideoFile(
        path=path,
        width=width,
        height=height,
        frame_rate=float(rate),
        codec=codec,
        time_base=base,
        duration_s=float((int(times[-1]) - int(times[0])) * base + 1 / rate),
        pts=times,
        packet_bytes=packets.sizes[rows],
        key=packets.key[rows],
        # frames that are shown in the order in which they are decoded have numbers without times, too
        ordered=ordered or not _reorders(stream),
        segments=divide(_entries(packets, numbers), len(rows)),
        packets=packets,
        rows=rows,
        numbers=numbers,
        missing=_missing(times) if timed else (0, 0),
    )


def _missing(times: _Numbers) -> tuple[int, int]:
    """How many frames the times leave out, and the number of the frame before the first of them.

    Nothing where the times are not those of one rate.
    """
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if usual <= 0:
        return 0, 0
    frames = np.rint(steps / usual)
    even = np.abs(steps - frames * usual) <= np.maximum(1, frames)  # they are rounded to their base
    if not even.all() or (frames == 1).mean() < _ONE_RATE:
        return 0, 0
    return int(np.maximum(frames - 1, 0).sum()), int(np.argmax(frames > 1))


def _mean_rate(times: _Numbers, base: Fraction, told: Fraction) -> Fraction:
    """Frames a second by the times of the frames, where the container tells another rate.

    Matroska and WebM tell how long a frame usually is; recordings of browsers and cameras have other times.
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return told
    # a longer one is a break, in which nothing was recorded
    longest = max(_BREAK_STEPS * float(np.median(steps)), float(_BREAK_S / base))
    rate = len(steps) / float(np.minimum(steps, longest).sum()) / float(base)
    return told if abs(rate / float(told) - 1) <= _RATES_AGREE else Fraction(rate).limit_denominator(1000)


def _because(damage: str | None) -> str:
    return f": {damage}" if damage else ""


def _reorders(stream: Any) -> bool:
    return bool(stream.codec_context.reorder_depth or stream.codec_context.has_b_frames)


def _tells_no_order(container: Any, stream: Any) -> bool:
    """Whether a container stores when frames are decoded alone, and frames are shown in another order."""
    return container.format.name == "avi" and _reorders(stream)


def _times_frames(container: Any) -> bool:
    """Whether each frame has its own time in the file; program streams time packets, bare ones nothing."""
    bare = container.format.flags & ContainerFlags.no_timestamps.value
    return not bare and container.format.name != "mpeg"


def _first_frames(path: Path, max_pixels: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Packet and shown size of the first frames: up to a keyframe, and some more where they are reordered."""
    container, stream = open_video(str(path), max_pixels)
    with container:
        stream.thread_type = "NONE"
        stream.codec_context.copy_opaque = True
        key: int | None = None
        count, wanted = 0, _FIRST_FRAMES if _reorders(stream) else 1
        seen = False
        try:
            stored = stored_packets(container, stream)
            for row, packet in zip(range(_FIRST_PACKETS), stored, strict=False):
                packet.opaque = PacketMark(row)
                key = row if key is None and packet.is_keyframe and not packet.is_discard else key
                for picture in packet.decode():
                    yield picture.opaque, PictureScaler.shown_size(picture)
                    count, seen = count + 1, seen or picture.opaque == key
                    if seen and count >= wanted:
                        return
            for picture in stream.codec_context.decode(None):
                yield picture.opaque, PictureScaler.shown_size(picture)
        except (av.FFmpegError, OSError):
            return  # the decoding of the whole file tells what is wrong with it


def _is_shown_by_time(packets: PacketTable, decoded: list[int]) -> bool:
    """Whether frames come from the decoder in the order of their packets' times."""
    return bool(np.all(np.diff(packets.pts[decoded]) >= 0))


def _undecodable_start(packets: PacketTable, decoded: set[int]) -> list[int]:
    """Rows of packets at the start that need frames from before the file.

    Those before the first keyframe, and those behind it that are shown before it.
    """
    keys = np.flatnonzero(packets.key[:_FIRST_PACKETS])
    if not len(keys) or int(keys[0]) not in decoded:
        return []
    key = int(keys[0])
    early = [row for row in range(key + 1, min(len(packets), key + 32)) if _before(packets, row, key)]
    return [row for row in [*range(key), *early] if row not in decoded]


def _before(packets: PacketTable, row: int, other: int) -> bool:
    time, other_time = int(packets.pts[row]), int(packets.pts[other])
    return UNKNOWN not in (time, other_time) and time < other_time


def _shown_times(packets: PacketTable, rows: _Numbers, step: Fraction) -> _Numbers | None:
    """Times of frames that are shown in the order of their times, though those do not number them.

    Several frames may have one time, and the clock may be set back at a keyframe: what is behind it goes on
    one frame later.

    Args:
        packets: of the file.
        rows: of the frames, in the order of the file.
        step: from one frame to the next, in units of the times.

    Returns:
        None where the times tell less than that.
    """
    pts = packets.pts[rows]
    if (pts == UNKNOWN).any():
        return None
    back: list[int] = []
    highest, seen = int(pts[0]), 0
    for row in map(int, np.flatnonzero(packets.key[rows][1:]) + 1):
        highest, seen = max(highest, int(pts[seen:row].max())), row
        if pts[row] < highest:
            back.append(row)
            highest = int(pts[row])
    parts: list[_Numbers] = []
    later = 0
    for part in np.split(pts, back):
        places = np.argsort(part, kind="stable")
        if int(np.abs(places - np.arange(len(part))).max()) > _MOST_REORDERED:
            return None
        if parts:
            later = int(parts[-1][-1]) + round(step) - int(part.min())
        parts.append(part[places] + later)
    return np.concatenate(parts)


def _counted_times(packets: PacketTable, rows: _Numbers, step: Fraction) -> _Numbers:
    """Times of frames by their numbers: the decoding times, or evenly spaced ones where there are none.

    They begin with the first time at which a frame is shown, where the file tells any.
    """
    times = packets.dts[rows]
    known = times != UNKNOWN
    if not known.all() and (packets.pts[rows] != UNKNOWN).all():
        times, known = packets.pts[rows], np.ones(len(rows), np.bool_)
    shown = packets.pts[rows[:_MOST_REORDERED]]
    shown = shown[shown != UNKNOWN]
    if known.all() and (np.diff(times) > 0).all():
        # the first frame is shown later than it is decoded, and all others by as much
        late = max(0, int(shown.min()) - int(times[0])) if len(shown) else 0
        return times + late
    first = int(shown.min()) if len(shown) else int(times[0]) if known[0] else 0
    return np.array([first + round(number * step) for number in range(len(rows))], np.int64)


def _entries(packets: PacketTable, numbers: _Numbers) -> Iterator[tuple[int, int]]:
    """Keyframes (row and number) before which no packet belongs to a later frame."""
    highest = np.maximum.accumulate(numbers)
    for row in np.flatnonzero(packets.key):
        if numbers[row] >= 0 and (row == 0 or highest[row - 1] < numbers[row]):
            yield int(row), int(numbers[row])
