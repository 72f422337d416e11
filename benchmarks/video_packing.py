"""Asks a detector about changed regions packed into one input, and compares its answers with those of frames.

Run as ``python -m benchmarks.video_packing --clips DIR --model-repository DIR [--model NAME] [--out FILE]``.

Of so many frames of a clip one is asked, as a cascade asks its reference about frames that it is unsure of.
What differs from the median of the clip is cut out of the scaled frame, at the scale that the model sees it
at, with a margin, and the regions of several frames are put beside each other into one input. A box is of
the frame whose region its middle lies in. A frame without a change has the label of the median picture. The
answer to the whole frame is right: counted are frames with another label, and boxes that are lost or new.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cpuserve.measuring.results import write_result
from cpuserve.serving.decode import Pixels
from cpuserve.settings import Settings
from cpuserve.video.decoding import frames
from cpuserve.video.frame_model import FrameModel, open_frame_model
from cpuserve.video.query import Query

__all__ = ["Canvas", "changed_regions", "main", "pack"]

QUERIES = (
    ("one-by-one-person-detection.mp4", "person"),
    ("street_cars.mp4", "car,truck,bus"),
    ("highway.avi", "car,truck,bus"),
)
_BLOCK = 16  # pixels of the model's input
_CHANGED = 12.0  # mean difference of a block's grey levels
_GAP = 8  # pixels between two regions
_PAD = 114
_SAME = 0.5  # overlap of two boxes of the same thing


class Box(NamedTuple):
    """A rectangle in pixels of the model's input."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top


class Placed(NamedTuple):
    """A region of a frame in a canvas."""

    frame: int
    region: Box
    left: int
    top: int


@dataclass
class Canvas:
    """One input of the model with regions of several frames.

    Attributes:
        pixels: u8 [height, width, C].
        placed: what lies where.
    """

    pixels: Pixels
    placed: list[Placed]

    def frames(self) -> int:
        """Of how many frames it has regions."""
        return len({one.frame for one in self.placed})


def changed_regions(pixels: Pixels, empty: Pixels, margin: int) -> list[Box]:
    """The regions of a scaled frame that differ from the empty one, merged until none overlap.

    Args:
        pixels: u8 [height, width, C].
        empty: the same of the scene without an object.
        margin: pixels that are added on each side.
    """
    grey, still = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY).astype(np.float32) for one in (pixels, empty))
    gain = float(np.median((grey + 1) / (still + 1)))
    height, width = grey.shape
    down, across = height // _BLOCK, width // _BLOCK
    different = np.abs(grey - still * gain)[: down * _BLOCK, : across * _BLOCK]
    blocks = different.reshape(down, _BLOCK, across, _BLOCK).mean((1, 3)) > _CHANGED
    _, _, found, _ = cv2.connectedComponentsWithStats(blocks.astype(np.uint8), connectivity=8)
    boxes = [
        Box(
            max(0, left * _BLOCK - margin),
            max(0, top * _BLOCK - margin),
            min(width, (left + wide) * _BLOCK + margin),
            min(height, (top + high) * _BLOCK + margin),
        )
        for left, top, wide, high, _ in found[1:].tolist()
    ]
    return _merged(boxes)


def _merged(boxes: list[Box]) -> list[Box]:
    done: list[Box] = []
    waiting = list(boxes)
    while waiting:
        box = waiting.pop()
        other = next((one for one in done if _overlap(one, box)), None)
        if other is None:
            done.append(box)
            continue
        done.remove(other)
        edges = zip(box, other, strict=True)
        left, top, right, bottom = (
            min(a, b) if place < 2 else max(a, b) for place, (a, b) in enumerate(edges)
        )
        waiting.append(Box(left, top, right, bottom))
    return done


def _overlap(one: Box, other: Box) -> bool:
    beside = one.right <= other.left or other.right <= one.left
    return not (beside or one.bottom <= other.top or other.bottom <= one.top)


def pack(regions: Sequence[tuple[int, Pixels, Sequence[Box]]], height: int, width: int) -> Iterator[Canvas]:
    """Put the regions of frames into inputs, row by row; all of a frame into the same one.

    Args:
        regions: number, pixels and changed regions of each frame.
        height: of an input, pixels.
        width: of an input, pixels.
    """
    canvas, left, top, tall = _blank(height, width), 0, 0, 0
    for number, pixels, boxes in regions:
        places = _rows(boxes, left, top, tall, height, width)
        if places is None:
            if canvas.placed:
                yield canvas
            canvas = _blank(height, width)
            places = _rows(boxes, 0, 0, 0, height, width)
            if places is None:  # they fit into no input but their own
                canvas.pixels[:] = pixels
                canvas.placed.append(Placed(number, Box(0, 0, width, height), 0, 0))
                yield canvas
                canvas, left, top, tall = _blank(height, width), 0, 0, 0
                continue
        spots, (left, top, tall) = places
        for box, (x, y) in zip(boxes, spots, strict=True):
            canvas.pixels[y : y + box.height, x : x + box.width] = pixels[
                box.top : box.bottom, box.left : box.right
            ]
            canvas.placed.append(Placed(number, box, x, y))
    if canvas.placed:
        yield canvas


def _rows(
    boxes: Sequence[Box], left: int, top: int, tall: int, height: int, width: int
) -> tuple[list[tuple[int, int]], tuple[int, int, int]] | None:
    """Where boxes go behind what is there, and where the next ones go; None where they do not fit."""
    spots = []
    for box in boxes:
        if left + box.width > width:
            left, top, tall = 0, top + tall + _GAP, 0
        if left + box.width > width or top + box.height > height:
            return None
        spots.append((left, top))
        left, tall = left + box.width + _GAP, max(tall, box.height)
    return spots, (left, top, tall)


def _blank(height: int, width: int) -> Canvas:
    return Canvas(np.full((height, width, 3), _PAD, np.uint8), [])


def main() -> None:
    """Compare, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument("--model", default="yolox_nano", help="a detector")
    parser.add_argument("--every", type=int, default=5, help="of so many frames one is asked")
    parser.add_argument("--margins", type=int, nargs="+", default=[16, 48])
    parser.add_argument("--quick", action="store_true", help="the first 300 frames of each clip")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = Settings(model_repository=given.model_repository, precision="f32")
    rows: list[dict[str, Any]] = []
    with open_frame_model(given.model, settings) as model:
        for name, query in QUERIES:
            asked = Query.parse(query, labels=model.labels)
            clip = _Clip(given.clips / name, model, given.every, 300 if given.quick else None)
            rows += [{"clip": name, "query": query, **clip.packed(asked, margin)} for margin in given.margins]
    table = Table(*("clip", "margin", "frames", "inputs a frame", "CPU ratio", "missed", "new", "boxes lost"))
    for row in rows:
        cells = (row["clip"], row["margin"], row["frames"], f"{row['inputs_per_frame']:.2f}")
        missed, new = f"{row['missed']} of {row['with']}", f"{row['new']} of {row['without']}"
        lost = f"{row['boxes_lost']} of {row['boxes']}"
        table.add_row(*map(str, cells), f"{row['cpu_ratio']:.2f}", missed, new, lost)
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.video_packing", *sys.argv[1:]]
        write_result(given.out, words, {"model": given.model, "every": given.every, "rows": rows})


class _Clip:
    """The asked frames of a clip, scaled for the model, with its answers to them."""

    def __init__(self, path: Path, model: FrameModel, every: int, stop: int | None) -> None:
        scale = model.scale
        self._model, self.size = model, (scale.height, scale.width)
        asked = [
            (frame.number, frame.scaled(scale).copy(), frame.width, frame.height)
            for frame in frames(path, every=every, stop=stop)
        ]
        self.pixels = [pixels for _, pixels, _, _ in asked]
        self.empty = np.median(self.pixels[:: max(1, len(asked) // 60)], axis=0).astype(np.uint8)
        began = time.process_time()
        self.whole = [self._boxes(pixels) for pixels in self.pixels]
        self.whole_s = time.process_time() - began
        self.without = self._boxes(self.empty)

    def _boxes(self, pixels: Pixels) -> list[dict[str, Any]]:
        """The model's boxes in pixels of its input."""
        height, width = self.size
        found: list[dict[str, Any]] = self._model.answer(pixels, width, height)["detections"]
        return found

    def packed(self, query: Query, margin: int) -> dict[str, Any]:
        """What comes of packing."""
        height, width = self.size
        began = time.process_time()
        changed = [changed_regions(pixels, self.empty, margin) for pixels in self.pixels]
        here = [(number, self.pixels[number], boxes) for number, boxes in enumerate(changed) if boxes]
        found: list[list[dict[str, Any]]] = [[] if boxes else [*self.without] for boxes in changed]
        inputs = 0
        for canvas in pack(here, height, width):
            inputs += 1
            for one in self._boxes(canvas.pixels):
                _give(one, canvas, found)
        packed_s = time.process_time() - began
        truth = [query.present({"detections": one}, width, height)[0] for one in self.whole]
        label = [query.present({"detections": one}, width, height)[0] for one in found]
        wanted = [[one for one in boxes if one["label"] in query.classes] for boxes in self.whole]
        wanted = [[one for one in boxes if one["probability"] >= query.min_score] for boxes in wanted]
        lost = sum(
            not any(_same(one, other) for other in got)
            for boxes, got in zip(wanted, found, strict=True)
            for one in boxes
        )
        return {
            "margin": margin,
            "frames": len(truth),
            "unchanged": len(truth) - len(here),
            "inputs_per_frame": inputs / len(truth),
            "cpu_ratio": packed_s / self.whole_s,
            "with": sum(truth),
            "without": len(truth) - sum(truth),
            "missed": sum(is_there and not said for is_there, said in zip(truth, label, strict=True)),
            "new": sum(said and not is_there for is_there, said in zip(truth, label, strict=True)),
            "boxes": sum(map(len, wanted)),
            "boxes_lost": lost,
        }


def _give(box: dict[str, Any], canvas: Canvas, found: list[list[dict[str, Any]]]) -> None:
    """Add a box of a canvas to the frame whose region its middle lies in, at its place there."""
    left, top, right, bottom = box["box"]
    x, y = (left + right) / 2, (top + bottom) / 2
    for one in canvas.placed:
        if one.left <= x < one.left + one.region.width and one.top <= y < one.top + one.region.height:
            across, down = one.region.left - one.left, one.region.top - one.top
            moved = [left + across, top + down, right + across, bottom + down]
            found[one.frame].append({**box, "box": moved})
            return


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two boxes are of the same thing."""
    if one["label"] != other["label"]:
        return False
    (a, b, c, d), (e, f, g, h) = one["box"], other["box"]
    both = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    return bool(both >= _SAME * ((c - a) * (d - b) + (g - e) * (h - f) - both))


if __name__ == "__main__":
    main()
