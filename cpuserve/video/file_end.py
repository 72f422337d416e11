"""Tells by the end of a video file whether it was cut off, where FFmpeg reads on as if it were whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cut_end"]

_START = 4096  # bytes that have all of a header that is looked for

_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"

_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SIZE = 40  # from there to the size of the file
_ASF_FLAGS = 88
_ASF_BROADCAST = 1  # written live: its size was not known

_RIFF_HEAD = 8
_RIFF_UNKNOWN = (0, (1 << 32) - 1)  # written live

_GIF_HEADER = 13
_GIF_EXTENSION, _GIF_PICTURE, _GIF_TRAILER = 0x21, 0x2C, 0x3B

_TS_SYNC = 0x47
_TS_PACKETS = (188, 192, 204)  # plain; with a time before each; with check bytes behind each
_TS_PROVED = 5  # packets in a row that begin with the sync byte

_CUT = "it ends inside a packet"
_SHORT = "it is shorter than its index says"


def cut_end(container: Any, stream: Any, behind: int) -> str | None:
    """What is wrong with a file's end, to be said behind its name; None where nothing is known to be.

    Elementary streams (H.264, MPEG-4), program streams, and files that are cut between two packets of a
    container without a length do not tell.

    Args:
        container: the open file, read to its end.
        stream: its video.
        behind: place in the file behind the data of the last packet.
    """
    names = container.format.name.split(",")
    if "mp4" in names:
        ends = [entry.pos + entry.size for entry in stream.index_entries]
        return _SHORT if ends and max(ends) > container.size else None
    place = Path(container.name.removeprefix("file:"))
    if not place.is_file():
        return None
    with place.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if "gif" in names:
            return None if _gif_is_whole(file, size) else "it ends before its trailer"
        start = file.read(_START)
        if "avi" in names:
            return _SHORT if _riff_end(file, size) > size else None
    if "yuv4mpegpipe" in names:
        # pictures are all of one size, and nothing else is behind the last
        return None if size <= behind else _CUT
    if "mpegts" in names:
        return _CUT if _ts_remainder(start, size) else None
    if "mjpeg" in names:
        return None if _has_jpeg_end(place, size) else _CUT
    ends_at = _matroska_end(start) if "matroska" in names else _asf_end(start) if "asf" in names else 0
    return _SHORT if ends_at > size else None


def _matroska_end(start: bytes) -> int:
    """Where the segment of a Matroska file ends, by its own word; 0 where it does not tell."""
    place = start.find(_MATROSKA_SEGMENT) + len(_MATROSKA_SEGMENT)
    if place < len(_MATROSKA_SEGMENT) or place >= len(start):
        return 0
    length = 9 - start[place].bit_length()  # of the size: its first byte has as many zero bits before a one
    size = int.from_bytes(start[place : place + length], "big") & (1 << 7 * length) - 1
    return 0 if size == (1 << 7 * length) - 1 else place + length + size


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the chunks of an AVI file end, by their own words; 0 where one does not tell."""
    place = end = 0
    while place + _RIFF_HEAD <= size:
        file.seek(place)
        head = file.read(_RIFF_HEAD)
        length = int.from_bytes(head[4:], "little")
        if not head.startswith(b"RIFF"):
            break  # whatever else is there is no video
        if length in _RIFF_UNKNOWN:
            return 0
        end = place + _RIFF_HEAD + length
        place = end + length % 2
    return end


def _asf_end(start: bytes) -> int:
    """The size of an ASF file (WMV) by its own word; 0 where it does not tell."""
    place = start.find(_ASF_PROPERTIES)
    if place < 0 or len(start) < place + _ASF_FLAGS + 4:
        return 0
    if start[place + _ASF_FLAGS] & _ASF_BROADCAST:
        return 0
    return int.from_bytes(start[place + _ASF_SIZE : place + _ASF_SIZE + 8], "little")


def _ts_remainder(start: bytes, size: int) -> int:
    """Bytes behind the last whole packet of an MPEG transport stream; 0 where their size is unknown."""
    for length in _TS_PACKETS:
        first = length - 188 if length == 192 else 0
        marks = range(first, min(len(start), first + _TS_PROVED * length), length)
        if len(marks) > 1 and all(start[place] == _TS_SYNC for place in marks):
            return size % length
    return 0


def _has_jpeg_end(place: Path, size: int) -> bool:
    """Whether JPEG's mark of the end is the last of a stream of JPEG pictures, but for zeros that fill it."""
    with place.open("rb") as file:
        file.seek(max(0, size - _START))
        return file.read().rstrip(b"\0").endswith(b"\xff\xd9")


def _gif_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the blocks of a GIF lead to its trailer."""
    header = file.read(_GIF_HEADER)
    if len(header) < _GIF_HEADER:
        return False
    file.seek(_gif_colours(header[10]), os.SEEK_CUR)
    while file.tell() < size:
        kind = file.read(1)[0]
        if kind == _GIF_TRAILER:
            return True
        if kind == _GIF_PICTURE:
            place = file.read(9)
            if len(place) < 9:
                return False
            file.seek(_gif_colours(place[8]) + 1, os.SEEK_CUR)
        elif kind == _GIF_EXTENSION:
            file.seek(1, os.SEEK_CUR)
        else:
            return True  # no GIF block: what FFmpeg made of it is not the end's fault
        while length := file.read(1):
            if not length[0]:
                break
            file.seek(length[0], os.SEEK_CUR)
    return False


def _gif_colours(flags: int) -> int:
    """Bytes of the table of colours that follows."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
