"""A float model into an INT8 one by NNCF, guarded by a metric; it reads no picture and publishes nothing.

Post-training quantisation as NNCF does it (MinMax ranges and fast bias correction on calibration pictures).
If the metric falls by more than is allowed, NNCF's accuracy control puts the operations that cost most back
to floats.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import openvino as ov
from openvino._offline_transformations import apply_moc_transformations

from cpuserve.errors import ModelLoadError
from cpuserve.models.metrics import Agreement, Metric
from cpuserve.models.nncf_offline import load_nncf
from cpuserve.models.parity import Array
from cpuserve.models.precisions import compiled_for, run
from cpuserve.models.validated import NNCF_MARK

__all__ = ["PRESETS", "Options", "Outcome", "Task", "quantize"]

PRESETS = ("performance", "mixed")
_WEIGHTY = frozenset(("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul"))
_MOVING = frozenset(
    (
        "BatchToSpace",
        "Concat",
        "MaxPool",
        "Pad",
        "Reshape",
        "SpaceToBatch",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
_SMALL = 10_000
"""Numbers a picture: models of so few outputs are ranked by their distance, larger ones by the metric."""


@dataclass(frozen=True)
class Task:
    """A model and how its pictures get into it.

    Attributes:
        model: as its IR has it.
        served: the graph that is compiled for pictures, given the model's: it takes rows u8 [1, H, W, C].
        prepare: what that graph makes of a row u8 [H, W, C] before the model's own first operation: the
            model's input, batch of one.
    """

    model: ov.Model
    served: Callable[[ov.Model], ov.Model]
    prepare: Callable[[Array], Array]


@dataclass(frozen=True)
class Options:
    """How to quantise.

    Attributes:
        max_drop: by how much the metric may fall, absolute.
        preset: "performance" (symmetric ranges) or "mixed" (asymmetric activations).
        accuracy_control: whether to put operations back to floats when it fell by more.
        progress: where NNCF draws its bars; None: nowhere.
    """

    max_drop: float = 0.01
    preset: str = "performance"
    accuracy_control: bool = True
    progress: TextIO | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        model: the INT8 model; None when the guard keeps the float one.
        method: "ptq" or "accuracy_control": what made ``accuracy``.
        accuracy_float: the metric of the float model.
        accuracy_ptq: of the wholly quantised model.
        accuracy: of the model that is kept, or of the best that was refused.
        quantized: operations whose inputs are quantised in it.
    """

    model: ov.Model | None
    method: str
    accuracy_float: float
    accuracy_ptq: float
    accuracy: float
    quantized: int


def quantize(
    task: Task,
    calibration: Sequence[Array],
    validation: Sequence[Array],
    metric: Metric,
    options: Options,
    say: Callable[[str], None],
) -> Outcome:
    """Quantise a model and keep the result only if it is as good.

    The metric is taken of the graph that is served, in f32. Weights use half of their range (NNCF's
    ``overflow_fix``), because CPUs without VNNI add two products in 16 bits, which saturate: the accuracy on
    record then holds on every machine.

    Args:
        task: the model.
        calibration: rows u8 [H, W, C] that set the ranges.
        validation: rows to take the metric of.
        metric: knows the truth about the validation rows; an `Agreement` learns it from the float model here.
        options: how.
        say: told in a few words what is done next.

    Raises:
        UsageError: NNCF is not installed, or the metric refuses an output.
        ModelLoadError: the model is quantised already, or NNCF cannot quantise it.
    """
    nncf = load_nncf()
    if task.model.has_rt_info(NNCF_MARK) or _quantized_operations(task.model):
        raise ModelLoadError("the model is quantised already; quantise the float model it was made of")
    core = ov.Core()
    say("measuring the float model")
    if isinstance(metric, Agreement):
        for outputs in run(compiled_for(core, task.served(task.model), "f32"), validation):
            metric.learn(outputs)

    def accuracy_of(model: ov.Model) -> float:
        outputs = run(compiled_for(core, task.served(model), "f32"), validation)
        return metric.value([metric.keep(found, index) for index, found in enumerate(outputs)])

    accuracy_float = accuracy_of(task.model)
    fused = task.model.clone()
    # merges batch norms into convolutions: NNCF corrects the bias of a convolution only where it is one
    apply_moc_transformations(fused, cf=False, smart_reshape=True)
    say(f"quantising with {len(calibration)} pictures")
    common = {
        "preset": nncf.QuantizationPreset(options.preset),
        "subset_size": len(calibration),
    }
    strength = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    pictures = nncf.Dataset(calibration, task.prepare)
    with _bars(options.progress):
        made = _trying(nncf, lambda: nncf.quantize(fused, pictures, advanced_parameters=strength, **common))
    say("measuring the INT8 model")
    accuracy_ptq, count = accuracy_of(made), _quantized_operations(made)
    if not count:
        raise ModelLoadError("NNCF found no convolution or matrix product to quantise in the model")
    if accuracy_float - accuracy_ptq <= options.max_drop:
        return Outcome(made, "ptq", accuracy_float, accuracy_ptq, accuracy_ptq, count)
    if not options.accuracy_control:
        return Outcome(None, "ptq", accuracy_float, accuracy_ptq, accuracy_ptq, count)
    say(f"{metric.name} fell from {accuracy_float:.4f} to {accuracy_ptq:.4f}: trying accuracy control")

    def validate(model: ov.CompiledModel, items: Iterable[int]) -> tuple[float, Any]:
        kept, numbers, index = [], [], 0
        for index in items:
            outputs = [np.array(output)[0] for output in model(task.prepare(validation[index])).values()]
            kept.append(metric.keep(outputs, index))
            numbers.append(outputs)
        if sum(output.size for output in numbers[0]) <= _SMALL:
            return metric.value(kept), numbers
        return metric.value(kept), [metric.value([one]) for one in kept]

    truth = nncf.Dataset(range(len(validation)), lambda index: task.prepare(validation[index]))
    with _bars(options.progress):
        made = _trying(
            nncf,
            lambda: nncf.quantize_with_accuracy_control(
                fused,
                pictures,
                truth,
                validate,
                max_drop=options.max_drop,
                advanced_quantization_parameters=strength,
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    ranking_subset_size=len(validation), num_ranking_workers=1
                ),
                **common,
            ),
        )
    accuracy, left = accuracy_of(made), _quantized_operations(made)
    kept = made if left and accuracy_float - accuracy <= options.max_drop else None
    return Outcome(kept, "accuracy_control", accuracy_float, accuracy_ptq, accuracy, left)


def _quantized_operations(model: ov.Model) -> int:
    """Convolutions and products that take a quantised input."""
    return sum(
        node.get_type_name() in _WEIGHTY and _source(node).get_type_name() == "FakeQuantize"
        for node in model.get_ops()
    )


def _source(node: ov.Node) -> ov.Node:
    """What computes the values that come in first, past what only moves them about."""
    found = node.input_value(0).get_node()
    while found.get_type_name() in _MOVING:
        found = found.input_value(0).get_node()
    return found


def _trying(nncf: ModuleType, call: Callable[[], ov.Model]) -> ov.Model:
    try:
        return call()
    except (RuntimeError, nncf.InternalError, nncf.UnsupportedModelError, nncf.ValidationError) as error:
        raise ModelLoadError(f"NNCF cannot quantise the model: {error}") from error


def _bars(progress: TextIO | None) -> AbstractContextManager[TextIO]:
    """NNCF draws on stdout, which is for results."""
    return redirect_stdout(progress or io.StringIO())
