"""PyAV, which has FFmpeg's libraries inside, or an error that says how to install it."""

from __future__ import annotations

from cpuserve.errors import MissingExtra

try:
    import av
    import av.filter
    from av.sidedata.sidedata import Type as SideDataType
    from av.stream import Disposition
    from av.video.frame import PictureType
    from av.video.reformatter import Interpolation, VideoReformatter
except ImportError as error:
    raise MissingExtra("video needs PyAV", "video") from error

__all__ = [
    "Disposition",
    "Interpolation",
    "PacketMark",
    "PictureType",
    "SideDataType",
    "VideoReformatter",
    "av",
    "reason",
]


class PacketMark(int):
    """A number that is put on a packet and found on its frame.

    PyAV keeps what is put on a packet by its place in memory, and forgets it with the first packet that goes.
    Each object of this class has a place of its own, other than the small numbers, which all packets of the
    process share.
    """


def reason(error: Exception) -> str:
    """What FFmpeg or the kernel says of a failure, without the file's name."""
    said = getattr(error, "strerror", None)
    return str(said or error or type(error).__name__)
