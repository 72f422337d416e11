"""What tests of post-processing need: ports, and a row of outputs."""

from __future__ import annotations

import numpy as np

from cpuserve.serving.engine import Port


def ports(*outputs, names=None):
    """Ports of outputs [1, ...]."""
    names = names or [f"output{place}" for place in range(len(outputs))]
    return [
        Port((name,), output.dtype, output.shape[1:]) for name, output in zip(names, outputs, strict=True)
    ]


def row(*outputs):
    """The first row of outputs [1, ...], in memory of its own."""
    return [np.array(output[0]) for output in outputs]


def logit(probability):
    """What a sigmoid makes ``probability`` of."""
    return float(np.log(probability / (1 - probability)))
