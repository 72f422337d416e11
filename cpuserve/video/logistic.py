"""Logistic regression in numpy, with both classes weighted alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cpuserve.serving.engine import Array

__all__ = ["Logistic", "fit_logistic"]

_ROUNDS = 50
_SETTLED = 1e-6


@dataclass(frozen=True)
class Logistic:
    """A weighted sum of features that is turned into a probability.

    Attributes:
        mean: f64 [f], subtracted from the features.
        scale: f64 [f], what they are divided by then.
        weights: f64 [f].
        bias: added to the sum.
    """

    mean: Array
    scale: Array
    weights: Array
    bias: float

    def probability(self, features: Array) -> Array:
        """Probability of the second class, f64 [n], of [n, f]."""
        sums = (features - self.mean) / self.scale @ self.weights + self.bias
        found: Array = 1 / (1 + np.exp(-np.clip(sums, -500, 500)))
        return found

    def state(self) -> dict[str, Array]:
        """All of it as arrays."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "weights": self.weights,
            "bias": np.array(self.bias),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Array]) -> Logistic:
        """What `state` gave.

        Raises:
            KeyError: an array is missing.
        """
        return cls(state["mean"], state["scale"], state["weights"], float(state["bias"]))


def fit_logistic(features: Array, labels: Array, *, ridge: float = 1.0) -> Logistic:
    """Fits by Newton's method.

    Args:
        features: [n, f], n above 0.
        labels: bool [n], both values occur.
        ridge: how strongly large weights are held back, as if by so many frames.

    Raises:
        ValueError: one class has no frame.
    """
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        raise ValueError(f"{positives} of {len(labels)} frames are of the second class: both are needed")
    values = features.astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale < 1e-9] = 1.0
    design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
    share = np.where(labels, 0.5 / positives, 0.5 / (len(labels) - positives)) * len(labels)
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 1e-6  # the bias is free
    weights = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        found = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (share * (found - labels)) + penalty * weights
        curve = (design * (share * found * (1 - found))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        # a full step may overshoot where classes can be told apart by one feature
        weights -= step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < _SETTLED:
            break
    return Logistic(mean, scale, weights[:-1], float(weights[-1]))
