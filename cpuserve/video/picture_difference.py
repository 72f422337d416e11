"""How much two small pictures differ, whatever the exposure: one that is brighter throughout is the same."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from cpuserve.serving.engine import Array

__all__ = ["BLOCKS", "SmallPicture", "block_errors", "block_features", "residual", "small_picture"]

BLOCKS = 10  # blocks across and down
_GAINS = (0.25, 4.0)
_DARK = 8.0  # of 255: the ratio of darker blocks is noise


class SmallPicture(NamedTuple):
    """A picture made ready to be compared.

    Attributes:
        values: f32 [h, w, c], 0 to 255.
        means: f32 [BLOCKS, BLOCKS], mean of each block over its pixels and channels.
    """

    values: Array
    means: Array


def small_picture(pixels: Array) -> SmallPicture:
    """Makes a picture ready to be compared.

    Args:
        pixels: u8 or f32 [h, w, c], 0 to 255, h and w at least `BLOCKS`.
    """
    values = pixels.astype(np.float32, copy=pixels.dtype != np.float32)
    return SmallPicture(values, _blocks(values).mean(axis=2))


def residual(now: SmallPicture, before: SmallPicture) -> Array:
    """``now`` minus ``before`` brought to the same exposure, f32 [h, w, c].

    The gain is the median over blocks of the ratio of their means, so that an object that covers less than
    half of the picture does not change it.
    """
    return now.values - _gain(now.means, before.means) * before.values


def block_errors(difference: Array) -> Array:
    """Mean squared difference by block and channel, f32 [BLOCKS, BLOCKS, c], of f32 [h, w, c]."""
    return _blocks(difference * difference)


def block_features(difference: Array) -> Array:
    """What a trained detector weighs: logarithms of `block_errors`, f32 [BLOCKS * BLOCKS * c]."""
    found: Array = np.log1p(block_errors(difference)).reshape(-1)
    return found


def _blocks(values: Array) -> Array:
    """Means of `BLOCKS` x `BLOCKS` blocks of f32 [h, w, c], as [BLOCKS, BLOCKS, c]."""
    found = cv2.resize(values, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    return found.reshape(BLOCKS, BLOCKS, -1)


def _gain(now: Array, before: Array) -> float:
    """What ``before`` is multiplied by to have the exposure of ``now``; 1 where all is dark."""
    bright = (now > _DARK) & (before > _DARK)
    if not bright.any():
        return 1.0
    return float(np.clip(np.median(now[bright] / before[bright]), *_GAINS))
