"""The guard: what stays as good is quantised, what does not is put back to floats or refused."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from cpuserve.models.metrics import Agreement
from cpuserve.models.quantize import Options, Outcome, Task, quantize

ROWS = [np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8) for number in range(6)]


def network(loud: float) -> ov.Model:
    """Three convolutions; the middle one gets one channel that is ``loud`` times as large as the others.

    INT8 has one scale for all channels of an activation: the louder it is, the less is left of the rest.
    """
    random = np.random.default_rng(0)
    data = ops.parameter([1, 8, 8, 3], np.float32, name="data")
    found = ops.transpose(data, np.array([0, 3, 1, 2]))
    for index, (inputs, outputs) in enumerate(((3, 8), (8, 8), (8, 4))):
        weights = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) / 5
        if index == 0:
            weights[0] *= loud
        if index == 1:
            weights[:, 0] /= loud
        found = ops.convolution(found, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        found = ops.relu(ops.add(found, np.full((1, outputs, 1, 1), 0.1, np.float32)))
    return ov.Model([ops.result(ops.reduce_mean(found, np.array([2, 3])))], [data])


def task(model: ov.Model) -> Task:
    def served(made: ov.Model) -> ov.Model:
        steps = ov.preprocess.PrePostProcessor(made.clone())
        steps.input(0).tensor().set_element_type(ov.Type.u8)
        return steps.build()

    return Task(model, served, lambda row: row[None].astype(np.float32))


def guarded(loud: float, options: Options) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    outcome = quantize(task(network(loud)), ROWS, ROWS, Agreement("numbers"), options, said.append)
    return outcome, said
