"""Makes random numbers that a model's input takes."""

from __future__ import annotations

import numpy as np
import openvino as ov

from cpuserve.serving.engine import Array

__all__ = ["random_row"]

_SIDE = 64  # stands in for a variable side of pictures; networks halve it up to six times


def random_row(port: ov.Output, dice: np.random.Generator) -> Array:
    """Bytes for an input of bytes, 0 and 1 for wider integers, which are often indices, else -1 to 1."""
    shape = port.partial_shape
    kind = port.element_type.to_dtype()
    sides = [
        side.get_length() if side.is_static else _stand_in(side, place, len(shape))
        for place, side in enumerate(shape)
    ]
    if kind.kind == "b":
        return dice.integers(0, 1, sides, endpoint=True).astype(kind)
    if kind.kind in "iu":
        low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.itemsize == 1 else (0, 1)
        return dice.integers(low, high, sides, kind, endpoint=True)
    return dice.uniform(-1, 1, sides).astype(kind)


def _stand_in(side: ov.Dimension, place: int, rank: int) -> int:
    """A length for a variable side: 1, or for a side of pictures what networks can halve some times."""
    wanted = _SIDE if rank == 4 and place else 1
    least, most = int(side.min_length), int(side.max_length)
    return min(max(wanted, least), most) if most > 0 else max(wanted, least)
