"""Prepares the graph of a model file of any framework, for `convert` and for serving the file as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import openvino as ov

from cpuserve.models.card import Card
from cpuserve.models.exporter_metadata import ExporterMetadata
from cpuserve.models.quantisation import Dequantise
from cpuserve.serving.geometry import Batch, batch_axes, batch_of
from cpuserve.serving.judgement import judged_card
from cpuserve.serving.port_types import with_served_types
from cpuserve.serving.postprocess import OutputEvidence
from cpuserve.serving.servable_graph import input_type, make_servable

__all__ = ["PreparedModel", "prepare_model"]


@dataclass(frozen=True)
class PreparedModel:
    """A graph that can be served.

    Attributes:
        model: the graph, with the card inside.
        card: the card.
        answers: what the model answers, and by which evidence.
        dequantised: for each output, how its integers became real numbers; None: it was left alone.
        batch: whether its rows may be joined and cut.
        reasons: what the card has without the user saying it, and why.
    """

    model: ov.Model
    card: Card
    answers: str
    dequantised: tuple[Dequantise | None, ...]
    batch: Batch
    reasons: tuple[str, ...]


def prepare_model(
    model: ov.Model,
    name: str,
    metadata: ExporterMetadata,
    said: Mapping[str, Any],
    measured: Callable[[ov.Model], tuple[OutputEvidence, ...]],
) -> PreparedModel:
    """Gives a graph element types, a batch, real outputs and a card with which it can be served.

    Args:
        model: as OpenVINO read it; it may be changed.
        name: of the model, for messages.
        metadata: what its exporter wrote.
        said: fields of the card that the user says; they win over all others.
        measured: tells what graph and values show of each output.

    Raises:
        ModelLoadError: its types cannot be served, or its card cannot be meant.
        UsageError: a model type that the user says is not known, or does not fit the outputs.
    """
    model = with_served_types(model, name)
    made = make_servable(model, metadata, {"input_dtype": input_type(model), **said})
    batch = batch_of(model, dataclasses.replace(made.card, rows=""))  # asked anew, whatever the source says
    card, answers = judged_card(
        model,
        dataclasses.replace(made.card, rows=batch.rows, batch_axes=batch_axes(model)),
        batched=batch.free,
        said=said.keys(),
        measured=measured,
    )
    card.write(model)
    return PreparedModel(model, card, answers, made.dequantised, batch, made.reasons)
