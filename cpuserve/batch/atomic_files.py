"""Writes files that are there whole or not at all, also after the machine lost its power."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cpuserve.models.directories import sync
from cpuserve.video.outputs.journal import cannot_write

__all__ = ["FileSum", "sum_of", "write_whole"]

_PIECE = 1 << 20


class FileSum(NamedTuple):
    """Size and checksum of a file.

    Attributes:
        size: bytes.
        sha256: of its content, in hexadecimal digits.
    """

    size: int
    sha256: str


def write_whole(path: Path, write: Callable[[Path], None], scratch: Path) -> FileSum:
    """Write a file beside, flush it to the disk, and rename it to its name.

    Args:
        path: the file; one that is there is replaced.
        write: writes the content to a path.
        scratch: a folder on the same file system, for the file that is not whole yet.

    Raises:
        CpuserveError: it cannot be written.
    """
    partial = scratch / f"{path.name}.partial"
    try:
        write(partial)
        sync(partial)
        found = sum_of(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    return found


def sum_of(path: Path) -> FileSum:
    """Size and checksum of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return FileSum(size, digest.hexdigest())
