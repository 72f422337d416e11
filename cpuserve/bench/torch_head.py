"""The stem of `cpuserve.bench.stem` in PyTorch, as the function that is the head of a cut model."""

from __future__ import annotations

import torch

from cpuserve.bench.stem import weights
from cpuserve.serving.engine import Array

__all__ = ["head"]

_LAYERS = [(torch.from_numpy(kernel), stride) for kernel, stride in weights()]


def head(pixels: Array) -> Array:
    """Features f32 [N, 64, 56, 56] of pixels f32 [N, 224, 224, 3]."""
    with torch.inference_mode():
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        for kernel, stride in _LAYERS:
            tensor = torch.relu(torch.nn.functional.conv2d(tensor, kernel, stride=stride, padding=1))
        found: Array = tensor.contiguous().numpy()
    return found
