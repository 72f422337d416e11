"""Compares the answers of a written IR with those of the model in its own framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.authoring.labelled_pictures import evenly_chosen, pictures_checksum, read_pictures
from cpuserve.authoring.original_framework import EXACT, load_original
from cpuserve.authoring.parity import Array, compare
from cpuserve.authoring.report_process import Facts
from cpuserve.authoring.source import SourceModel
from cpuserve.errors import UsageError
from cpuserve.models.card import Card
from cpuserve.models.quantisation import Dequantise
from cpuserve.serving.graph import image_input, names_of
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.random_row import random_row

__all__ = [
    "OriginalComparison",
    "check_pictures",
    "compare_with_original",
    "input_rows",
    "real_numbers",
]

_SEED = 20  # of the random tensors that stand in for pictures
_RANDOM = 4
_MOST_PICTURES = 100


@dataclass(frozen=True)
class OriginalComparison:
    """What to compare, in a form that another process can be given.

    Attributes:
        asked: how the source was read; see `SourceModel`.
        weights: of a module that a callable built; None for other sources.
        xml: the written IR, with its card.
        dequantised: for each output, how its integers became real numbers; None: it was left alone.
        images: pictures to compare on; None: seeded random tensors.
        max_pixels: of a picture.
    """

    asked: tuple[str, Mapping[str, str], tuple[str, ...]]
    weights: Path | None
    xml: Path
    dequantised: tuple[Dequantise | None, ...]
    images: Path | None
    max_pixels: int


def check_pictures(model: ov.Model, card: Card, images: Path) -> None:
    """Checks that a model takes pictures and that there are some.

    Raises:
        UsageError: one of both is not so.
    """
    if image_input(model, card) is None:
        raise UsageError("--images: the model has no picture input; leave it out and random tensors are used")
    read_pictures(images, ())


def compare_with_original(order: OriginalComparison) -> Facts:
    """Computes the differences to the original for each output.

    Yields:
        ``not_compared``, a reason; or ``original``, ``precision``, facts on the inputs, and ``outputs``, the
        differences of each or the reason why it was not compared.

    Raises:
        CpuserveError: one of both cannot be run.
    """
    source = SourceModel.again(order.asked, order.weights)
    original = load_original(source)
    if isinstance(original, str):
        yield "not_compared", original
        return
    written = openvino_core().read_model(order.xml)
    compiled = openvino_core().compile_model(written, "CPU", EXACT)
    data, rows = input_rows(written, order)
    before: list[list[Array]] = []
    after: list[list[Array]] = []
    for row in rows:
        before.append(real_numbers(original.run(row), order.dequantised))
        found = compiled(list(row))
        after.append([np.array(found[port]) for port in compiled.outputs])
    model_type = Card.read(written).model_type or "tensor"
    outputs = []
    for index, port in enumerate(written.outputs):
        theirs, ours = [row[index] for row in before], [row[index] for row in after]
        kind = model_type if len(written.outputs) == 1 else "tensor"
        outputs.append({"name": names_of(port)[0]} | _differences(theirs, ours, kind))
    yield from {"original": original.title, "precision": "f32", **data, "outputs": outputs}.items()


def _differences(theirs: Sequence[Array], ours: Sequence[Array], kind: str) -> dict[str, Any]:
    """The measures of one output, or ``not_compared``, the reason why there are none."""
    try:
        return asdict(compare(theirs, ours, kind))
    except UsageError as error:
        return {"not_compared": str(error)}


def real_numbers(outputs: Sequence[Array], how: Sequence[Dequantise | None]) -> list[Array]:
    """Outputs as real numbers, by how the integers of each stand for them; None leaves one as it is."""
    return [
        array
        if rule is None
        else (array.astype(np.float32) - np.float32(rule.zero_point)) * np.float32(rule.scale)
        for array, rule in zip(outputs, how, strict=True)
    ]


def input_rows(model: ov.Model, order: OriginalComparison) -> tuple[dict[str, Any], Iterator[list[Array]]]:
    """The inputs to compare on, one row each, and what the report says of them."""
    if order.images is None:
        dice = np.random.default_rng(_SEED)
        said: dict[str, Any] = {"data": f"{_RANDOM} random tensors (seed {_SEED}), no pictures"}
        return said, ([random_row(port, dice) for port in model.inputs] for _ in range(_RANDOM))
    card = Card.read(model)
    source = image_input(model, card)
    assert source is not None  # noqa: S101  # checked before, by `check_pictures`
    picture_input = PictureInput.of(source, card, exact=True, max_pixels=order.max_pixels)
    pictures = EvaluationModel(model, card, source, picture_input)
    read = pictures.rows(evenly_chosen(read_pictures(order.images, ()), _MOST_PICTURES))
    said = {
        "data": f"{len(read.rows)} pictures of {order.images.name or order.images}",
        "data_sha256": pictures_checksum(picture.file for picture in read.pictures),
        "left_out": [f"{file.name}: {reason}" for file, reason in read.left_out],
    }
    return said, ([pictures.prepare(row)] for row in read.rows)
