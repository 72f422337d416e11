"""Makes the answer of a model's outputs, chosen by its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cpuserve.errors import MissingExtra, without_directories
from cpuserve.models.card import Card
from cpuserve.serving.engine import Port
from cpuserve.serving.postprocess.answers import Answer, Postprocessor, TensorsOnly
from cpuserve.serving.postprocess.classification import Classifier
from cpuserve.serving.postprocess.detection import Detector
from cpuserve.serving.postprocess.evidence import OutputEvidence, output_evidence
from cpuserve.serving.postprocess.judge import Judgement, judge
from cpuserve.serving.postprocess.keypoints import Keypoints
from cpuserve.serving.postprocess.model_types import MODEL_TYPES, Outputs, known_type, near_types
from cpuserve.serving.postprocess.segmentation import Segmenter
from cpuserve.serving.preprocess import Resizer

if TYPE_CHECKING:
    import openvino as ov

__all__ = [
    "MODEL_TYPES",
    "Answer",
    "Classifier",
    "Detector",
    "Judgement",
    "Keypoints",
    "OutputEvidence",
    "Postprocessor",
    "Segmenter",
    "TensorsOnly",
    "judge",
    "known_type",
    "near_types",
    "output_evidence",
    "postprocessor",
]

_SAY_IT = "`cpuserve convert --model_type ... --labels ...` says what it answers"


def postprocessor(
    card: Card,
    outputs: Sequence[Port],
    resizer: Resizer | None,
    evidence: Sequence[OutputEvidence] = (),
    model: ov.Model | None = None,
) -> Postprocessor | TensorsOnly:
    """The post-processing for a model.

    Args:
        card: its metadata. A ``model_type`` in any case; without one the outputs are judged.
        outputs: of the model.
        resizer: how pictures are brought to its input; None for a model that takes none.
        evidence: what is known of the numbers of each output; none: nothing is known.
        model: whose further metadata Model API's wrappers may read.
    """
    if resizer is None:
        return TensorsOnly(
            "it takes no pictures: no single input [N, H, W, 3] or [N, 3, H, W] of fixed height and width "
            "(the setting `shape` and `cpuserve convert --input` fix them)"
        )
    known = list(evidence) if len(evidence) == len(outputs) else [OutputEvidence()] * len(outputs)
    if card.scores:
        known[0] = _said(known[0], card)
    kind = known_type(card.model_type)
    if not card.model_type:
        # what `convert` could not judge, with values before it, is not judged here by less
        found = Judgement("", card.evidence)
        if not card.evidence:
            found = judge(outputs, known, len(card.labels), resizer.width, resizer.height)
        kind = found.model_type
        if not kind:
            return TensorsOnly(f"it has no model_type, and {found.why}; {_SAY_IT}")
    if not kind:
        near = near_types(card.model_type)
        meant = f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(MODEL_TYPES)}"
        return TensorsOnly(f"model_type {card.model_type!r} is not known; {meant}")
    try:
        return MODEL_TYPES[kind](kind, Outputs(outputs, known, card, resizer, model))
    except MissingExtra as error:
        return TensorsOnly(error.public_text, error)
    except ValueError as error:
        return TensorsOnly(without_directories(str(error)))


def _said(known: OutputEvidence, card: Card) -> OutputEvidence:
    """What is known of the first output, with what the card says its scores are."""
    if card.scores == known.function:
        return known
    return replace(known, function="" if card.scores == "logits" else card.scores, axis=card.scores_axis)
