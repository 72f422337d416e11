"""Finds picture files by the endings of their names."""

from __future__ import annotations

from pathlib import Path

from cpuserve.errors import UsageError

__all__ = ["PICTURE_ENDINGS", "no_picture", "pictures_in"]

PICTURE_ENDINGS = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures of a directory sorted by name, without those of its subdirectories.

    Raises:
        UsageError: there is none.
    """
    found = tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_ENDINGS))
    if not found:
        raise no_picture(folder)
    return found


def no_picture(place: Path) -> UsageError:
    """The error for a directory or list without a picture."""
    return UsageError(f"{place} has no picture; a picture ends in {', '.join(sorted(PICTURE_ENDINGS))}")
