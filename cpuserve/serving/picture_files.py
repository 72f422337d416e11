"""Finds picture files by the endings of their names."""

from __future__ import annotations

import stat
from pathlib import Path

from cpuserve.errors import UsageError

__all__ = ["PICTURE_ENDINGS", "no_picture", "pictures_in", "would_wait"]

PICTURE_ENDINGS = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures of a directory sorted by name, without those of its subdirectories.

    What cannot be read is among them, to be named with its error; pipes, sockets and devices are not.

    Raises:
        UsageError: there is none.
    """
    named = (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_ENDINGS)
    found = tuple(sorted(file for file in named if not would_wait(file)))
    if not found:
        raise no_picture(folder)
    return found


def would_wait(file: Path) -> bool:
    """Whether it is a pipe, a socket or a device: to open or read one may wait for ever."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def no_picture(place: Path) -> UsageError:
    """The error for a directory or list without a picture."""
    return UsageError(f"{place} has no picture; a picture ends in {', '.join(sorted(PICTURE_ENDINGS))}")
