"""Asks a graph which axis of each input and output is the batch, and whether its rows are independent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from cpuserve.errors import last_line
from cpuserve.models.card import Card
from cpuserve.serving.graph import image_input, names_of, with_batch
from cpuserve.serving.openvino_core import openvino_core

__all__ = ["ROWS", "Batch", "batch_axes", "batch_of", "rows_of"]

_TWO, _THREE = 2, 3  # the batches that are tried: a side that happens to be one of them is not the other
_MOST_TRIES = 81  # of axes, each two runs of shape inference
_SEED = 7
_FAR, _MANY = 0.05, 0.5  # of the largest number; of the numbers
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Whether requests to a model may be joined and cut by rows.

    Attributes:
        free: every input and output has the batch first, of any size, and no row depends on another.
        reason: why not, for people; empty where it is free.
        rows: "independent" or "mixed", as in the card; empty where shapes alone decided.
    """

    free: bool
    reason: str = ""
    rows: str = ""


ROWS = Batch(free=True)


def batch_of(model: ov.Model, card: Card) -> Batch:
    """Asks shape inference with two batches; where the card has no record, runs rows together and alone.

    A first side that is fixed and not 1 counts as a batch only for a picture input.
    """
    for port in model.inputs:
        shape = port.partial_shape
        name = names_of(port)[0]
        if shape.rank.is_dynamic or not len(shape):
            return Batch(free=False, reason=f"input {name!r} has no batch: its shape is {shape}")
        if any(side.is_dynamic for side in list(shape)[1:]):
            return Batch(free=False, reason=f"input {name!r} has variable sides: its shape is {shape}")
        first = shape[0]
        if first.is_static and first.get_length() != 1 and image_input(model, card) is None:
            return Batch(free=False, reason=f"the first side of input {name!r} is {first.get_length()}")
    for size in (_TWO, _THREE):
        if with_batch(model, size) is None:
            return Batch(free=False, reason=_why_not(model))
    rows = card.rows or rows_of(model)
    if rows == "mixed":
        return Batch(
            free=False, reason="the answer to a row depends on the other rows of its batch", rows=rows
        )
    return Batch(free=True, rows=rows)


def rows_of(model: ov.Model) -> str:
    """Says "independent" where a row is answered the same alone and beside any other, else "mixed".

    Args:
        model: a graph that `with_batch` can give any batch.
    """
    core = openvino_core()
    single, pair = with_batch(model, 1), with_batch(model, _TWO)
    if single is None or pair is None:
        return "mixed"
    dice = np.random.default_rng(_SEED)
    one, two, three = zip(*(_rows(port, dice) for port in single.inputs), strict=True)
    try:
        alone, together = core.compile_model(single, "CPU", _EXACT), core.compile_model(pair, "CPU", _EXACT)
        base, other_second, other_first = (
            _outputs(together, first, second) for first, second in ((one, two), (one, three), (three, two))
        )
        single_rows = _outputs(alone, one), _outputs(alone, two)
    except RuntimeError:  # what fails in a batch is run alone
        return "mixed"
    for place, both in enumerate(base):
        # the same place of the same compiled graph: an independent row gives the same bits
        if not _same(both[0], other_second[place][0]) or not _same(both[1], other_first[place][1]):
            return "mixed"
        if any(_far(both[row], single_rows[row][place][0]) for row in (0, 1)):
            return "mixed"
    return "independent"


def batch_axes(model: ov.Model) -> tuple[int, ...]:
    """The axis of each input and then of each output along which the batch lies; -1 for a port without one.

    Of the ways to put a batch into the inputs, the one that most outputs follow is taken; among equals the
    one with most inputs, and the axes nearest to the front.
    """
    nothing = (-1,) * (len(model.inputs) + len(model.outputs))
    found, best = nothing, (0, 0)
    for axes in islice(_ways(model), _MOST_TRIES):
        outputs = _follow(model, axes)
        if outputs is None:
            continue
        score = sum(axis >= 0 for axis in outputs), sum(axis >= 0 for axis in axes)
        if score[0] and score > best:
            found, best = (*axes, *outputs), score
            if best == (len(outputs), len(axes)):
                break
    return found


def _ways(model: ov.Model) -> Iterator[tuple[int, ...]]:
    """The axes to try for the inputs, the likely ones first: all first sides, then each input's others."""
    choices = [_axes(port.partial_shape) for port in model.inputs]
    return iter(product(*choices))


def _axes(shape: ov.PartialShape) -> Sequence[int]:
    if shape.rank.is_dynamic or not len(shape):
        return (-1,)
    open_sides = [axis for axis, side in enumerate(shape) if side.is_dynamic or side.get_length() == 1]
    return (*open_sides[:2], -1)


def _follow(model: ov.Model, axes: Sequence[int]) -> tuple[int, ...] | None:
    """The axis of each output that follows a batch in these axes of the inputs; None where it cannot be."""
    shapes: list[list[ov.PartialShape]] = []
    for batch in (_TWO, _THREE):
        copy = model.clone()
        wanted = {}
        for port, axis in zip(copy.inputs, axes, strict=True):
            shape = port.partial_shape
            if axis >= 0:
                shape[axis] = batch
            wanted[port] = shape
        try:
            copy.reshape(wanted)
        except RuntimeError:
            return None
        shapes.append([port.partial_shape for port in copy.outputs])
    return tuple(_following(two, three) for two, three in zip(*shapes, strict=True))


def _following(two: ov.PartialShape, three: ov.PartialShape) -> int:
    if two.rank.is_dynamic or three.rank.is_dynamic or len(two) != len(three):
        return -1
    for axis, sides in enumerate(zip(two, three, strict=True)):
        if all(side.is_static for side in sides) and [side.get_length() for side in sides] == [_TWO, _THREE]:
            return axis
    return -1


def _why_not(model: ov.Model) -> str:
    copy = model.clone()
    shapes = {}
    for port in copy.inputs:
        shape = port.partial_shape
        shape[0] = _TWO
        shapes[port] = shape
    try:
        copy.reshape(shapes)
    except RuntimeError as error:
        return f"the graph takes no other batch: {last_line(error)}"
    for port in copy.outputs:
        shape = port.partial_shape
        follows = shape.rank.is_static and len(shape) and shape.is_static and shape[0].get_length() == _TWO
        if not follows:
            return f"output {names_of(port)[0]!r} has no batch: for two rows its shape is {shape}"
    return "a resize inside has the batch written into it"


def _rows(port: ov.Output, dice: np.random.Generator) -> tuple[_Array, _Array, _Array]:
    """Three rows for an input, each [1, ...]; the last differs from the others in every number."""
    shape = tuple(port.shape)
    kind = port.element_type.to_dtype()
    if kind.kind == "f":
        one, two, three = (dice.uniform(-1, 1, shape).astype(kind) for _ in range(3))
        return one, two, three
    # small numbers, since they may be places in a table; bytes may be pixels
    most = 255 if kind == np.uint8 else 1
    bits = dice.integers(0, most, shape, endpoint=True)
    return bits.astype(kind), bits.astype(kind), (most - bits).astype(kind)


def _outputs(compiled: ov.CompiledModel, *rows: Sequence[_Array]) -> list[_Array]:
    found = compiled([np.concatenate(parts) for parts in zip(*rows, strict=True)])
    return [np.array(found[port]) for port in compiled.outputs]


def _same(before: _Array, after: _Array) -> bool:
    return before.tobytes() == after.tobytes() or np.array_equal(before, after, equal_nan=True)


def _far(before: _Array, after: _Array) -> bool:
    """Whether most numbers differ by more than batches of two sizes explain."""
    if before.shape != after.shape:
        return True
    if not before.size:
        return False
    ours, theirs = before.astype(np.float64), after.astype(np.float64)
    largest = np.abs(np.concatenate([ours.ravel(), theirs.ravel()])).max()
    apart = np.abs(ours - theirs) > _FAR * largest if before.dtype.kind == "f" else ours != theirs
    return bool(np.mean(apart) > _MANY)
