"""Trains the network of `NumpyCnn` with PyTorch: the same layers, loss and steps, from the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cpuserve.serving.engine import Array
from cpuserve.video.numpy_cnn import NumpyCnn

__all__ = ["TorchLearner"]

_CONVOLUTIONS = 3


class TorchLearner:
    """Learns by the slopes that PyTorch finds. As many threads as the environment allows.

    Args:
        network: to begin with.
        rate: step size.
        decay: share of a weight that is taken away by a step of size 1; biases keep theirs.
    """

    def __init__(self, network: NumpyCnn, rate: float, decay: float) -> None:
        self._mean = network.mean
        self._shift = torch.from_numpy(network.mean.transpose(2, 0, 1).copy())
        self._weights: dict[str, Any] = {
            name: torch.from_numpy(_to_torch(name, value)).requires_grad_()
            for name, value in network.weights.items()
        }
        biases = [value for name, value in self._weights.items() if name.endswith(".bias")]
        others = [value for name, value in self._weights.items() if not name.endswith(".bias")]
        groups = [{"params": others, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=rate)

    def step(self, pixels: Array, labels: Array, share: Array, keep: Array) -> None:
        """Change the weights by a batch; the arguments are those of `NumpyCnn.gradients`."""
        logits = self._logits(
            torch.from_numpy(np.ascontiguousarray(pixels, np.float32)), torch.from_numpy(keep)
        )
        wanted, weight = torch.from_numpy(labels.astype(np.float32)), torch.from_numpy(share)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, weight)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def network(self) -> NumpyCnn:
        """The network with the weights of now."""
        weights = {name: _to_numpy(name, value.detach().numpy()) for name, value in self._weights.items()}
        return NumpyCnn(self._mean, weights)

    def _logits(self, pixels: Any, keep: Any) -> Any:
        weights = self._weights
        values = pixels.permute(0, 3, 1, 2) / 255 - self._shift
        for place in range(_CONVOLUTIONS):
            name = f"conv{place}"
            values = functional.conv2d(values, weights[name], weights[f"{name}.bias"], stride=2, padding=1)
            values = functional.relu(values)
        flat = values.permute(0, 2, 3, 1).flatten(1)
        hidden = functional.relu(flat @ weights["dense"] + weights["dense.bias"]) * keep
        return (hidden @ weights["out"] + weights["out.bias"]).flatten()


def _to_torch(name: str, value: Array) -> Array:
    """A weight of `NumpyCnn` in PyTorch's order: convolutions as [c_out, c_in, 3, 3]."""
    if name.startswith("conv") and not name.endswith(".bias"):
        value = value.reshape(3, 3, -1, value.shape[1]).transpose(3, 2, 0, 1)
    return np.array(value, np.float32, order="C")


def _to_numpy(name: str, value: Array) -> Array:
    """What `_to_torch` was given."""
    if name.startswith("conv") and not name.endswith(".bias"):
        value = value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return np.array(value, np.float32, order="C")
