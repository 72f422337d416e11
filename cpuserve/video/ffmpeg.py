"""PyAV, which has FFmpeg's libraries inside, or an error that says how to install it."""

from __future__ import annotations

from typing import Any

from cpuserve.errors import MissingExtra

try:
    import av
    import av.filter
    from av.format import Flags as ContainerFlags
    from av.sidedata.sidedata import Type as SideDataType
    from av.stream import Disposition
    from av.video.frame import PictureType
    from av.video.reformatter import Interpolation, VideoReformatter
except ImportError as error:
    raise MissingExtra("video needs PyAV", "video") from error

__all__ = [
    "ContainerFlags",
    "Disposition",
    "Interpolation",
    "PacketMark",
    "PictureType",
    "SideDataType",
    "VideoReformatter",
    "av",
    "reason",
]


def _unlisted(kinds: Any, value: object) -> Any:
    """A member for a kind of side data that FFmpeg has and PyAV's list has not, such as EXIF.

    Without one PyAV 18 raises ValueError for all side data of such a frame, its display matrix too.
    """
    member = object.__new__(kinds)
    member._name_, member._value_ = f"UNLISTED_{value}", value
    kinds._value2member_map_[value] = member
    return member


SideDataType._missing_ = classmethod(_unlisted)  # type: ignore[method-assign, assignment]


class PacketMark(int):
    """A number that is put on a packet and found on its frame.

    PyAV keeps what is put on a packet by its place in memory, and forgets it with the first packet that goes.
    Each object of this class has a place of its own, other than the small numbers, which all packets of the
    process share.
    """


def reason(error: Exception) -> str:
    """What FFmpeg or the kernel says of a failure, without the file's name."""
    if isinstance(error, av.ExitError):
        return "nothing came in time"  # PyAV ends what takes longer than its timeout
    said = getattr(error, "strerror", None)
    return str(said or error or type(error).__name__)
