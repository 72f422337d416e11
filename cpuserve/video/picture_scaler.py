"""Scales decoded pictures by swscale, straight from the decoder's planes."""

from __future__ import annotations

from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from cpuserve.serving.decode import Pixels
from cpuserve.video.scale import Scale, Window

__all__ = ["PictureScaler"]

_FORMATS = {"RGB": "rgb24", "BGR": "bgr24", "GRAY": "gray"}
_FLAGS = {
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "area": Interpolation.AREA,
    "point": Interpolation.POINT,
}


class PictureScaler:
    """Keeps one swscale context for each scale that is asked for."""

    def __init__(self) -> None:
        self._reformatters: dict[Scale, VideoReformatter] = {}

    def shown_size(self, picture: Any) -> tuple[int, int]:
        """Width and height of a picture as it is shown."""
        return picture.width, picture.height

    def scale(self, picture: Any, scale: Scale) -> Pixels:
        """One picture of the size asked for: u8 [height, width, channels]."""
        source, target = scale.windows(*self.shown_size(picture))
        if source != (0, 0, picture.width, picture.height):
            picture = _cut(picture, source)
        made = self._reformatters.setdefault(scale, VideoReformatter()).reformat(
            picture,
            target.width,
            target.height,
            _FORMATS[scale.colour],
            interpolation=_FLAGS[scale.scaler],
            threads=1,
        )
        pixels = _pixels(made, target.width, target.height, scale.channels)
        if target == (0, 0, scale.width, scale.height):
            return pixels
        padded = np.full(scale.shape, scale.pad_value, np.uint8)
        padded[target.top : target.top + target.height, target.left : target.left + target.width] = pixels
        return padded


def _cut(picture: Any, window: Window) -> Any:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
    )
    crop = graph.add("crop", f"{window.width}:{window.height}:{window.left}:{window.top}")
    graph.link_nodes(source, crop, graph.add("buffersink")).configure()
    graph.push(picture)
    return graph.pull()


def _pixels(picture: Any, width: int, height: int, channels: int) -> Pixels:
    """A view of the only plane of a picture, without the padding of its rows."""
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : width * channels].reshape(height, width, channels)
