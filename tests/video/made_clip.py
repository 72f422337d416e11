"""A clip of a still camera through whose view a square passes now and then, and a reference that sees it."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import av
import numpy as np

from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.scale import Scale

WIDTH, HEIGHT, RATE = 160, 96, 25
PERIOD, THERE = 130, 65  # of so many frames the square is in view in the last ones


def is_there(number: int) -> bool:
    return number % PERIOD >= THERE


def write_clip(path: Path, frames: int, *, seed: int = 0, gop: int = 50):
    random = np.random.default_rng(seed)
    scene = random.integers(60, 110, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"g": str(gop), "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = scene + random.integers(-3, 4, scene.shape)
            if is_there(number):
                left = (number % PERIOD - THERE) * 2
                picture[40:80, left : left + 30] = (230, 40, 40)
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class RedSquares:
    """A reference that finds the square by its colour, and counts how often it is asked."""

    name, version, checksum = "red", 1, "77" * 32
    in_flight = 1
    scale = Scale(WIDTH, HEIGHT, "RGB")
    labels = ("square", "circle")

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> RedSquares:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Has nothing to close."""

    def submit(
        self, pixels: np.ndarray, width: int, height: int, *, topk: int | None = None
    ) -> Future[dict[str, Any]]:
        self.asked += 1
        np.sort(pixels.reshape(-1), kind="heapsort")  # takes milliseconds: the reference is what costs
        red = (pixels[..., 0] > 180) & (pixels[..., 1] < 110)
        boxes = []
        if red.sum() > 300:
            down, across = np.nonzero(red)
            box = [float(across.min()), float(down.min()), float(across.max()), float(down.max())]
            boxes.append({"class_id": 0, "label": "square", "probability": 0.9, "box": box})
        answer: Future[dict[str, Any]] = Future()
        answer.set_result({"model": self.name, "version": "1", "detections": boxes})
        return answer

    def submit_seen(
        self, pixels: np.ndarray, width: int, height: int, *, topk: int | None = None
    ) -> Future[SeenFrame]:
        seen: Future[SeenFrame] = Future()
        seen.set_result(SeenFrame(self.submit(pixels, width, height).result()))
        return seen
