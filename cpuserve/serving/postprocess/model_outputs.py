"""The outputs of a model, and all that is known of them when their reader is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpuserve.models.card import Card
from cpuserve.serving.engine import Port
from cpuserve.serving.postprocess.evidence import OutputEvidence
from cpuserve.serving.preprocess import Resizer

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["Outputs"]

CONFIDENCE, IOU = 0.5, 0.5  # Model API's defaults


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model, and all that is known of them.

    Attributes:
        ports: the outputs.
        evidence: what is known of the numbers of each.
        card: the model's metadata.
        resizer: how pictures are brought to its input.
        model: whose further metadata Model API's wrappers may read; None when there is none.
    """

    ports: Sequence[Port]
    evidence: Sequence[OutputEvidence]
    card: Card
    resizer: Resizer
    model: ov.Model | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the input, pixels."""
        return self.resizer.width, self.resizer.height

    @property
    def confidence(self) -> float:
        """Lower scores are left out."""
        return CONFIDENCE if self.card.confidence_threshold is None else self.card.confidence_threshold

    @property
    def iou(self) -> float:
        """Of boxes that overlap more the best stays."""
        return IOU if self.card.iou_threshold is None else self.card.iou_threshold

    def least(self, default: float) -> float:
        """Lower scores are left out, by a default of the model type's own."""
        return default if self.card.confidence_threshold is None else self.card.confidence_threshold

    def shown(self) -> str:
        """The outputs' names and shapes, for messages."""
        return ", ".join(
            f"{port.names[0]} [{', '.join(map(str, ['N', *port.row_shape]))}]" for port in self.ports
        )
