"""The pictures that a benchmark sends: those of a directory, or one generated picture."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cpuserve.errors import UsageError
from cpuserve.machine.files import text_of_path
from cpuserve.serving.picture_files import pictures_in

__all__ = ["PictureFiles", "pictures"]

_WIDTH, _HEIGHT, _QUALITY = 640, 480, 85


@dataclass(frozen=True)
class PictureFiles:
    """Picture files that are sent in turn.

    Attributes:
        name: a description for tables and result files.
        files: by name.
    """

    name: str
    files: tuple[Path, ...]


@contextmanager
def pictures(folder: Path | None) -> Iterator[PictureFiles]:
    """The pictures directly in a directory; without one, a generated picture while the context lasts.

    Raises:
        UsageError: the directory holds no picture, or one that cannot be read.
    """
    if folder is not None:
        files = pictures_in(folder)
        mean = sum(map(_readable_bytes, files)) / len(files) / 1024
        yield PictureFiles(f"{len(files)} pictures of {folder.name}, {mean:.0f} KiB each on average", files)
        return
    data = _made()
    with tempfile.TemporaryDirectory(prefix="cpuserve-bench-") as place:
        file = Path(place) / "made.jpg"
        file.write_bytes(data)
        yield PictureFiles(
            f"one made picture, {_WIDTH}x{_HEIGHT} JPEG, {len(data) / 1024:.0f} KiB (no photo; see --images)",
            (file,),
        )


def _readable_bytes(file: Path) -> int:
    """The size of a file that can be read. One that cannot would end the load when its turn comes."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise UsageError(
            f"{text_of_path(file)} cannot be read: {error.strerror}; every picture of the directory is sent, "
            "so mend it or move it away"
        ) from error


def _made() -> bytes:
    """Smooth noise in three sizes, which compresses about as a photo does; the same on every call."""
    import cv2  # noqa: PLC0415  # only where a picture is made
    import numpy as np  # noqa: PLC0415

    dice = np.random.default_rng(0)
    canvas = np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
    for cells, height in ((8, 90), (40, 45), (160, 25)):
        noise = dice.uniform(-1, 1, (cells * 3 // 4, cells, 3)).astype(np.float32)
        canvas += height * cv2.resize(noise, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    canvas += dice.normal(0, 6, canvas.shape).astype(np.float32)
    image = np.clip(canvas + 128, 0, 255).astype(np.uint8)
    encoded: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return encoded
