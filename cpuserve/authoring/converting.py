"""A model file becomes a version of the repository, with a report of it; it parses no arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.catalog import Dequantise
from cpuserve.authoring.compiler_folding import folding
from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.convert import Conversion, convert, save
from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.authoring.labelled_pictures import evenly_chosen, pictures_checksum, read_pictures
from cpuserve.authoring.original_framework import EXACT, load_original
from cpuserve.authoring.parity import Array, compare
from cpuserve.authoring.source import SourceModel
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import Port
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.graph import image_input, names_of
from cpuserve.serving.picture_input import Feed
from cpuserve.serving.postprocess import judged
from cpuserve.settings import Settings

__all__ = ["ConvertOrder", "convert_and_publish"]

_REPORT = "report.json"
_SEED = 20  # of the random tensors that stand in for pictures
_RANDOM = 4
_MOST_PICTURES = 100


@dataclass(frozen=True)
class ConvertOrder:
    """What to publish.

    Attributes:
        name: the model's name.
        card: what is known of it.
        version: its version; None: the next.
        compress_to_fp16: store the weights as f16.
        replace: put it in the place of a version that exists.
        parity: compare with the original framework.
        images: pictures to compare on; None: seeded random tensors.
    """

    name: str
    card: Card
    version: int | None = None
    compress_to_fp16: bool = False
    replace: bool = False
    parity: bool = True
    images: Path | None = None


def convert_and_publish(
    source: SourceModel,
    order: ConvertOrder,
    repository: Repository,
    settings: Settings,
    say: Callable[[str], None],
) -> tuple[ModelFile, dict[str, Any]]:
    """Convert a model, compare what was written with the original, and publish both IR and report.

    Args:
        source: the model.
        order: how.
        repository: where to.
        settings: in force; they limit the pictures.
        say: told in a few words what is done next.

    Returns:
        What was published and the report, as it lies in ``report.json`` beside the IR.

    Raises:
        UsageError: the card does not fit the model, or there are no pictures in ``images``.
        ModelLoadError: OpenVINO cannot compile the model.
        RepositoryError: it cannot be published; the repository is as it was.
    """
    say(f"converting {source.name}")
    made = convert(source, order.card, order.name)
    with repository.publish(order.name, order.version, replace=order.replace) as folder:
        xml = save(made, folder, compress_to_fp16=order.compress_to_fp16)
        written = ov.Core().read_model(xml)  # what is measured is what was written
        report = _facts(source, made, xml) | {"notes": list(made.notes)}
        say("reading what the compiler folded")
        report |= _structure(written)
        report["parity"] = None
        if order.parity:
            say("comparing with the original")
            report["parity"] = _parity(source, made, written, order, settings)
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(order.name, order.version), report


def _facts(source: SourceModel, made: Conversion, xml: Path) -> dict[str, Any]:
    return {
        "source": source.name,
        "format": source.title,
        "framework": source.framework,
        "sha256": source.sha256 or None,
        "openvino": ov.__version__.split("-")[0],
        "inputs": [_described(port) for port in made.model.inputs],
        "outputs": [_described(port) for port in made.model.outputs],
        "dequantised": {
            names_of(port)[0]: asdict(how)
            for port, how in zip(made.model.outputs, made.outputs, strict=True)
            if how is not None
        },
        "bytes": xml.stat().st_size + xml.with_suffix(".bin").stat().st_size,
    }


def _described(port: ov.Output) -> str:
    return f"{names_of(port)[0]} {port.element_type.get_type_name()}{port.partial_shape}"


def _structure(model: ov.Model) -> dict[str, Any]:
    """Size and folding, for a batch of one; of a graph with other variable sides neither can be counted."""
    single = model.clone()
    shapes = {}
    for port in single.inputs:
        shape = port.partial_shape
        if len(shape) and shape[0].is_dynamic:
            shape[0] = 1
        shapes[port] = shape
    single.reshape(shapes)
    try:
        compiled = ov.Core().compile_model(single, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise ModelLoadError(f"OpenVINO read the model but cannot compile it: {error}") from error
    counted = None if any(shape.is_dynamic for shape in shapes.values()) else asdict(complexity(single))
    return {"complexity": counted, "folding": asdict(folding(single, compiled))}


def _parity(
    source: SourceModel, made: Conversion, written: ov.Model, order: ConvertOrder, settings: Settings
) -> dict[str, Any]:
    """The differences to the original, output by output, or why there is no comparison."""
    data, rows = _rows(made, order, settings)
    compiled = ov.Core().compile_model(written, "CPU", EXACT)
    before: list[list[Array]] = []
    after: list[list[Array]] = []
    try:
        made_by = load_original(source)
        if isinstance(made_by, str):
            return {"not_compared": made_by}
        for row in rows:
            before.append(_real(made_by.run(row), made.outputs))
            found = compiled(list(row))
            after.append([np.array(found[port]) for port in compiled.outputs])
    except ModelLoadError as error:
        return {"not_compared": str(error)}
    outputs = []
    judges = made.card.model_type or _judged(made)
    for index, port in enumerate(written.outputs):
        theirs, ours = [row[index] for row in before], [row[index] for row in after]
        kind = judges if len(written.outputs) == 1 else "tensor"
        outputs.append({"name": names_of(port)[0]} | asdict(compare(theirs, ours, kind)))
    return {"original": made_by.title, "precision": "f32", **data, "outputs": outputs}


def _judged(made: Conversion) -> str:
    """What the server takes a model for whose card does not say."""
    ranks = [port.partial_shape.rank for port in made.model.outputs]
    if any(rank.is_dynamic for rank in ranks) or image_input(made.model, made.card) is None:
        return ""
    return judged([Port.of(port).shape[1:] for port in made.model.outputs])


def _real(outputs: Sequence[Array], how: Sequence[Dequantise | None]) -> list[Array]:
    return [
        array
        if rule is None
        else (array.astype(np.float32) - np.float32(rule.zero_point)) * np.float32(rule.scale)
        for array, rule in zip(outputs, how, strict=True)
    ]


def _rows(
    made: Conversion, order: ConvertOrder, settings: Settings
) -> tuple[dict[str, Any], Iterator[list[Array]]]:
    """What is compared on: words and a checksum for the report, and the inputs, a batch of one each."""
    source = image_input(made.model, made.card)
    if order.images is None:
        dice = np.random.default_rng(_SEED)
        said: dict[str, Any] = {"data": f"{_RANDOM} random tensors (seed {_SEED}), no pictures"}
        return said, ([_random(port, dice) for port in made.model.inputs] for _ in range(_RANDOM))
    if source is None:
        raise UsageError("--images: the model has no picture input; leave it out and random tensors are used")
    feed = Feed.of(source, made.card, exact=True, max_pixels=settings.max_pixels)
    offline = EvaluationModel(made.model, made.card, source, feed)
    read = offline.rows(evenly_chosen(read_pictures(order.images, ()), _MOST_PICTURES))
    said = {
        "data": f"{len(read.rows)} pictures of {order.images.name or order.images}",
        "data_sha256": pictures_checksum(sample.file for sample in read.samples),
        "left_out": [f"{file.name}: {reason}" for file, reason in read.left_out],
    }
    return said, ([offline.prepare(row)] for row in read.rows)


def _random(port: ov.Output, dice: np.random.Generator) -> Array:
    """Bytes for an input of integers, else numbers from -1 to 1; variable sides are 1."""
    sides = [1 if side.is_dynamic else side.get_length() for side in port.partial_shape]
    kind = port.element_type.to_dtype()
    if kind.kind in "iu":
        return dice.integers(
            max(np.iinfo(kind).min, -128), min(np.iinfo(kind).max, 255), sides, kind, endpoint=True
        )
    return dice.uniform(-1, 1, sides).astype(kind)
