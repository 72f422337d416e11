"""Compares decoding a JPEG at a fraction of its size with decoding every pixel: CPU and difference.

Run as ``python -m benchmarks.decoding --images DIR [--out FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cpuserve.measuring.results import write_result
from cpuserve.models.card import Card
from cpuserve.serving.graph import ImageInput
from cpuserve.serving.picture_input import PictureInput

__all__ = ["main"]

_SIZES = {"640x480": (640, 480), "1920x1080": (1920, 1080), "3840x2160": (3840, 2160)}


def main() -> None:
    """Measure every size, fast and exact by turns, and print or write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="JPEG files, photos")
    parser.add_argument("--side", type=int, default=224, help="of the model's input")
    parser.add_argument("--quality", type=int, default=90)
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photos = [cv2.imread(str(file), cv2.IMREAD_COLOR) for file in given.images]
    unread = [file.name for file, photo in zip(given.images, photos, strict=True) if photo is None]
    if unread:
        parser.error(f"--images: OpenCV cannot read {', '.join(unread)}")
    rows = []
    for name, (width, height) in _SIZES.items():
        encoded = [
            cv2.imencode(
                ".jpg",
                cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA),
                [cv2.IMWRITE_JPEG_QUALITY, given.quality],
            )[1].tobytes()
            for photo in photos
            if photo is not None
        ]
        rows.append({"size": name, **_measure(encoded, given.side, given.passes)})
    table = Table("JPEG", "KiB", "fast, CPU-ms", "exact, CPU-ms", "times as fast", "mean difference, levels")
    for row in rows:
        figures = ("kib", "fast_cpu_ms", "exact_cpu_ms", "ratio", "mean_difference")
        table.add_row(row["size"], *(f"{row[key]:.2f}" for key in figures))
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.decoding", *sys.argv[1:]]
        what = {"pictures": len(photos), "quality": given.quality, "side": given.side, "passes": given.passes}
        write_result(given.out, words, {**what, "rows": rows})


def _measure(encoded: Sequence[bytes], side: int, passes: int) -> dict[str, Any]:
    source, card = ImageInput("x", side, side, 3, "NHWC"), Card()
    feeds = {
        word: PictureInput.of(source, card, exact=word == "exact", max_pixels=100_000_000)
        for word in ("fast", "exact")
    }
    found: dict[str, list[float]] = {word: [] for word in feeds}
    for _ in range(passes):
        for word, picture_input in feeds.items():
            row = np.empty((side, side, 3), np.uint8)
            began = time.thread_time()
            for data in encoded:
                picture_input.into(data, row)
            found[word].append(1000 * (time.thread_time() - began) / len(encoded))
    differences = [
        np.abs(feeds["fast"].row(data).astype(int) - feeds["exact"].row(data).astype(int)).mean()
        for data in encoded
    ]
    fast, exact = (statistics.median(values) for values in found.values())
    return {
        "kib": statistics.fmean(map(len, encoded)) / 1024,
        "fast_cpu_ms": fast,
        "exact_cpu_ms": exact,
        "ratio": exact / fast,
        "mean_difference": float(statistics.fmean(differences)),
        "passes_cpu_ms": found,
    }


if __name__ == "__main__":
    main()
