"""The interface of post-processing: outputs of one row in, an answer out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cpuserve.errors import MissingExtra, RequestError
from cpuserve.serving.engine import Array
from cpuserve.serving.picture_input import PictureSize

__all__ = ["Answer", "Postprocessor", "TensorsOnly", "check_topk", "label_of"]

Answer = dict[str, Any]  # JSON


class Postprocessor(Protocol):
    """Turns the outputs of one row into an answer."""

    def answer(self, outputs: Sequence[Array], topk: int | None, frame: PictureSize, /) -> Answer:
        """The answer for one picture.

        Args:
            outputs: one array an output, without the batch dimension; they may be overwritten.
            topk: at most so many entries; None for the model's own number.
            frame: the picture's size, upright.

        Raises:
            RequestError: ``topk`` cannot be.
        """


@dataclass(frozen=True)
class TensorsOnly:
    """Why a model has no post-processing and answers tensors only.

    Attributes:
        reason: why, and what would change it.
        lacks: the packages that it would have with, where they are the reason.
    """

    reason: str
    lacks: MissingExtra | None = None


def label_of(labels: Sequence[str], index: int) -> str:
    """The name of a class; its number where the model has no name for it."""
    return labels[index] if 0 <= index < len(labels) else str(index)


def check_topk(topk: int | None) -> None:
    """Refuses a number of entries below one.

    Raises:
        RequestError: it is.
    """
    if topk is not None and topk < 1:
        raise RequestError(f"topk is {topk}; it must be at least 1")
