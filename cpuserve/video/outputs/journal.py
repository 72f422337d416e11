"""A file with a JSON line for each answered frame, which can be continued after its writer was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from cpuserve.errors import CpuserveError

__all__ = ["FrameJournal", "cannot_write", "read_lines"]

Line = dict[str, Any]
_CHUNK = 1 << 20


class FrameJournal:
    """Appends lines to a file. A context manager.

    Attributes:
        path: the file.

    Args:
        path: the file; a last line that was not written to its end is cut off.

    Raises:
        CpuserveError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("ab")
            _cut_partial_line(path)
        except OSError as error:
            raise cannot_write(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self, lines: int) -> None:
        """Cut all but the first lines.

        Raises:
            CpuserveError: it cannot be read or written.
        """
        try:
            with self.path.open("rb") as file:
                end = sum(len(text) for _, text in zip(range(lines), file, strict=False))
            os.ftruncate(self._file.fileno(), end)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def append(self, line: Line) -> None:
        """Write one line, for whoever reads along.

        Raises:
            CpuserveError: it cannot be written, as on a full disk.
        """
        try:
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Write what is in memory to the file.

        Raises:
            CpuserveError: it cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error


def read_lines(path: Path) -> Iterator[Line]:
    """The whole lines of a journal.

    Raises:
        CpuserveError: it cannot be read, or a line in it is damaged.
    """
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                try:
                    yield orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    raise CpuserveError(
                        f"{path}, line {number}, is damaged ({error}): it cannot be continued; start anew "
                        "with --overwrite"
                    ) from error
    except OSError as error:
        raise CpuserveError(f"{path} cannot be read: {error.strerror}") from error


def cannot_write(path: Path, error: OSError) -> CpuserveError:
    """The error to raise when a file cannot be written."""
    return CpuserveError(f"{path} cannot be written: {error.strerror or error}")


def _cut_partial_line(path: Path) -> None:
    """Cut what is behind the last end of a line."""
    size = end = path.stat().st_size
    with path.open("r+b") as file:
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end != size:
            os.ftruncate(file.fileno(), end)
