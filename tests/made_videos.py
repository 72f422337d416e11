"""Makes small videos of every kind, whose frames show their own number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cpuserve.serving.decode import Pixels

__all__ = ["BITS", "make_video", "numbered_picture", "shown_number"]

BITS = 12
WIDTH, HEIGHT = 192, 128


def numbered_picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """RGB pixels with the bits of a number as white and black bars, above a pattern that moves."""
    rows, columns = np.mgrid[0:height, 0:width]
    moving = (rows * 2 + columns + number * 5) % 256
    pixels = np.stack([moving, 255 - moving, (columns * 255 // width + number) % 256], -1).astype(np.uint8)
    bars = columns[0] * BITS // width
    lit = (number >> bars) & 1
    pixels[: height // 2] = (lit * 255).astype(np.uint8)[None, :, None]
    return pixels


def shown_number(pixels: Pixels) -> int:
    """The number that a picture of `numbered_picture` shows, also when it is scaled."""
    height, width = pixels.shape[:2]
    columns = [int((bar + 0.5) * width / BITS) for bar in range(BITS)]
    level = pixels[height // 4].reshape(width, -1).mean(-1)
    return sum(1 << bar for bar, column in enumerate(columns) if level[column] > 127)


def make_video(
    path: Path,
    codec: str = "libx264",
    frames: int = 150,
    *,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: int = 25,
    gop: int = 30,
    b_frames: int | None = None,
    pts: Sequence[int] | None = None,
    picture: Callable[..., Pixels] = numbered_picture,
    prepare: Callable[[Any], None] | None = None,
    change: Callable[[av.Packet[Any]], Iterable[av.Packet[Any]]] | None = None,
    file_format: str | None = None,
) -> Path:
    """Encode a video of frames that show their numbers.

    Args:
        path: what to write; its name says the container.
        codec: FFmpeg's name of the encoder.
        frames: how many.
        options: of the encoder.
        container_options: of the container.
        pixel_format: of the encoder.
        size: width and height.
        rate: frames a second; ``pts`` counts in 1/(1000 * rate) s.
        gop: most frames from one keyframe to the next.
        b_frames: most B-frames in a row; None is the encoder's default.
        pts: of each frame, in frames times 1000; None is one after the other.
        picture: makes the pixels of a number, a width and a height.
        prepare: is called with the stream before the first frame.
        change: is called with each packet; what it gives is written.
        file_format: FFmpeg's name of the container, where the file's name does not say it.
    """
    with av.open(
        str(path), "w", format=file_format, container_options=dict(container_options or {})
    ) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, rate) if pts is None else Fraction(1, rate * 1000)
        if b_frames is not None:
            stream.max_b_frames = b_frames
        stream.thread_count = 1
        if prepare is not None:
            prepare(stream)
        for number in [*range(frames), None]:
            frame = None
            if number is not None:
                frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24")
                frame = frame.reformat(format=pixel_format)
                frame.pts = number if pts is None else pts[number]
                frame.time_base = stream.codec_context.time_base
            for packet in stream.encode(frame):
                for changed in change(packet) if change else [packet]:
                    container.mux(changed)
    return path
