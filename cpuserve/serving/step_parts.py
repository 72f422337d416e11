"""Turns the Python before and after a whole model into the head and tail of a core that is the whole."""

from __future__ import annotations

from dataclasses import replace

import openvino as ov

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.models.cut_manifest import CutManifest, CutPort
from cpuserve.models.python_steps import PythonSteps
from cpuserve.serving.graph import image_input

__all__ = ["step_parts"]


def step_parts(steps: PythonSteps, model: ov.Model, card: Card, name: str) -> tuple[CutManifest, Card]:
    """The head and tail that run the steps, and the card for what clients send.

    A step before the model gets the pixels as they are decoded, so the card's mean, scale and layout, which
    say how the model itself is fed, do not hold for it.

    Args:
        steps: what runs.
        model: the graph.
        card: its metadata.
        name: the model's, for messages.

    Raises:
        ModelLoadError: an input or output of the model does not begin with the batch.
    """
    for port in (*model.inputs, *model.outputs):
        shape = port.get_partial_shape()
        if shape.rank.is_dynamic or not len(shape) or (shape[0].is_static and shape[0].get_length() != 1):
            raise ModelLoadError(
                f"{CutPort.of(port).names[0]!r} of {name} is {shape}: Python runs before and after models "
                "whose inputs and outputs all begin with the batch"
            )
    inputs, source = steps.inputs, image_input(model, card)
    if not inputs and steps.before is not None and source is not None:
        sides = (-1, source.height, source.width, source.channels)
        inputs = (CutPort(CutPort.of(model.input(0)).names, "u8", sides),)
    if steps.before is not None:
        card = replace(card, mean_values=(), scale_values=(), layout="NHWC", embedded_processing=False)
    inputs = inputs or tuple(map(CutPort.of, model.inputs))
    outputs = steps.outputs if steps.after is not None else tuple(map(CutPort.of, model.outputs))
    return CutManifest(steps.before, steps.after, inputs, outputs), card
