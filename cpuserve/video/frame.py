"""One decoded frame, from which stages take pictures of the sizes they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cpuserve.serving.decode import Pixels
from cpuserve.video.scale import Scale

if TYPE_CHECKING:
    from cpuserve.video.picture_scaler import PictureScaler

__all__ = ["Frame"]


class Frame:
    """A decoded frame. A stage may keep it, which keeps its planes: a few at a time.

    Attributes:
        number: its place in the order of presentation, from 0 on.
        pts: its time in units of the file's time base.
        time_s: its time in seconds.
        key: whether it is a keyframe.
        packet_bytes: the size of its packet.
    """

    __slots__ = (
        "_picture",
        "_scaled",
        "_scaler",
        "_size",
        "key",
        "number",
        "packet_bytes",
        "pts",
        "time_s",
    )

    def __init__(
        self,
        picture: object,
        scaler: PictureScaler,
        *,
        number: int,
        pts: int,
        time_s: float,
        key: bool,
        packet_bytes: int,
    ) -> None:
        self._picture = picture
        self._scaler = scaler
        self._scaled: dict[Scale, Pixels] = {}
        self.number = number
        self.pts = pts
        self.time_s = time_s
        self.key = key
        self.packet_bytes = packet_bytes
        self._size: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        """Of the picture as it is shown (after the file's rotation), in pixels."""
        return self._shown_size()[0]

    @property
    def height(self) -> int:
        """Of the picture as it is shown, in pixels."""
        return self._shown_size()[1]

    def _shown_size(self) -> tuple[int, int]:
        """Looked up when it is asked for: most frames of a cascade are skipped."""
        if self._size is None:
            self._size = self._scaler.shown_size(self._picture)
        return self._size

    def scaled(self, scale: Scale) -> Pixels:
        """The picture of one size, made by swscale straight from the decoder's planes.

        It is made once; later calls with an equal scale give the same array.

        Returns:
            u8 [height, width, channels].
        """
        pixels = self._scaled.get(scale)
        if pixels is None:
            pixels = self._scaled[scale] = np.ascontiguousarray(self._scaler.scale(self._picture, scale))
        return pixels
