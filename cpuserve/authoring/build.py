"""Turns a fetched model file into IR with its card and publishes it; it trains and quantises nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.authoring.catalog import CatalogEntry, Dequantise
from cpuserve.authoring.source import read_model, reason
from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.repository import ModelFile, Repository

__all__ = ["build", "dequantise_output", "free_batch"]


def build(
    entry: CatalogEntry, file: Path, labels: tuple[str, ...], repository: Repository, *, replace: bool = False
) -> ModelFile:
    """Converts a model of the catalogue and publishes it as version 1 under the entry's name.

    Args:
        entry: what the catalogue says of the model.
        file: the model file, verified.
        labels: names of the classes, in the order of the output.
        repository: where to publish.
        replace: put it in the place of a version 1 that exists.

    Raises:
        ModelLoadError: OpenVINO refuses the file, or the graph is not the one the catalogue describes.
        RepositoryError: the repository cannot be written, or has the version.
    """
    model = read_model(file)
    shape = tuple(
        -1 if side.is_dynamic else side.get_length() for side in model.inputs[0].get_partial_shape()
    )
    if shape != entry.input_shape:
        raise ModelLoadError(
            f"{file.name} has input shape {list(shape)}; the catalogue says {list(entry.input_shape)}"
        )
    free_batch(model)
    if entry.output is not None:
        dequantise_output(model, entry.output)
    model.set_friendly_name(entry.name)
    dataclasses.replace(entry.card, labels=labels).write(model)
    with repository.publish(entry.name, 1, replace=replace) as directory:
        try:
            ov.save_model(model, directory / "model.xml", compress_to_fp16=entry.compress_to_fp16)
        except RuntimeError as error:
            raise RepositoryError(
                f"cannot write {entry.name} to {repository.root}: {reason(error)}"
            ) from error
    return repository.find(entry.name, 1)


def free_batch(model: ov.Model) -> None:
    """Lets the model be reshaped to other batches where batch 1 is written into a Reshape or an Interpolate.

    Only a Reshape of data whose first dimension is 1 to a constant shape that begins with 1, and an
    Interpolate to constant sizes of all dimensions, are changed: they then copy that dimension from the data.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Reshape", "Interpolate"):
            continue
        data, target = node.input_value(0), node.input_value(1)
        if target.get_node().get_type_name() != "Constant" or not _batch_of_one(data):
            continue
        sizes = [int(size) for size in target.get_node().get_data()]
        if not sizes or sizes[0] != 1:
            continue
        if kind == "Reshape" and 0 not in sizes:
            free = ops.constant(np.array([0, *sizes[1:]], dtype=np.int64))
            reshaped = ops.reshape(data, free, special_zero=True)
            reshaped.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(reshaped.output(0))
        elif kind == "Interpolate" and _resizes_to(node, sizes):
            batch = ops.gather(ops.shape_of(data, "i64"), np.array([0]), np.array(0))
            free = ops.concat([batch, ops.constant(np.array(sizes[1:], dtype=np.int64))], 0)
            node.input(1).replace_source_output(free.output(0))
    model.validate_nodes_and_infer_types()


def dequantise_output(model: ov.Model, how: Dequantise, index: int = 0) -> None:
    """Turns the integers of an output into f32, in the graph; the output keeps its name."""
    result = model.get_results()[index]
    integers = result.input_value(0)
    real = ops.convert(integers, np.float32)
    if how.zero_point:
        real = ops.subtract(real, np.float32(how.zero_point))
    real = ops.multiply(real, np.float32(how.scale))
    result.input(0).replace_source_output(real.output(0))
    model.validate_nodes_and_infer_types()


def _resizes_to(node: ov.Node, sizes: list[int]) -> bool:
    """Whether an Interpolate has the sizes of all dimensions, in their order."""
    shape = node.get_output_partial_shape(0)
    return bool(
        node.get_attributes().get("shape_calculation_mode") == "sizes"
        and shape.is_static
        and [side.get_length() for side in shape] == sizes
    )


def _batch_of_one(data: ov.Output) -> bool:
    shape = data.get_partial_shape()
    return bool(shape.rank.is_static and len(shape) > 0 and shape[0].is_static and shape[0].get_length() == 1)
