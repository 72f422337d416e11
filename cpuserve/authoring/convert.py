"""A graph as its framework left it into one that is served, card inside; it reads and publishes no file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from cpuserve.authoring.build import dequantise_output, free_batch
from cpuserve.authoring.catalog import Dequantise
from cpuserve.authoring.source import SourceModel, reason
from cpuserve.errors import RepositoryError, UsageError
from cpuserve.models.card import OWN, Card

__all__ = ["CONVERTED", "Conversion", "convert", "quantisation", "save"]

CONVERTED = "converted"  # below `rt_info/cpuserve`


@dataclass(frozen=True)
class Conversion:
    """What is published.

    Attributes:
        model: the graph, card inside.
        card: the card.
        outputs: of each output, how its integers were turned into real numbers; None: they were left alone.
        notes: what the user should know, one sentence each.
    """

    model: ov.Model
    card: Card
    outputs: tuple[Dequantise | None, ...]
    notes: tuple[str, ...]


def convert(source: SourceModel, card: Card, name: str) -> Conversion:
    """Makes the graph fit to be served and puts the card into it.

    The batch is freed where it is written into a Reshape, and outputs of quantised probabilities become real
    numbers; both are done in a copy.

    Args:
        source: the model.
        card: what is said of it; what this leaves at its default is taken from the metadata it brings.
        name: it is published under.

    Raises:
        UsageError: the card does not fit the graph.
        ModelLoadError: the metadata that the model brings hold a value that cannot be meant.
    """
    model = source.model.clone()
    said = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    card = dataclasses.replace(
        Card.read(model), **{key: value for key, value in said.items() if value != getattr(Card(), key)}
    )
    free_batch(model)
    found = tuple(quantisation(port) for port in model.outputs)
    for index, how in enumerate(found):
        if how is not None:
            dequantise_output(model, how, index)
    _refuse_labels(model, card)
    model.set_friendly_name(name)
    entry = model.input(0)
    kind = entry.element_type.get_type_name() if len(model.inputs) == 1 else ""
    card = dataclasses.replace(card, source=card.source or source.name, input_dtype=kind)
    card.write(model)
    facts = {
        "file": source.name,
        "sha256": source.sha256,
        "framework": source.framework,
        "openvino": ov.__version__.split("-")[0],
    }
    for key, value in facts.items():
        model.set_rt_info(value, [OWN, CONVERTED, key])
    return Conversion(model, card, found, tuple(_notes(model)))


def save(conversion: Conversion, folder: Path, *, compress_to_fp16: bool) -> Path:
    """Writes the IR into a directory and returns its XML file.

    Raises:
        RepositoryError: it cannot be written.
    """
    file = folder / "model.xml"
    try:
        ov.save_model(conversion.model, file, compress_to_fp16=compress_to_fp16)
    except RuntimeError as error:
        raise RepositoryError(f"cannot write {file.name} to {folder.parent}: {reason(error)}") from error
    return file


def quantisation(port: ov.Output) -> Dequantise | None:
    """How the integers of an output stand for real numbers, if the graph says so; else None.

    Importers of quantised models put a FakeQuantize before the conversion to integers: its input range is
    that of the real numbers, its output range that of the integers. Class ids have none, and stay.
    """
    if port.element_type.get_type_name() not in ("u8", "i8", "u16", "i16"):
        return None
    node = port.get_node()
    while node.get_type_name() in ("Result", "Convert", "Reshape", "Squeeze"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "FakeQuantize":
        return None
    limits = [value.get_node() for value in node.input_values()[1:]]
    if any(
        limit.get_type_name() != "Constant" or math.prod(limit.get_output_shape(0)) != 1 for limit in limits
    ):
        return None  # a scale a channel: left to whoever reads the integers
    low, high, lowest, highest = (float(limit.data.reshape(-1)[0]) for limit in limits)
    scale = (high - low) / (highest - lowest)
    return Dequantise(scale=scale, zero_point=round(lowest - low / scale))


def _refuse_labels(model: ov.Model, card: Card) -> None:
    """Labels that are not as many as the classes name the wrong ones."""
    shape = model.output(0).partial_shape
    if not card.labels or len(model.outputs) != 1 or shape.rank.is_dynamic or len(shape) < 2:
        return
    sides = [shape[index] for index in range(1, len(shape))]
    if any(side.is_dynamic for side in sides):
        return
    lengths = [side.get_length() for side in sides if side.get_length() != 1]
    kind = card.model_type.lower()
    if kind == "classification" or (not kind and len(lengths) == 1):
        classes = math.prod(lengths)
        if classes != len(card.labels):
            raise UsageError(f"--labels has {len(card.labels)} names, the model {classes} classes")


def _notes(model: ov.Model) -> list[str]:
    notes = []
    for port in model.inputs:
        sides = list(port.partial_shape)
        if any(side.is_dynamic for side in sides[1:]):
            named = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
            notes.append(
                f"input {named} has variable sides {port.partial_shape}: it takes tensors, but no pictures "
                f"unless --input {named}[1,...] fixes them"
            )
    return notes
