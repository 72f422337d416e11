"""Quantises a float model to INT8 with NNCF and refuses the result when a metric falls too far.

NNCF sets ranges from calibration pictures (MinMax) and corrects biases (post-training quantisation). If the
metric falls by more than is allowed, NNCF's accuracy control returns the operations that cost most to floats.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import openvino as ov
from openvino._offline_transformations import apply_moc_transformations

from cpuserve.authoring.accuracy_guard import Measured, Verdict, judge, why_not_validated
from cpuserve.authoring.metrics import AccuracyMetric, LearningMetric
from cpuserve.authoring.parity import Array
from cpuserve.authoring.precisions import compiled_for, run
from cpuserve.errors import MissingExtra, ModelLoadError
from cpuserve.models.quantization_record import NNCF_MARK
from cpuserve.serving.openvino_core import lent_core, openvino_core

__all__ = ["Quantization", "QuantizeOptions", "QuantizeTask", "load_nncf", "quantize_graph"]

_TELEMETRY = "openvino_telemetry"
_NO_HOME = "/nonexistent"  # as Debian writes it for users without one
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
"""Operations are ranked by the distance of outputs up to so many numbers a picture, else by the metric."""


@dataclass(frozen=True)
class QuantizeTask:
    """A model and how pictures become its input.

    Attributes:
        model: the model of the IR.
        served: makes of a model the graph that is served, which takes rows u8 [1, H, W, C].
        prepare: makes of a row u8 [H, W, C] the model's input for a batch of one, as that graph does.
        labels: name by class, for messages.
    """

    model: ov.Model
    served: Callable[[ov.Model], ov.Model]
    prepare: Callable[[Array], Array]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantise.

    Attributes:
        max_drop: by how much the metric may fall, absolute.
        preset: NNCF's: "performance" (symmetric ranges) or "mixed" (asymmetric activations).
        accuracy_control: return operations to floats when the metric fell by more.
        progress: where NNCF draws its progress bars; None: nowhere.
        allow_unvalidated: quantise a model whose answers cannot be compared, too.
    """

    max_drop: float = 0.01
    preset: str = "performance"
    accuracy_control: bool = True
    progress: TextIO | None = None
    allow_unvalidated: bool = False


@dataclass(frozen=True)
class Quantization:
    """The result of quantising a model.

    Attributes:
        model: the INT8 model; None when it was refused.
        method: "ptq" or "accuracy_control": what made the model of ``accuracy``; "none": nothing was made.
        accuracy_float: metric of the float model; None where answers cannot be compared.
        accuracy_ptq: metric of the fully quantised model; None likewise.
        accuracy: metric of the INT8 model that is kept, or of the last that was refused; None likewise.
        quantized: number of its operations with quantised inputs.
        verdict: of the guard; None where answers cannot be compared.
        not_validated: why they cannot; else empty.
    """

    model: ov.Model | None
    method: str
    accuracy_float: float | None
    accuracy_ptq: float | None
    accuracy: float | None
    quantized: int
    verdict: Verdict | None
    not_validated: str = ""


def _homeless() -> bool:
    """Whether the user has neither HOME nor an entry that names a home, as in some containers."""
    try:
        Path.home()
    except RuntimeError:
        return True
    return False


def load_nncf() -> ModuleType:
    """Imports NNCF without its usage reports; it logs errors only.

    The package already blocks the reporter on import; this covers programs that imported it before.

    Raises:
        MissingExtra: NNCF is not installed.
    """
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    homeless = _homeless()
    try:
        if homeless:  # NNCF asks for it on import and keeps nothing there
            os.environ["HOME"] = _NO_HOME
        import nncf  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtra(f"this needs NNCF ({error})", "quantize") from error
    finally:
        sys.modules[_TELEMETRY] = before  # type: ignore[assignment]
        if homeless:
            del os.environ["HOME"]
    nncf.set_log_level(logging.ERROR)
    return nncf  # type: ignore[no-any-return]


def quantize_graph(
    task: QuantizeTask,
    calibration: Sequence[Array],
    validation: Sequence[Array],
    metric: AccuracyMetric,
    options: QuantizeOptions,
    say: Callable[[str], None],
) -> Quantization:
    """Quantises a model and keeps the result only if the metric stays within ``max_drop``.

    The metric is measured on the served graph in f32. Weights use half of their range (NNCF's
    ``overflow_fix``): CPUs without VNNI add two products in 16 bits, which saturate. The recorded accuracy
    then holds on every machine.

    Args:
        task: the model.
        calibration: rows u8 [H, W, C] that set the ranges.
        validation: rows to measure the metric on.
        metric: knows what is right for the validation rows; a `LearningMetric` learns it here.
        options: how.
        say: called with a few words before each step.

    Raises:
        UsageError: NNCF is not installed, or the metric refuses an output.
        ModelLoadError: the model is quantised already, or NNCF cannot quantise it.
    """
    nncf = load_nncf()
    if task.model.has_rt_info(NNCF_MARK) or _quantized_operations(task.model):
        raise ModelLoadError("the model is quantised already; quantise the float model it was made of")
    say("measuring the float model")
    evaluator = _Evaluator(task, validation, metric)
    before = evaluator.measured(task.model)
    reason = why_not_validated(metric, before.value, options.max_drop)
    if reason and not options.allow_unvalidated:
        return Quantization(None, "none", None, None, None, 0, None, reason)
    say(f"quantising with {len(calibration)} pictures")
    quantizer = _Quantizer(nncf, task, calibration, options)
    made = quantizer.full()
    count = _quantized_operations(made)
    if not count:
        raise ModelLoadError("NNCF found no convolution or matrix product to quantise in the model")
    if reason:
        return Quantization(made, "ptq", None, None, None, count, None, reason)
    say("measuring the INT8 model")
    ptq = after = evaluator.measured(made)
    verdict, method = judge(metric, before, after, options.max_drop, task.labels), "ptq"
    if not verdict.accepted and options.accuracy_control:
        say(f"{metric.name} fell from {before.value:.4f} to {ptq.value:.4f}: trying accuracy control")
        made, method = quantizer.controlled(evaluator), "accuracy_control"
        after, count = evaluator.measured(made), _quantized_operations(made)
        verdict = judge(metric, before, after, options.max_drop, task.labels)
    published = made if verdict.accepted and count else None
    return Quantization(published, method, before.value, ptq.value, after.value, count, verdict)


class _Evaluator:
    """Measures the metric of a model on the validation pictures."""

    def __init__(self, task: QuantizeTask, validation: Sequence[Array], metric: AccuracyMetric) -> None:
        self.pictures = len(validation)
        self._task, self._validation, self._metric = task, validation, metric
        self._core = openvino_core()
        if isinstance(metric, LearningMetric):
            for outputs in self._answers(task.model):
                metric.learn(outputs)

    def _answers(self, model: ov.Model) -> Iterable[list[Array]]:
        return run(compiled_for(self._core, self._task.served(model), "f32"), self._validation)

    def measured(self, model: ov.Model) -> Measured:
        """What the metric says of a model."""
        kept = [self._metric.keep(outputs, index) for index, outputs in enumerate(self._answers(model))]
        return Measured(kept, self._metric.value(kept))

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
    """Calls NNCF on one model."""

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

    def full(self) -> ov.Model:
        """The model with every operation quantised that NNCF can quantise."""
        return self._made(
            self._nncf.quantize, self._fused, self._pictures, advanced_parameters=self._strength
        )

    def controlled(self, evaluator: _Evaluator) -> ov.Model:
        """The model with the operations back in floats that cost the metric most."""
        restorer = self._nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=evaluator.pictures, num_ranking_workers=1
        )
        return self._made(
            self._nncf.quantize_with_accuracy_control,
            self._fused,
            self._pictures,
            self._nncf.Dataset(range(evaluator.pictures), evaluator.prepared),
            evaluator.validate,
            max_drop=self._options.max_drop,
            advanced_quantization_parameters=self._strength,
            advanced_accuracy_restorer_parameters=restorer,
        )

    def _made(self, make: Callable[..., ov.Model], *given: Any, **terms: Any) -> ov.Model:
        nncf = self._nncf
        refusals = (RuntimeError, nncf.InternalError, nncf.UnsupportedModelError, nncf.ValidationError)
        # stdout is for results
        with lent_core(), redirect_stdout(self._options.progress or io.StringIO()):
            try:
                return make(*given, **terms, **self._common)
            except refusals as error:
                raise ModelLoadError(f"NNCF cannot quantise the model: {error}") from error


def _quantized_operations(model: ov.Model) -> int:
    """Number of convolutions and matrix products with a quantised input."""
    return sum(
        node.get_type_name() in _WEIGHTY and _source(node).get_type_name() == "FakeQuantize"
        for node in model.get_ops()
    )


def _source(node: ov.Node) -> ov.Node:
    """The node that computes the first input, past nodes that only move values."""
    found = node.input_value(0).get_node()
    while found.get_type_name() in _MOVING:
        found = found.input_value(0).get_node()
    return found
