"""Puts the setting ``shape`` into a graph: fixed and variable sides, ranges, and ``auto``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import openvino as ov

from cpuserve.errors import ModelLoadError, last_line
from cpuserve.serving.graph import names_of

__all__ = ["put_shape", "with_open_sides"]

_AUTO = "auto"
_LIST = re.compile(r"[(\[]?\s*([^()\[\]]*?)\s*,?\s*[)\]]?")
_RANGE = re.compile(r"(\d+)\s*:\s*(\d+)")
_FORMS = "(1,3,224,224), (1,3,-1,-1), (1,3,200:500,224) or auto"


def put_shape(model: ov.Model, text: str) -> None:
    """Reshapes the inputs that the setting has sizes for, as OpenVINO Model Server's ``shape`` does.

    Args:
        model: it is changed.
        text: the shape of the only input, or JSON of shapes by input name.

    Raises:
        ModelLoadError: the text has another form, names no input, or the model does not take the shape.
    """
    wanted = {
        model.input(_place(model, name, text)): _shape(words, text)
        for name, words in _by_name(model, text).items()
        if words.lower() != _AUTO
    }
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        raise ModelLoadError(f"the model does not take shape {text}: {last_line(error)}") from error


def with_open_sides(model: ov.Model, text: str) -> ov.Model | None:
    """A copy of the model whose inputs vary in every side that the graph lets vary.

    Args:
        model: after `put_shape`.
        text: as there.

    Returns:
        None where the setting has no ``auto``, or no side of these inputs can vary.
    """
    copy = model.clone()
    wanted = {}
    for name, words in _by_name(model, text).items():
        if words.lower() == _AUTO:
            place = _place(model, name, text)
            wanted[copy.input(place)] = _every_side(model, place)
    if all(shape == port.partial_shape for port, shape in wanted.items()):
        return None
    try:
        copy.reshape(wanted)
    except RuntimeError:  # each side could vary, but not all of them together
        return None
    return copy


def _by_name(model: ov.Model, text: str) -> Mapping[str, str]:
    if not text.lstrip().startswith("{"):
        if len(model.inputs) == 1 or text.strip().lower() == _AUTO:
            return {names_of(port)[0]: text.strip() for port in model.inputs}
        raise ModelLoadError(
            f"shape {text!r} is for one input; this model has {len(model.inputs)}: give JSON by name, as in "
            f'{{"{names_of(model.input(0))[0]}": "(1,3,224,224)"}}'
        )
    try:
        found = json.loads(text)
    except ValueError:
        raise ModelLoadError(f"shape {text!r} is not JSON") from None
    if not isinstance(found, dict) or not found:
        raise ModelLoadError(f"shape {text!r} is not an object of shapes by input name")
    return {
        name: ",".join(map(str, words)) if isinstance(words, list) else str(words)
        for name, words in found.items()
    }


def _place(model: ov.Model, name: str, text: str) -> int:
    for place, port in enumerate(model.inputs):
        if name in names_of(port):
            return place
    there = ", ".join(repr(names_of(port)[0]) for port in model.inputs)
    raise ModelLoadError(f"shape {text!r} names {name!r}; the model's inputs are {there}")


def _shape(words: str, text: str) -> ov.PartialShape:
    listed = _LIST.fullmatch(words)
    sides = [_side(word.strip()) for word in listed[1].split(",")] if listed and listed[1] else []
    if not sides or None in sides:
        raise ModelLoadError(f"shape {text!r} is no shape such as {_FORMS}")
    return ov.PartialShape([side for side in sides if side is not None])


def _side(word: str) -> ov.Dimension | None:
    """A side of at least 1, any side, or one between two numbers; None for another word."""
    if word == "-1":
        return ov.Dimension(-1)
    if word.isascii() and word.isdigit() and int(word):
        return ov.Dimension(int(word))
    ends = _RANGE.fullmatch(word)
    if ends and 0 < int(ends[1]) <= int(ends[2]):
        return ov.Dimension(int(ends[1]), int(ends[2]))
    return None


def _every_side(model: ov.Model, place: int) -> ov.PartialShape:
    """The shape of an input whose sides vary where shape inference takes another one."""
    shape = model.input(place).partial_shape
    if shape.rank.is_dynamic:
        return shape
    found = [*shape]
    for axis, side in enumerate(shape):
        if side.is_dynamic or _takes(model, place, axis, 2 * side.get_length()):
            found[axis] = ov.Dimension(-1)
    return ov.PartialShape(found)


def _takes(model: ov.Model, place: int, axis: int, side: int) -> bool:
    copy = model.clone()
    shape = copy.input(place).partial_shape
    shape[axis] = side
    try:
        copy.reshape({copy.input(place): shape})
    except RuntimeError:
        return False
    return True
