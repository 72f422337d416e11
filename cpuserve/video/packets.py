"""The packets of a video file: their table, and a reader that finds any of them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cpuserve.errors import VideoError
from cpuserve.video.ffmpeg import Disposition, PacketMark, av, reason
from cpuserve.video.file_end import cut_end

__all__ = [
    "UNKNOWN",
    "PacketReader",
    "PacketTable",
    "is_cut",
    "open_video",
    "refuse_size",
    "stored_packets",
]

UNKNOWN = -(1 << 63)
"""A time or a position that a packet does not have."""

_HEADER = 32  # bytes between the place that a container tells of a packet and its data, at most
_NEAR = 256  # packets; up to here reading on is cheaper than seeking

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PacketTable:
    """All packets of a stream in the order of the file, which is that of decoding.

    Attributes:
        pts: i64 [packets], times at which frames are shown; `UNKNOWN` where the file has none.
        dts: i64 [packets], times at which frames are decoded; `UNKNOWN` where the file has none.
        sizes: i64 [packets], in bytes.
        positions: i64 [packets], places in the file; `UNKNOWN` where the container does not tell.
        key: bool [packets].
        discarded: bool [packets]: decoded, but not shown, by the container's edit list.
        hidden: bool [packets]: by its own header a frame that is never shown (VP8).
        damage: what is wrong with the file behind the last packet; None when nothing is.
    """

    pts: _Numbers
    dts: _Numbers
    sizes: _Numbers
    positions: _Numbers
    key: npt.NDArray[np.bool_]
    discarded: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    damage: str | None

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def read(cls, container: Any, stream: Any) -> PacketTable:
        """Demux a whole file. A file that breaks off has the packets before that place."""
        rows: list[tuple[int, int, int, int, bool, bool, bool]] = []
        damage = None
        hides = stream.codec_context.name == "vp8"
        try:
            for packet in stored_packets(container, stream):
                if packet.is_corrupt and is_cut(container, packet):
                    damage = "it ends inside a packet"
                    break
                rows.append(
                    (
                        UNKNOWN if packet.pts is None else packet.pts,
                        UNKNOWN if packet.dts is None else packet.dts,
                        packet.size,
                        UNKNOWN if packet.pos is None else packet.pos,
                        packet.is_keyframe,
                        packet.is_discard,
                        hides and not bytes(memoryview(packet)[:1])[0] & 0x10,
                    )
                )
        except (av.FFmpegError, OSError) as error:
            damage = f"it cannot be read on ({reason(error)})"
        if damage is None:
            behind = max((position + size for *_, size, position, _, _, _ in rows), default=0)
            damage = cut_end(container, stream, behind)
        columns = list(zip(*rows, strict=True)) if rows else [()] * 7
        pts, dts, sizes, positions = (np.array(column, np.int64) for column in columns[:4])
        key, discarded, hidden = (np.array(column, np.bool_) for column in columns[4:])
        return cls(pts, dts, sizes, positions, key, discarded, hidden, damage)


class PacketReader:
    """Reads the packets of a file from any place of its table on.

    Args:
        path: the file.
        table: its packets.
        max_pixels: larger pictures are refused before memory for them is taken.
        skip_frame: FFmpeg's name of the frames that its decoder leaves out.

    Attributes:
        stream: the open stream. Each read may open another.
    """

    def __init__(self, path: Path, table: PacketTable, max_pixels: int, skip_frame: str) -> None:
        self.path = path
        self._table = table
        self._max_pixels = max_pixels
        self._skip_frame = skip_frame
        self._rows: dict[tuple[int, int, int], int] | None = None
        self._open()

    def _open(self) -> None:
        self._container, self.stream = open_video(str(self.path), self._max_pixels)
        self.stream.thread_type = "NONE"
        self.stream.codec_context.copy_opaque = True
        self.stream.codec_context.skip_frame = self._skip_frame
        self._packets = stored_packets(self._container, self.stream)
        self._next = 0

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, first: int, behind: int) -> Iterator[tuple[int, Any]]:
        """Packets from row ``first`` of the table on, up to the one before row ``behind``.

        The decoder is as new: what came before is forgotten.

        Raises:
            VideoError: the file has changed since the table was read.
        """
        for row, packet in self._from(first):
            if row >= behind:
                return
            packet.opaque = PacketMark(row)
            yield row, packet
            if row + 1 >= behind:
                return

    def _from(self, first: int) -> Iterator[tuple[int, Any]]:
        self.stream.codec_context.flush_buffers()
        found = self._seek(first) if not self._next <= first <= self._next + _NEAR else None
        if found is not None:
            yield found
        elif first < self._next:
            self.close()
            self._open()
        try:
            for packet in self._packets:
                row, self._next = self._next, self._next + 1
                if row >= first:
                    if row >= len(self._table):
                        return
                    if packet.size != self._table.sizes[row]:
                        raise VideoError(f"{self.path}: it has changed while it was read")
                    yield row, packet
        except (av.FFmpegError, OSError) as error:
            if self._next < len(self._table):
                raise VideoError(f"{self.path}: it cannot be read on ({reason(error)})") from error

    def _seek(self, first: int) -> tuple[int, Any] | None:
        """Go to the packet of a row; None when it is not found, and the next read goes through the file."""
        table = self._table
        time = int(table.dts[first] if table.dts[first] != UNKNOWN else table.pts[first])
        if first == 0 or time == UNKNOWN:
            return None
        if self._rows is None:
            names = zip(table.positions.tolist(), table.pts.tolist(), table.sizes.tolist(), strict=True)
            self._rows = {name: row for row, name in enumerate(names)}
        if len(self._rows) < len(table):  # packets that cannot be told from each other
            return None
        try:
            self._container.seek(time, stream=self.stream)
            self._packets = stored_packets(self._container, self.stream)
            for packet in self._packets:
                pts = UNKNOWN if packet.pts is None else packet.pts
                position = UNKNOWN if packet.pos is None else packet.pos
                row = self._rows.get((position, pts, packet.size), first + 1)
                if row > first:
                    break
                if row == first:
                    self._next = row + 1
                    return row, packet
        except (av.FFmpegError, OSError):
            pass  # the way through the whole file tells what is wrong with it
        self._next = len(table) + 1  # nowhere: `_from` begins at the start of the file
        return None


def open_video(
    source: Any, max_pixels: int, options: Mapping[str, str] | None = None, **others: Any
) -> tuple[Any, Any]:
    """A container and its video stream.

    Args:
        source: a path, an address, or an object with ``read`` and a ``name``.
        max_pixels: larger pictures are refused before memory for them is taken.
        options: of FFmpeg's container and protocol.
        others: arguments of `av.open`.

    Raises:
        VideoError: it cannot be opened, or has no video.
    """
    named = getattr(source, "name", source)
    limit = {"max_pixels": str(max_pixels)}
    if Path(named).is_dir():
        raise VideoError(f"{named}: it is a directory, not a video")
    if Path(named).is_file() and not Path(named).stat().st_size:
        raise VideoError(f"{named}: it is empty")
    if Path(named).exists() and source is named:
        source = f"file:{named}"  # a colon in a file's name begins no address
    try:
        # FFmpeg decodes a first frame when it opens a file
        container = av.open(source, options={**limit, **(options or {})}, metadata_errors="replace", **others)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{named}: it cannot be opened as a video ({reason(error)})") from error
    try:
        stream = _video_of(named, container)
        refuse_size(named, stream.codec_context.width, stream.codec_context.height, max_pixels)
    except VideoError:
        container.close()
        raise
    stream.codec_context.options = limit
    return container, stream


def _video_of(path: str | Path, container: Any) -> Any:
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise VideoError(f"{path}: there is no video in it")
    if stream.codec_context is None:
        raise VideoError(f"{path}: its video is of a codec that FFmpeg does not know")
    return stream


def refuse_size(path: str | Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse pictures of too many pixels.

    Raises:
        VideoError: they have more than ``max_pixels``.
    """
    if width * height > max_pixels:
        raise VideoError(
            f"{path}: its pictures of {width}x{height} pixels are larger than {max_pixels} pixels "
            "(setting max_pixels)"
        )


def stored_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets that have data. An empty one would tell the decoder that the stream has ended."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except IndexError:
        # behind the last packet, PyAV looks for streams that have begun within the file, and finds none
        return


def is_cut(container: Any, packet: Any) -> bool:
    """Whether a damaged packet is one that the end of the file cuts off."""
    return packet.pos is not None and packet.pos + packet.size + _HEADER >= container.size
