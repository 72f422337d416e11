"""Finds the videos that a user names: files, directories, patterns and live sources."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cpuserve.errors import UsageError
from cpuserve.machine.files import text_of_path

__all__ = ["VIDEO_ENDINGS", "VideoSource", "find_videos", "shown_address"]

VIDEO_ENDINGS = frozenset(
    {
        *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc"),
        *(
            ".ivf",
            ".m1v",
            ".m2ts",
            ".m2v",
            ".m4v",
            ".mjpeg",
            ".mjpg",
            ".mkv",
            ".mov",
            ".mp4",
            ".mpe",
            ".mpeg",
        ),
        *(".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    }
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_CAMERA = re.compile(r"/dev/video\d+")


@dataclass(frozen=True)
class VideoSource:
    """One video.

    Attributes:
        name: as the user wrote it, but for a password; of a file in a directory, the directory and its path
            there.
        place: its path below an output directory, without a suffix for the output's format.
        live: whether frames come when they come: a camera, or a stream of the network.
        password_in: the address with its user and password, where it has them.
    """

    name: str
    place: str
    live: bool = False
    password_in: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """What a live source is opened by; the name is for outputs and messages."""
        return self.password_in or self.name

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.name)


def shown_address(address: str) -> str:
    """An address without the user and the password in it."""
    return re.sub(r"//[^/\s]*@", "//", address)


def find_videos(arguments: Iterable[str]) -> list[VideoSource]:
    """The videos that are named, in that order and without doubles; those of a directory by name.

    Args:
        arguments: each a file, a directory (of which all files with a video's suffix are taken, at any
            depth), a pattern such as ``day/*.mp4``, an address such as ``rtsp://camera/1``, a camera
            ``/dev/video0``, a named pipe, or ``-`` for standard input.

    Raises:
        UsageError: there is no such file, a pattern fits none, a directory has no video in it or cannot be
            read, or the name of a file is no UTF-8.
    """
    found: dict[str, VideoSource] = {}
    for argument in arguments:
        for source in _sources(argument):
            if (shown := text_of_path(source.name)) != source.name:
                raise UsageError(
                    f"the name of the video {shown} is no UTF-8, in which outputs name it: rename it"
                )
            found.setdefault(source.name, source)
    return list(found.values())


def _sources(argument: str) -> list[VideoSource]:
    if argument == "-":
        return [VideoSource(argument, "stdin", live=True)]
    if argument.startswith("file://"):
        argument = url2pathname(urlsplit(argument).path)
    if _CAMERA.fullmatch(argument) and not Path(argument).exists():
        there = " ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise UsageError(f"there is no camera {argument}; there are: {there}")
    if _ADDRESS.fullmatch(argument) or _CAMERA.fullmatch(argument) or Path(argument).is_fifo():
        shown = shown_address(argument)
        place = re.sub(r"[^\w.-]+", "-", shown).strip("-.")
        whole = argument if shown != argument else ""
        return [VideoSource(shown, place or "live", live=True, password_in=whole)]
    path = Path(argument)
    if path.is_dir():
        files = sorted(
            file for file in _files_below(path) if file.suffix.lower() in VIDEO_ENDINGS and file.is_file()
        )
        if not files:
            raise UsageError(
                f"the directory {argument} has no video: files with one of the suffixes "
                f"{' '.join(sorted(VIDEO_ENDINGS))} are looked for; name others one by one"
            )
        return [VideoSource(str(file), file.relative_to(path).as_posix()) for file in files]
    if path.exists():
        return [VideoSource(argument, path.name)]
    files = sorted(Path(name) for name in glob.glob(argument, recursive=True))  # noqa: PTH207  # absolute ones too
    if glob.has_magic(argument) and not files:
        raise UsageError(f"no file fits the pattern {argument}")
    if not files:
        raise UsageError(f"there is no video {argument}")
    return [VideoSource(str(file), file.name) for file in files if file.is_file()]


def _files_below(folder: Path) -> Iterator[Path]:
    """All files at any depth. A directory that cannot be read would be left out without a word."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"the directory {error.filename} cannot be read: {error.strerror}")

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names)
