"""A segmentation that sees people where a picture is red and dogs where it is blue, and such videos."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.card import Card

__all__ = ["SIDE", "colour_segmentation", "write_video"]

SIDE = 96


def colour_segmentation(folder: Path, labels: tuple[str, ...] = ("background", "person", "dog")) -> None:
    """Write a model u8 [N, 96, 96, 3] that answers scores f32 [N, 96, 96, 3] of background, red and blue."""
    entry = ops.parameter((-1, SIDE, SIDE, 3), np.float32, name="image")
    entry.output(0).set_names({"image"})
    # 128 beside each of: the rest, red less green, blue less green
    weights = np.array([[0, 0, 0], [1, -1, 0], [0, -1, 1]], np.float32).T
    scores = ops.add(ops.matmul(entry, weights, False, False), np.array([80, 0, 0], np.float32))
    scores.output(0).set_names({"scores"})
    model = ov.Model([ops.result(scores)], [entry])
    Card(model_type="Segmentation", labels=labels, reverse_input_channels=True).write(model)
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")


def write_video(
    file: Path,
    draw: Callable[[int, Any], None],
    frames: int,
    *,
    size: tuple[int, int] = (320, 180),
    rate: int = 10,
    codec: str = "libvpx-vp9",
    late: int = 0,
) -> Path:
    """Write a dark video that begins ``late`` frames after time 0.

    ``draw`` gets the number and the RGB pixels [height, width, 3] of each frame and paints on them.
    """
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 20, np.uint8)
            draw(number, pixels)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number + late, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file
