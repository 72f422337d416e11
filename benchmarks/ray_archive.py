"""Makes an archive of pictures and videos, and counts the rows of a finished job over it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import orjson

__all__ = ["RowKey", "files_of", "make_archive", "row_counts", "wanted_rows"]

_SIDE = 320
_RATE = 25
_GOP = 100

RowKey = tuple[str, int | None]


def make_archive(folder: Path, pictures: int, videos: int, frames: int) -> Path:
    """Write pictures and videos with noise, the same each time; two pictures of a hundred are damaged.

    Args:
        folder: to write to.
        pictures: how many.
        videos: how many.
        frames: of each video.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    for number in range(pictures):
        picture = cv2.resize(random.integers(0, 256, (12, 12, 3), np.uint8), (_SIDE, _SIDE))
        content = cv2.imencode(".jpg", picture)[1].tobytes()
        (folder / f"{number:05}.jpg").write_bytes(content[:200] if number % 50 == 49 else content)
    for number in range(videos):
        with av.open(str(folder / f"v{number}.mp4"), "w") as container:
            stream: Any = container.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast"})
            stream.width = stream.height = _SIDE
            stream.gop_size = _GOP
            for _ in range(frames):
                pixels: Any = cv2.resize(random.integers(0, 256, (6, 6, 3), np.uint8), (_SIDE, _SIDE))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode(None))
    return folder


def wanted_rows(archive: Path, frames: int) -> set[RowKey]:
    """The rows that a job over an archive has to have: input and frame."""
    keys: set[RowKey] = {(str(path), None) for path in archive.glob("*.jpg")}
    return keys | {(str(path), frame) for path in archive.glob("*.mp4") for frame in range(frames)}


def row_counts(output: Path) -> Counter[RowKey]:
    """How often each row is in the shards that the manifest of a job names, whose checksums are compared.

    Raises:
        ValueError: a shard is not the one of the manifest.
    """
    counts: Counter[RowKey] = Counter()
    for shard in json.loads((output / "manifest.json").read_bytes())["shards"]:
        content = (output / shard["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != shard["sha256"]:
            raise ValueError(f"{shard['file']} has another checksum than in the manifest")
        rows = map(orjson.loads, content.splitlines())
        counts.update((row["input"], row.get("frame")) for row in rows)
    return counts


def files_of(output: Path) -> dict[str, bytes]:
    """The files of a job."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
