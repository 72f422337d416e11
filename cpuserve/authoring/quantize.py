"""A float model into an INT8 one by NNCF, guarded by a metric; it reads no picture and publishes nothing.

Post-training quantisation as NNCF does it (MinMax ranges and fast bias correction on calibration pictures).
If the metric falls by more than is allowed, NNCF's accuracy control puts the operations that cost most back
to floats.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import openvino as ov
from openvino._offline_transformations import apply_moc_transformations

from cpuserve.authoring.metrics import AccuracyMetric, FloatAgreement
from cpuserve.authoring.nncf_offline import load_nncf
from cpuserve.authoring.parity import Array
from cpuserve.authoring.precisions import compiled_for, run
from cpuserve.errors import ModelLoadError
from cpuserve.models.quantization_record import NNCF_MARK

__all__ = ["PRESETS", "Quantization", "QuantizeOptions", "QuantizeTask", "quantize"]

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
class QuantizeTask:
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
class QuantizeOptions:
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
class Quantization:
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
    task: QuantizeTask,
    calibration: Sequence[Array],
    validation: Sequence[Array],
    metric: AccuracyMetric,
    options: QuantizeOptions,
    say: Callable[[str], None],
) -> Quantization:
    """Quantise a model and keep the result only if it is as good.

    The metric is taken of the graph that is served, in f32. Weights use half of their range (NNCF's
    ``overflow_fix``), because CPUs without VNNI add two products in 16 bits, which saturate: the accuracy on
    record then holds on every machine.

    Args:
        task: the model.
        calibration: rows u8 [H, W, C] that set the ranges.
        validation: rows to take the metric of.
        metric: knows the truth about the validation rows; a `FloatAgreement` learns it here.
        options: how.
        say: told in a few words what is done next.

    Raises:
        UsageError: NNCF is not installed, or the metric refuses an output.
        ModelLoadError: the model is quantised already, or NNCF cannot quantise it.
    """
    nncf = load_nncf()
    if task.model.has_rt_info(NNCF_MARK) or _quantized_operations(task.model):
        raise ModelLoadError("the model is quantised already; quantise the float model it was made of")
    say("measuring the float model")
    judge = _Judge(task, validation, metric)
    accuracy_float = judge.accuracy(task.model)
    say(f"quantising with {len(calibration)} pictures")
    quantizer = _Quantizer(nncf, task, calibration, options)
    made = quantizer.whole()
    say("measuring the INT8 model")
    accuracy_ptq, count = judge.accuracy(made), _quantized_operations(made)
    if not count:
        raise ModelLoadError("NNCF found no convolution or matrix product to quantise in the model")
    good = accuracy_float - accuracy_ptq <= options.max_drop
    if good or not options.accuracy_control:
        return Quantization(made if good else None, "ptq", accuracy_float, accuracy_ptq, accuracy_ptq, count)
    say(f"{metric.name} fell from {accuracy_float:.4f} to {accuracy_ptq:.4f}: trying accuracy control")
    made = quantizer.controlled(judge)
    accuracy, left = judge.accuracy(made), _quantized_operations(made)
    good = left > 0 and accuracy_float - accuracy <= options.max_drop
    return Quantization(
        made if good else None, "accuracy_control", accuracy_float, accuracy_ptq, accuracy, left
    )


class _Judge:
    """What the metric says of a model's answers to the validation pictures."""

    def __init__(self, task: QuantizeTask, validation: Sequence[Array], metric: AccuracyMetric) -> None:
        self.pictures = len(validation)
        self._task, self._validation, self._metric = task, validation, metric
        self._core = ov.Core()
        if isinstance(metric, FloatAgreement):
            for outputs in self._answers(task.model):
                metric.learn(outputs)

    def _answers(self, model: ov.Model) -> Iterable[list[Array]]:
        return run(compiled_for(self._core, self._task.served(model), "f32"), self._validation)

    def accuracy(self, model: ov.Model) -> float:
        kept = [self._metric.keep(outputs, index) for index, outputs in enumerate(self._answers(model))]
        return self._metric.value(kept)

    def prepared(self, index: int) -> Array:
        """The model's input for a validation picture."""
        return self._task.prepare(self._validation[index])

    def validate(self, model: ov.CompiledModel, items: Iterable[int]) -> tuple[float, Any]:
        """The metric of some pictures, and what NNCF ranks operations by: outputs, or a metric a picture."""
        kept, numbers = [], []
        for index in items:
            outputs = [np.array(output)[0] for output in model(self.prepared(index)).values()]
            kept.append(self._metric.keep(outputs, index))
            numbers.append(outputs)
        if sum(output.size for output in numbers[0]) <= _SMALL:
            return self._metric.value(kept), numbers
        return self._metric.value(kept), [self._metric.value([one]) for one in kept]


class _Quantizer:
    """NNCF, and the model it works on."""

    def __init__(
        self, nncf: ModuleType, task: QuantizeTask, calibration: Sequence[Array], options: QuantizeOptions
    ) -> None:
        self._nncf, self._options = nncf, options
        self._fused = task.model.clone()
        # merges batch norms into convolutions: NNCF corrects the bias of a convolution only where it is one
        apply_moc_transformations(self._fused, cf=False, smart_reshape=True)
        self._pictures = nncf.Dataset(calibration, task.prepare)
        self._strength = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        self._common = {
            "preset": nncf.QuantizationPreset(options.preset),
            "subset_size": len(calibration),
        }

    def whole(self) -> ov.Model:
        """The model with all quantised that NNCF can quantise."""
        return self._made(
            self._nncf.quantize, self._fused, self._pictures, advanced_parameters=self._strength
        )

    def controlled(self, judge: _Judge) -> ov.Model:
        """The model with those operations in floats again that cost the metric most."""
        restorer = self._nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=judge.pictures, num_ranking_workers=1
        )
        return self._made(
            self._nncf.quantize_with_accuracy_control,
            self._fused,
            self._pictures,
            self._nncf.Dataset(range(judge.pictures), judge.prepared),
            judge.validate,
            max_drop=self._options.max_drop,
            advanced_quantization_parameters=self._strength,
            advanced_accuracy_restorer_parameters=restorer,
        )

    def _made(self, make: Callable[..., ov.Model], *given: Any, **terms: Any) -> ov.Model:
        nncf = self._nncf
        refusals = (RuntimeError, nncf.InternalError, nncf.UnsupportedModelError, nncf.ValidationError)
        with redirect_stdout(self._options.progress or io.StringIO()):  # stdout is for results
            try:
                return make(*given, **terms, **self._common)
            except refusals as error:
                raise ModelLoadError(f"NNCF cannot quantise the model: {error}") from error


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
