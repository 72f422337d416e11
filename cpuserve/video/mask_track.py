"""Writes where something is in a video: short SVG files with the outlines of each moment they changed at."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from cpuserve.errors import CpuserveError

__all__ = ["FILE_S", "MaskTrack", "MaskTrackWriter"]

FILE_S = 4
"""Seconds of video in one file."""


@dataclass
class MaskTrack:
    """The outlines of a whole video.

    Attributes:
        width: of the masks, pixels of the outlines.
        height: of the same.
        times: seconds, as a player counts them, at which the outlines change, rising.
        paths: the ``d`` of an SVG path that holds from each of these times on; empty where nothing is.
        files: the names of the files.
        size_bytes: of these files.
        end_s: time of the last frame.
    """

    width: int
    height: int
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    size_bytes: int = 0
    end_s: float = 0.0

    @property
    def bytes_per_minute(self) -> float:
        """Of the files."""
        return self.size_bytes * 60 / self.end_s if self.end_s else float(self.size_bytes)


class MaskTrackWriter:
    """Writes the files ``00000.svg``, ``00001.svg``, ... of `FILE_S` seconds each.

    A file is an SVG picture with a path for each moment at which the outlines change:
    ``<path data-t="8.333" d="..."/>`` holds from 8.333 s on. The first one repeats what held when the file's
    time begins, so that a player needs one file to begin anywhere. They take the place of those of an earlier
    track once all are written.

    Args:
        folder: is made.
        width: of the masks, pixels of the outlines.
        height: of the same.
        title: of the pictures.

    Raises:
        CpuserveError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, width: int, height: int, title: str) -> None:
        self._folder = folder
        self._unfinished = folder.with_name(f"{folder.name}.part")
        self._title = title
        self._track = MaskTrack(width, height)
        self._number = 0  # of the file that is open
        self._open: list[tuple[float, str]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.discard()  # of a run that was killed
            self._unfinished.mkdir()
        except OSError as error:
            raise CpuserveError(f"{folder} cannot be written to: {error.strerror}") from error

    def put(self, time_s: float, path: str) -> None:
        """Tell the outlines of the next frame.

        Args:
            time_s: seconds, as a player counts them; not before that of the frame before.
            path: the ``d`` of an SVG path.
        """
        track = self._track
        track.end_s = time_s
        while time_s >= (self._number + 1) * FILE_S:
            self._write()
        if not track.paths or path != track.paths[-1]:
            track.times.append(round(time_s, 3))
            track.paths.append(path)
            if self._open and _seconds(self._open[-1][0]) == _seconds(time_s):
                self._open.pop()  # what held until the file's time begins
            self._open.append((time_s, path))

    def finish(self) -> MaskTrack:
        """Write the last file, and let the files take the place of those of an earlier track.

        Raises:
            CpuserveError: the folder cannot be written to.
        """
        self._write()
        try:
            for old in self._folder.glob("[0-9][0-9][0-9][0-9][0-9].svg"):
                old.unlink()
            for name in self._track.files:
                (self._unfinished / name).replace(self._folder / name)
            self._unfinished.rmdir()
        except OSError as error:
            raise CpuserveError(f"{self._folder} cannot be written to: {error.strerror}") from error
        return self._track

    def discard(self) -> None:
        """Remove what was written; an earlier track stays."""
        shutil.rmtree(self._unfinished, ignore_errors=True)

    def _write(self) -> None:
        """Write the open file and open the next one with what holds at its beginning."""
        track, begin = self._track, self._number * FILE_S
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {track.width} {track.height}" '
            f'fill-rule="evenodd" data-start="{begin}" data-end="{begin + FILE_S}">',
            f"<title>{escape(self._title)}</title>",
            *(f'<path data-t="{_seconds(time_s)}" d="{path}"/>' for time_s, path in self._open),
            "</svg>\n",
        ]
        file = self._unfinished / f"{self._number:05}.svg"
        content = "\n".join(lines).encode()
        try:
            file.write_bytes(content)
        except OSError as error:
            raise CpuserveError(f"{file} cannot be written: {error.strerror}") from error
        track.files.append(file.name)
        track.size_bytes += len(content)
        self._number += 1
        held = track.paths[-1] if track.paths else ""
        self._open = [(self._number * FILE_S, held)]


def _seconds(time_s: float) -> str:
    return f"{time_s:.3f}".rstrip("0").rstrip(".")
