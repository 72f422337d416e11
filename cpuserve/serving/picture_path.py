"""Takes pictures into the rows of an engine, through the head of a cut model where there is one."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from cpuserve.serving.batcher import Batcher, BatchRows
from cpuserve.serving.cut_parts import Runner
from cpuserve.serving.picture_input import Encoded, PictureInput, PictureSize, ScaledPicture
from cpuserve.serving.request import Spans
from cpuserve.serving.stages import INFER

__all__ = ["PicturePath"]


@dataclass(frozen=True)
class PicturePath:
    """What takes encoded pictures into an engine.

    Attributes:
        picture_input: bytes to a row of pixels.
        batcher: runs the rows.
        head: makes the batcher's rows from pixels, for a cut model; None where the pixels are its rows.
    """

    picture_input: PictureInput
    batcher: Batcher
    head: Runner | None = None

    def through_head(
        self,
        head: Runner,
        picture: Encoded | ScaledPicture,
        rows: BatchRows,
        place: int,
        spans: Spans | None = None,
    ) -> PictureSize:
        """Decode, resize and run the head into row ``place`` of ``rows``.

        Raises:
            RequestError: it is not a picture, is damaged, or is too large.
        """
        resizer = self.picture_input.resizer
        pixels = np.empty((1, resizer.height, resizer.width, self.picture_input.channels), np.uint8)
        frame = self.picture_input.into(picture, pixels[0], spans)
        for target, made in zip(rows.inputs, head([pixels]), strict=True):
            target[place] = made[0]
        if spans is not None:
            spans.end(INFER, time.perf_counter_ns())
        return frame
