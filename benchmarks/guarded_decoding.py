"""Measures what decoding pictures in child processes costs, beside decoding in the worker.

Run as ``python -m benchmarks.guarded_decoding --images FILE [--out FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table

from cpuserve.measuring.results import write_result
from cpuserve.serving.decode import Decoder, Pixels
from cpuserve.serving.decoder_guard import DecoderGuard
from cpuserve.serving.picture_header import FORMATS

__all__ = ["main", "measure"]

_SIZES = {"28x28": (28, 28), "640x480": (640, 480), "1920x1080": (1920, 1080)}
_EXTENSIONS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WebP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tiff",
    "BMP": ".bmp",
}
_TIMEOUT_S = 60.0


def main() -> None:
    """Measure every format and size, and print or write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="photos")
    parser.add_argument("--passes", type=int, default=31)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photos = [cv2.imread(str(file), cv2.IMREAD_COLOR) for file in given.images]
    unread = [file.name for file, photo in zip(given.images, photos, strict=True) if photo is None]
    if unread:
        parser.error(f"--images: OpenCV cannot read {', '.join(unread)}")
    found = measure([photo for photo in photos if photo is not None], given.passes)  # type: ignore[misc]
    table = Table("format", "size", "KiB", "here, CPU-ms", "apart, CPU-ms", "more, CPU-ms", "more, %")
    for row in found["rows"]:
        figures = ("kib", "here_cpu_ms", "apart_cpu_ms", "more_cpu_ms", "more_percent")
        table.add_row(row["format"], row["size"], *(f"{row[key]:.2f}" for key in figures))
    Console().print(table)
    Console().print(f"the first picture took {found['first_ms']:.0f} ms, one after a crash", end=" ")
    Console().print(f"{found['after_crash_ms']:.1f} ms; the processes hold {found['pss_mib']:.0f} MiB")
    if given.out:
        words = ["python", "-m", "benchmarks.guarded_decoding", *sys.argv[1:]]
        write_result(given.out, words, {"pictures": len(photos), "passes": given.passes, **found})


def measure(photos: list[Pixels], passes: int) -> dict[str, Any]:
    """Decode photos of each format and size, here and apart by turns.

    Args:
        photos: BGR u8 [H, W, 3].
        passes: rounds of each; the median counts.
    """
    guard = DecoderGuard(frozenset(FORMATS), _TIMEOUT_S)
    try:
        small = _encoded(photos[:1], ".bmp", (28, 28))
        first_ms = _pass_ms(Decoder(guard=guard), small)
        rows = [
            {"format": name, "size": size, **_row(guard, _encoded(photos, extension, _SIZES[size]), passes)}
            for name, extension in _EXTENSIONS.items()
            for size in _SIZES
        ]
        pss_mib = sum(map(_pss_bytes, guard.processes())) / (1 << 20)
        after = []
        for _ in range(passes):
            guard.drop_idle()
            after.append(_pass_ms(Decoder(guard=guard), small))
    finally:
        guard.close()
    return {
        "first_ms": first_ms,
        "after_crash_ms": statistics.median(after),
        "pss_mib": pss_mib,
        "rows": rows,
    }


def _row(guard: DecoderGuard, encoded: list[bytes], passes: int) -> dict[str, Any]:
    decoders = {"here": Decoder(), "apart": Decoder(guard=guard)}
    found: dict[str, list[float]] = {word: [] for word in decoders}
    for _ in range(passes):
        for word, decoder in decoders.items():
            before = _cpu_ms(guard)
            for data in encoded:
                decoder.decode(data, 28, 28)
            found[word].append((_cpu_ms(guard) - before) / len(encoded))
    here, apart = (statistics.median(values) for values in found.values())
    return {
        "kib": statistics.fmean(map(len, encoded)) / 1024,
        "here_cpu_ms": here,
        "apart_cpu_ms": apart,
        "more_cpu_ms": apart - here,
        "more_percent": 100 * (apart / here - 1),
    }


def _pass_ms(decoder: Decoder, encoded: list[bytes]) -> float:
    """Milliseconds a picture, as a client waits for them."""
    began = time.perf_counter()
    for data in encoded:
        decoder.decode(data, 28, 28)
    return 1000 * (time.perf_counter() - began) / len(encoded)


def _cpu_ms(guard: DecoderGuard) -> float:
    """CPU time of this thread and of the processes apart."""
    apart = (Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in guard.processes())
    return 1000 * time.thread_time() + sum(map(int, apart)) / 1e6


def _encoded(photos: list[Pixels], extension: str, size: tuple[int, int]) -> list[bytes]:
    return [
        cv2.imencode(extension, cv2.resize(photo, size, interpolation=cv2.INTER_AREA))[1].tobytes()
        for photo in photos
    ]


def _pss_bytes(pid: int) -> int:
    """Memory of a process, what it shares counted by its share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main()
