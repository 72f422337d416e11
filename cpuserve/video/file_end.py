"""Tells by the end of a video file whether it was cut off, where FFmpeg reads on as if it were whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["cut_end"]

_START = 4096  # bytes that have all of a header that is looked for

_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
_EBML_HEAD = 12  # bytes of the longest name and size

_MXF_PARTITION = bytes.fromhex("060e2b34020501010d010201")
_MXF_HEAD = 64
_MXF_FOOTER = 24  # from the value of a partition pack to the place of the file's footer

_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")
_NUT_MAIN = bytes.fromhex("4e4d7a561f5f04ad")
_NUT_LATEST = 3  # later versions may say that there is no index

_OGG_PAGE = b"OggS"
_OGG_MOST = 1 << 17  # bytes that have a whole page
_OGG_HEADER = 27
_OGG_LAST = 4

_PS_PACK = b"\x00\x00\x01\xba"
_PS_END = 0xB9
_PS_MOST = 1 << 18  # bytes that have a whole pack, usually

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

    Elementary streams (H.264, MPEG-4, AV1), and files that are cut between two packets of a container without
    a length (transport and program streams, Matroska, MXF and AVI that were written live) do not tell.

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
        if {"yuv4mpegpipe", "dv"} & {*names}:
            # pictures are all of one size, and nothing else is behind the last
            return None if size == behind else _CUT
        return next((_CHECKS[name](file, size) for name in names if name in _CHECKS), None)


def _matroska_damage(file: BinaryIO, size: int) -> str | None:
    """A segment has its length, or, where it was written live, blocks that have theirs."""
    ends_at = _matroska_end(file.read(_START))
    if ends_at:
        return _SHORT if ends_at > size else None
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(_EBML_HEAD)
        name = 9 - head[0].bit_length()  # its length, as that of a size
        if name > 4 or len(head) <= name:
            return _CUT if name <= 4 else None
        length = 9 - head[name].bit_length()
        place += name + length
        inside = int.from_bytes(head[name : name + length], "big") & (1 << 7 * length) - 1
        if inside != (1 << 7 * length) - 1:
            place += inside
        elif head[:name] not in (_MATROSKA_SEGMENT, _MATROSKA_CLUSTER):
            return None
    return _CUT if place > size else None


def _matroska_end(start: bytes) -> int:
    """Where the segment of a Matroska file ends, by its own word; 0 where it does not tell."""
    place = start.find(_MATROSKA_SEGMENT) + len(_MATROSKA_SEGMENT)
    if place < len(_MATROSKA_SEGMENT) or place >= len(start):
        return 0
    length = 9 - start[place].bit_length()  # of the size: its first byte has as many zero bits before a one
    size = int.from_bytes(start[place : place + length], "big") & (1 << 7 * length) - 1
    return 0 if size == (1 << 7 * length) - 1 else place + length + size


def _avi_damage(file: BinaryIO, size: int) -> str | None:
    return _SHORT if _riff_end(file, size) > size else None


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


def _asf_damage(file: BinaryIO, size: int) -> str | None:
    return _SHORT if _asf_end(file.read(_START)) > size else None


def _asf_end(start: bytes) -> int:
    """The size of an ASF file (WMV) by its own word; 0 where it does not tell."""
    place = start.find(_ASF_PROPERTIES)
    if place < 0 or len(start) < place + _ASF_FLAGS + 4:
        return 0
    if start[place + _ASF_FLAGS] & _ASF_BROADCAST:
        return 0
    return int.from_bytes(start[place + _ASF_SIZE : place + _ASF_SIZE + 8], "little")


def _ts_damage(file: BinaryIO, size: int) -> str | None:
    return _CUT if _ts_remainder(file.read(_START), size) else None


def _ts_remainder(start: bytes, size: int) -> int:
    """Bytes behind the last whole packet of an MPEG transport stream; 0 where their size is unknown."""
    for length in _TS_PACKETS:
        first = length - 188 if length == 192 else 0
        marks = range(first, min(len(start), first + _TS_PROVED * length), length)
        if len(marks) > 1 and all(start[place] == _TS_SYNC for place in marks):
            return size % length
    return 0


def _mjpeg_damage(file: BinaryIO, size: int) -> str | None:
    """JPEG's mark of the end is the last of a stream of JPEG pictures, but for zeros that fill it."""
    return None if _tail(file, size, _START).rstrip(b"\0").endswith(b"\xff\xd9") else _CUT


def _mxf_damage(file: BinaryIO, size: int) -> str | None:
    """The first partition tells where the footer is; where it was written live, each item has its length."""
    place = file.read(_START).find(_MXF_PARTITION)
    if place < 0:
        return None
    footer = None
    while place < size:
        file.seek(place)
        head = file.read(_MXF_HEAD)
        length = head[16] if len(head) > 16 else 0
        more = length & 0x7F if length & 0x80 else 0
        if len(head) < 17 + more:
            return _CUT
        place += 17 + more
        if footer is None:
            start = 17 + more + _MXF_FOOTER
            if footer := int.from_bytes(head[start : start + 8], "big"):
                return _SHORT if footer >= size else None
        place += int.from_bytes(head[17 : 17 + more], "big") if more else length
    return _CUT if place > size else None


def _nut_damage(file: BinaryIO, size: int) -> str | None:
    """An index is the last of a file, and its length the last of it before a checksum."""
    head = file.read(_START)
    length = int.from_bytes(_tail(file, size, 12)[:8], "big")
    place = head.find(_NUT_MAIN)
    if place < 0 or _nut_version(head[place + len(_NUT_MAIN) :]) > _NUT_LATEST:
        return None
    return None if _tail(file, size, min(length, size)).startswith(_NUT_INDEX) else "it ends before its index"


def _nut_version(head: bytes) -> int:
    """The version in the main header, behind its length."""
    return next((head[place + 1] for place, byte in enumerate(head[:-1]) if byte < 0x80), 0)


def _ogg_damage(file: BinaryIO, size: int) -> str | None:
    """Pages have a length, and the last one says that it is the last."""
    end = _tail(file, size, _OGG_MOST)
    place = end.rfind(_OGG_PAGE)
    page = end[max(0, place) :]
    if place < 0:
        return None
    if len(page) < _OGG_HEADER + 1 or len(page) < (behind := _OGG_HEADER + page[26]):
        return _CUT
    length = behind + sum(page[_OGG_HEADER:behind])
    if length != len(page):
        return _CUT if length > len(page) else None
    return None if page[5] & _OGG_LAST else "it ends before its last page"


def _ps_damage(file: BinaryIO, size: int) -> str | None:
    """Packets of a program stream have a length; behind the last one nothing needs to be."""
    end = _tail(file, size, _PS_MOST)
    place = end.rfind(_PS_PACK)
    if place < 0:
        return None
    pack = end[place : place + 14]
    if len(pack) < 14:
        return _CUT
    place += 14 + (pack[13] & 7) if pack[4] >> 6 == 1 else 12  # MPEG-2's, and MPEG-1's
    while place < len(end):
        head = end[place : place + 6]
        if not head.startswith(_PS_PACK[: min(3, len(head))]):
            return None  # zeros that fill it, or what no program stream has
        if len(head) > 3 and head[3] == _PS_END:
            return None
        if len(head) < 6:
            return _CUT
        place += 6 + int.from_bytes(head[4:], "big")
    return _CUT if place > len(end) else None


def _gif_damage(file: BinaryIO, size: int) -> str | None:
    return None if _gif_is_whole(file, size) else "it ends before its trailer"


def _tail(file: BinaryIO, size: int, most: int) -> bytes:
    """The last bytes of a file."""
    file.seek(max(0, size - most))
    return file.read()


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


_CHECKS: Mapping[str, Callable[[BinaryIO, int], str | None]] = {
    "asf": _asf_damage,
    "avi": _avi_damage,
    "gif": _gif_damage,
    "matroska": _matroska_damage,
    "mjpeg": _mjpeg_damage,
    "mpeg": _ps_damage,
    "mpegts": _ts_damage,
    "mxf": _mxf_damage,
    "nut": _nut_damage,
    "ogg": _ogg_damage,
}
