"""Converts a model of any framework: source, graph, card, check against the original, publish."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cpuserve.authoring.compiler_folding import folding
from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.authoring.ir_file import save_ir
from cpuserve.authoring.labelled_pictures import evenly_chosen, pictures_checksum, read_pictures
from cpuserve.authoring.original_framework import EXACT, load_original
from cpuserve.authoring.parity import Array, compare
from cpuserve.authoring.source import SourceModel
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import OWN, Card
from cpuserve.models.cut_manifest import CutPort
from cpuserve.models.quantisation import Dequantise
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.graph import image_input, names_of
from cpuserve.serving.picture_input import PictureInput
from cpuserve.serving.postprocess import judged
from cpuserve.serving.servable_graph import make_servable
from cpuserve.settings import Settings

__all__ = ["ConvertOrder", "convert"]

_CONVERTED = "converted"  # below `rt_info/cpuserve`
_REPORT = "report.json"
_SEED = 20  # of the random tensors that stand in for pictures
_RANDOM = 4
_MOST_PICTURES = 100


@dataclass(frozen=True)
class ConvertOrder:
    """What to publish.

    Attributes:
        name: the model's name.
        card: what the user says of the model; metadata of the source fill in what is left at its default.
        version: its version; None: the next.
        compress_to_fp16: store the weights as f16.
        replace: replace the version if it exists.
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


@dataclass(frozen=True)
class Conversion:
    """A graph that can be served.

    Attributes:
        model: the graph, with the card inside.
        card: the card.
        dequantised: for each output, how its integers became real numbers; None: it was left alone.
    """

    model: ov.Model
    card: Card
    dequantised: tuple[Dequantise | None, ...]


def convert(
    source: SourceModel,
    order: ConvertOrder,
    repository: Repository,
    settings: Settings,
    say: Callable[[str], None],
) -> tuple[ModelFile, dict[str, Any]]:
    """Converts a model, compares the written IR with the original, and publishes IR and report.

    Args:
        source: the model.
        order: how.
        repository: where to publish.
        settings: settings in force; they limit the pictures.
        say: called with a few words before each step.

    Returns:
        The published version, and the report that lies in ``report.json`` beside the IR.

    Raises:
        UsageError: the card does not fit the model, or there are no pictures in ``images``.
        ModelLoadError: the source's metadata are wrong, or OpenVINO cannot compile the model.
        RepositoryError: it cannot be published; the repository is unchanged.
    """
    say(f"converting {source.name}")
    made = _servable(source, order)
    with repository.publish(order.name, order.version, replace=order.replace) as folder:
        xml = save_ir(made.model, folder, compress_to_fp16=order.compress_to_fp16)
        written = ov.Core().read_model(xml)  # what is measured is what was written
        report = _facts(source, made, xml)
        say("reading what the compiler folded")
        report |= _structure(written)
        report["parity"] = None
        if order.parity:
            say("comparing with the original")
            report["parity"] = _parity(source, made, written, order, settings)
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(order.name, order.version), report


def _servable(source: SourceModel, order: ConvertOrder) -> Conversion:
    """A copy of the source's graph with a free batch, real outputs and the card."""
    model = source.model.clone()
    dequantised = make_servable(model)
    model.set_friendly_name(order.name)
    card = _card(source, model, order.card)
    card.write(model)
    facts = {
        "file": source.name,
        "sha256": source.sha256,
        "framework": source.framework,
        "openvino": _openvino_version(),
    }
    for key, value in facts.items():
        model.set_rt_info(value, [OWN, _CONVERTED, key])
    return Conversion(model, card, dequantised)


def _card(source: SourceModel, model: ov.Model, said: Card) -> Card:
    """The source's own metadata, overruled by what the user says, and the facts of the graph."""
    default = Card()
    chosen = {
        field.name: getattr(said, field.name)
        for field in dataclasses.fields(Card)
        if getattr(said, field.name) != getattr(default, field.name)
    }
    brought = Card.read(source.model)
    facts = {
        "source": said.source or brought.source or source.name,
        "input_dtype": model.input(0).element_type.get_type_name() if len(model.inputs) == 1 else "",
    }
    card = dataclasses.replace(brought, **chosen | facts)
    classes = _classes(model, card.model_type.lower())
    if card.labels and classes not in (None, len(card.labels)):
        raise UsageError(f"--labels has {len(card.labels)} names, the model {classes} classes")
    return card


def _classes(model: ov.Model, kind: str) -> int | None:
    """The number of classes of a classification; None for other models and variable shapes."""
    shape = model.output(0).partial_shape
    if len(model.outputs) != 1 or shape.rank.is_dynamic or len(shape) < 2:
        return None
    sides = [shape[index] for index in range(1, len(shape))]
    if any(side.is_dynamic for side in sides):
        return None
    lengths = [side.get_length() for side in sides if side.get_length() != 1]
    return math.prod(lengths) if kind == "classification" or (not kind and len(lengths) == 1) else None


def _facts(source: SourceModel, made: Conversion, xml: Path) -> dict[str, Any]:
    return {
        "source": source.name,
        "format": source.title,
        "framework": source.framework,
        "sha256": source.sha256 or None,
        "openvino": _openvino_version(),
        "inputs": [_described(port) for port in made.model.inputs],
        "outputs": [_described(port) for port in made.model.outputs],
        "dequantised": {
            names_of(port)[0]: asdict(how)
            for port, how in zip(made.model.outputs, made.dequantised, strict=True)
            if how is not None
        },
        "bytes": xml.stat().st_size + xml.with_suffix(".bin").stat().st_size,
        "notes": list(_notes(made.model)),
    }


def _openvino_version() -> str:
    return str(ov.__version__).split("-")[0]


def _described(port: ov.Output) -> str:
    return f"{names_of(port)[0]} {port.element_type.get_type_name()}{port.partial_shape}"


def _notes(model: ov.Model) -> Iterator[str]:
    """What the user should know, one sentence each."""
    for port in model.inputs:
        if any(side.is_dynamic for side in list(port.partial_shape)[1:]):
            name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
            yield (
                f"input {name} has variable sides {port.partial_shape}: it takes tensors, but no pictures "
                f"unless --input {name}[1,...] fixes them"
            )


def _structure(model: ov.Model) -> dict[str, Any]:
    """Size and folding for a batch of one; a graph with other variable sides cannot be counted."""
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
    """The differences to the original for each output, or why there is no comparison."""
    data, rows = _rows(made, order, settings)
    compiled = ov.Core().compile_model(written, "CPU", EXACT)
    before: list[list[Array]] = []
    after: list[list[Array]] = []
    try:
        original = load_original(source)
        if isinstance(original, str):
            return {"not_compared": original}
        for row in rows:
            before.append(_real(original.run(row), made.dequantised))
            found = compiled(list(row))
            after.append([np.array(found[port]) for port in compiled.outputs])
    except ModelLoadError as error:
        return {"not_compared": str(error)}
    outputs = []
    model_type = made.card.model_type or _served_as(made)
    for index, port in enumerate(written.outputs):
        theirs, ours = [row[index] for row in before], [row[index] for row in after]
        kind = model_type if len(written.outputs) == 1 else "tensor"
        outputs.append({"name": names_of(port)[0]} | asdict(compare(theirs, ours, kind)))
    return {"original": original.title, "precision": "f32", **data, "outputs": outputs}


def _served_as(made: Conversion) -> str:
    """The model type that the server assumes where the card names none."""
    ranks = [port.partial_shape.rank for port in made.model.outputs]
    if any(rank.is_dynamic for rank in ranks) or image_input(made.model, made.card) is None:
        return ""
    return judged([CutPort.of(port).shape[1:] for port in made.model.outputs])


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
    """The inputs to compare on, one row each, and what the report says of them."""
    source = image_input(made.model, made.card)
    if order.images is None:
        dice = np.random.default_rng(_SEED)
        said: dict[str, Any] = {"data": f"{_RANDOM} random tensors (seed {_SEED}), no pictures"}
        return said, ([_random(port, dice) for port in made.model.inputs] for _ in range(_RANDOM))
    if source is None:
        raise UsageError("--images: the model has no picture input; leave it out and random tensors are used")
    picture_input = PictureInput.of(source, made.card, exact=True, max_pixels=settings.max_pixels)
    pictures = EvaluationModel(made.model, made.card, source, picture_input)
    read = pictures.rows(evenly_chosen(read_pictures(order.images, ()), _MOST_PICTURES))
    said = {
        "data": f"{len(read.rows)} pictures of {order.images.name or order.images}",
        "data_sha256": pictures_checksum(picture.file for picture in read.pictures),
        "left_out": [f"{file.name}: {reason}" for file, reason in read.left_out],
    }
    return said, ([pictures.prepare(row)] for row in read.rows)


def _random(port: ov.Output, dice: np.random.Generator) -> Array:
    """Bytes for an input of integers, else numbers from -1 to 1; variable sides are 1."""
    sides = [1 if side.is_dynamic else side.get_length() for side in port.partial_shape]
    kind = port.element_type.to_dtype()
    if kind.kind in "iu":
        return dice.integers(
            max(np.iinfo(kind).min, -128), min(np.iinfo(kind).max, 255), sides, kind, endpoint=True
        )
    return dice.uniform(-1, 1, sides).astype(kind)
