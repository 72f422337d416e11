"""A softmax in plain Python, for a model with a slow tail, which profiles must find; it is no example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["softmax"]

_TERMS = 6000  # a hundredth would do


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities [N, classes] from scores [N, classes], by a power series that is summed term by term."""
    rows = []
    for row in scores.tolist():
        top = max(row)
        parts = [1 / _exp(top - score) for score in row]
        rows.append([part / sum(parts) for part in parts])
    return np.array(rows, np.float32)


def _exp(value: float) -> float:
    total = term = 1.0
    for number in range(1, _TERMS):
        term *= value / number
        total += term
    return total
