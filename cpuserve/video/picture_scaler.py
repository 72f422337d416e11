"""Scales decoded pictures by swscale, straight from the decoder's planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cpuserve.video.ffmpeg import Interpolation, SideDataType, VideoReformatter, av
from cpuserve.video.scale import Scale, Window

if TYPE_CHECKING:
    from cpuserve.serving.decode import Pixels

__all__ = ["Orientation", "PictureScaler"]

_FORMATS = {"RGB": "rgb24", "BGR": "bgr24", "GRAY": "gray"}
# these two flags cost nothing measurable, and give the same pixels on every CPU
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_FLAGS = {
    "bilinear": Interpolation.BILINEAR | _EXACT,
    "bicubic": Interpolation.BICUBIC | _EXACT,
    "area": Interpolation.AREA | _EXACT,
    "point": Interpolation.POINT | _EXACT,
}
_QUARTER = 1 << 14  # a quarter of 1 in the 16.16 numbers of a display matrix


class Orientation(NamedTuple):
    """How a coded picture is turned to be shown: first transposed, then mirrored.

    Attributes:
        transposed: rows become columns.
        columns_mirrored: left and right change places.
        rows_mirrored: top and bottom change places.
    """

    transposed: bool = False
    columns_mirrored: bool = False
    rows_mirrored: bool = False

    @classmethod
    def of(cls, picture: Any) -> Orientation:
        """As the display matrix of a picture says; angles between the quarters of a turn count as none."""
        # looking a missing one up by its name takes a tenth of the time that decoding takes
        matrix: Any = next(
            (data for data in picture.side_data if data.type is SideDataType.DISPLAYMATRIX), None
        )
        if matrix is None:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
        if max(abs(b), abs(c)) < _QUARTER:
            return cls(False, a < 0, d < 0)
        if max(abs(a), abs(d)) < _QUARTER:
            return cls(True, c < 0, b < 0)
        return cls()

    def shown(self, pixels: Pixels) -> Pixels:
        """Pixels [height, width, channels] as they are shown."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.rows_mirrored:
            pixels = pixels[::-1]
        return pixels[:, ::-1] if self.columns_mirrored else pixels

    def coded(self, window: Window, width: int, height: int) -> Window:
        """Where a window of the shown picture of width x height lies in the coded one."""
        left, top, *sides = window
        if self.columns_mirrored:
            left = width - left - window.width
        if self.rows_mirrored:
            top = height - top - window.height
        return Window(top, left, *sides[::-1]) if self.transposed else Window(left, top, *sides)


class PictureScaler:
    """Keeps a swscale context for each scale, and a crop for each region, of pictures of one stream."""

    def __init__(self) -> None:
        self._reformatters: dict[Scale, VideoReformatter] = {}
        self._crops: dict[tuple[Any, ...], Any] = {}

    @staticmethod
    def shown_size(picture: Any) -> tuple[int, int]:
        """Width and height of a picture as it is shown."""
        size = (picture.width, picture.height)
        return size[::-1] if Orientation.of(picture).transposed else size

    def scale(self, picture: Any, scale: Scale) -> Pixels:
        """One picture of the size asked for: u8 [height, width, channels]."""
        turn = Orientation.of(picture)
        coded = (picture.width, picture.height)
        shown = coded[::-1] if turn.transposed else coded
        source, target = scale.windows(*shown)
        window = turn.coded(source, *shown)
        if window != (0, 0, *coded):
            picture = self._crop(picture, window)
        size = (target.height, target.width) if turn.transposed else (target.width, target.height)
        pixels = turn.shown(self._reformat(picture, *size, scale))
        if target == (0, 0, scale.width, scale.height):
            return pixels
        padded: Pixels = np.full(scale.shape, scale.pad_value, np.uint8)
        padded[target.top : target.top + target.height, target.left : target.left + target.width] = pixels
        return padded

    def _reformat(self, picture: Any, width: int, height: int, scale: Scale) -> Pixels:
        reformatter = self._reformatters.get(scale)
        if reformatter is None:
            reformatter = self._reformatters[scale] = VideoReformatter()
        made = reformatter.reformat(
            picture,
            width,
            height,
            _FORMATS[scale.colour],
            interpolation=_FLAGS[scale.scaler],
            threads=1,
        )
        plane: Any = made.planes[0]
        rows: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : width * scale.channels].reshape(height, width, scale.channels)

    def _crop(self, picture: Any, window: Window) -> Any:
        """A part of a picture; no pixel is copied."""
        key = (picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range)
        graph = self._crops.get((key, window))
        if graph is None:
            graph = av.filter.Graph()
            graph.threads = 1
            # a picture keeps its colour space and range where the filter has to convert it first
            source = graph.add(
                "buffer",
                f"width={picture.width}:height={picture.height}:pix_fmt={picture.format.name}:time_base=1/1:"
                f"pixel_aspect=1/1:colorspace={picture.colorspace}:range={picture.color_range}",
            )
            sides = f"{window.width}:{window.height}:{window.left}:{window.top}"
            crop = graph.add("crop", f"{sides}:exact=1")
            graph.link_nodes(source, crop, graph.add("buffersink")).configure()
            self._crops[key, window] = graph
        graph.push(picture)
        return graph.pull()
