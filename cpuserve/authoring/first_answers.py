"""Answers a user's first pictures with a converted model, so that a wrong recipe is seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpuserve.authoring.labelled_pictures import evenly_chosen, read_pictures
from cpuserve.authoring.report_process import Facts
from cpuserve.errors import RequestError
from cpuserve.models.repository import ModelFile
from cpuserve.serving.engine import Array
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import TensorsOnly
from cpuserve.serving.request import Request
from cpuserve.settings import Settings

__all__ = ["first_answers"]

_PICTURES = 8


def first_answers(name: str, xml: Path, images: Path, max_pixels: int) -> Facts:
    """Runs some of the pictures as a server runs them, in f32.

    Args:
        name: of the model.
        xml: its IR.
        images: as `read_pictures` takes them; of many, some that are evenly chosen.
        max_pixels: of a picture.

    Yields:
        ``pictures``: for each the keys ``picture`` and either those of the answer of ``/predictions``, or
        ``tensors``, for a model that answers tensors only, or ``error``, why the picture was refused.
    """
    settings = Settings(precision="f32", decode="exact", max_pixels=max_pixels, max_batch=1)
    pipeline = load_pipeline(openvino_core(), ModelFile(name, 1, xml), settings, 1)
    chosen = evenly_chosen(read_pictures(images, ()), _PICTURES)
    yield "pictures", [{"picture": one.file.name} | _answer(pipeline, one.file) for one in chosen]


def _answer(pipeline: Pipeline, file: Path) -> dict[str, Any]:
    try:
        picture = file.read_bytes()
        if not isinstance(pipeline.post, TensorsOnly):
            return pipeline.predict(picture, Request(), None)
        outputs = pipeline.infer_pictures([picture], Request())
    except (OSError, RequestError) as error:
        return {"error": str(error)}
    return {"tensors": _described(pipeline, outputs)}


def _described(pipeline: Pipeline, outputs: Sequence[Array]) -> list[dict[str, Any]]:
    """Shape, smallest, largest and mean number of each output; None where it has no numbers."""
    ports = pipeline.batcher.engine.outputs if pipeline.cut is None else pipeline.outputs
    return [
        {"name": port.names[0], "shape": list(output.shape)}
        | {
            key: float(measure(output)) if output.size else None
            for key, measure in (("min", np.min), ("max", np.max), ("mean", np.mean))
        }
        for port, output in zip(ports, outputs, strict=True)
    ]
