"""Judges what a model answers when its file is read, and refuses a model type that does not fit it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import openvino as ov

from cpuserve.errors import UsageError
from cpuserve.models.card import Card
from cpuserve.serving.engine import Array, port_of
from cpuserve.serving.graph import image_input, names_of, one_picture, with_batch
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.postprocess import (
    MODEL_TYPES,
    OutputEvidence,
    TensorsOnly,
    judge,
    known_type,
    near_types,
    output_evidence,
    postprocessor,
)
from cpuserve.serving.postprocess.evidence import ARGMAX, NORMALISED, SIGMOID, SOFTMAX
from cpuserve.serving.preprocess import Resizer
from cpuserve.serving.random_row import random_row

__all__ = ["asked_of_values", "judged_card", "measured_evidence"]

_SEED, _ROWS = 20, 4
_CLOSE = 5e-3  # how far sums of u8 probabilities are from 1, at most
_SUMMED = (-1, -3)  # where classes are: [N, C] and [N, H, W, C], or [N, C, H, W]


def judged_card(
    model: ov.Model,
    card: Card,
    *,
    batched: bool,
    said: Collection[str],
    measured: Callable[[ov.Model], tuple[OutputEvidence, ...]],
) -> tuple[Card, str]:
    """The card with what the model answers, and a sentence about it for the report.

    Args:
        model: the graph that will be served.
        card: its card so far.
        batched: whether its rows may be joined and cut.
        said: fields of the card that the user named. A ``model_type`` that the source brought is only noted,
            and ``scores`` that it brought are asked anew.
        measured: what graph and values show of each output.

    Returns:
        The card has ``model_type`` and ``evidence`` where they were judged.

    Raises:
        UsageError: a model type that the user named is not known, or does not fit the outputs.
        MissingExtra: a model type that the user named needs packages that are not installed.
    """
    kind = known_type(card.model_type)
    if card.model_type and not kind and "model_type" in said:
        near = near_types(card.model_type)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(MODEL_TYPES)}"
        raise UsageError(f"--model_type {card.model_type} is not known; {meant}")
    source = image_input(model, card)
    if source is None:
        return card, "tensors only: it takes no pictures"
    resizer = Resizer(source.width, source.height, card.resize_type, card.interpolation_mode, card.pad_value)
    alone = (with_batch(model, 1) if batched else one_picture(model)) or model  # as it is compiled
    outputs = [port_of(tuple(names_of(port)), port, batched=batched) for port in alone.outputs]
    evidence = measured(model)
    # the parts of a model that is cut do not show it themselves
    if "scores" not in said and evidence[0].function in (SOFTMAX, SIGMOID, ARGMAX):
        card = dataclasses.replace(card, scores=evidence[0].function, scores_axis=evidence[0].axis)
    if not card.model_type:
        found = judge(outputs, evidence, len(card.labels), source.width, source.height)
        card = dataclasses.replace(card, model_type=found.model_type, evidence=found.why)
    post = postprocessor(card, outputs, resizer, evidence, model)
    if not isinstance(post, TensorsOnly):
        return card, f"{card.model_type}: {card.evidence}" if card.evidence else card.model_type
    if "model_type" in said and card.model_type:
        if post.lacks:
            raise post.lacks
        raise UsageError(f"--model_type {card.model_type} does not fit the outputs: {post.reason}")
    return card, f"tensors only: {post.reason}"


def measured_evidence(model: ov.Model) -> tuple[OutputEvidence, ...]:
    """What the graph shows of each output, and the values of a few random rows where it shows nothing.

    Values between 0 and 1 that sum up to 1 in every row are probabilities; vectors that all have the length 1
    are embeddings.
    """
    known = output_evidence(model)
    asked = asked_of_values(known)
    if not asked:
        return known
    dice = np.random.default_rng(_SEED)
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows: list[list[Array]] = []
    for _ in range(_ROWS):
        found = compiled([random_row(port, dice) for port in model.inputs])
        rows.append([np.array(found[port], copy=True) for port in compiled.outputs])
    seen = {place: _seen([row[place] for row in rows], known[place]) for place in asked}
    return tuple(seen.get(place, one) for place, one in enumerate(known))


def asked_of_values(known: Sequence[OutputEvidence]) -> list[int]:
    """The outputs whose values may show more than the graph."""
    return [place for place, one in enumerate(known) if not one.function and one.exact]


def _seen(rows: Sequence[Array], known: OutputEvidence) -> OutputEvidence:
    """What the values of one output show."""
    if any(row.dtype.kind != "f" or row.size < 2 or row.shape != rows[0].shape for row in rows):
        return known
    values = np.stack(rows).astype(np.float64)
    if not np.isfinite(values).all():
        return known
    sides = values.shape[1:]
    if values.min() >= -_CLOSE and values.max() <= 1 + _CLOSE:
        for axis in _SUMMED:
            if -axis <= len(sides) and sides[axis] > 1 and np.abs(values.sum(axis=axis) - 1).max() < _CLOSE:
                return dataclasses.replace(known, function=SOFTMAX, axis=axis, measured=True)
    vectors = values.reshape(len(rows), -1)
    if max(sides) == vectors.shape[1] and np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < _CLOSE:
        return dataclasses.replace(known, function=NORMALISED, measured=True)
    return known
