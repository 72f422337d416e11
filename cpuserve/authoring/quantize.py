"""Quantises a model of the repository: pictures, metric, INT8 model, comparison, publish."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openvino as ov

import cpuserve
from cpuserve.authoring.evaluation_rows import EvaluationModel, EvaluationRows
from cpuserve.authoring.interleaved_timing import alternate, ratio
from cpuserve.authoring.ir_file import save_ir
from cpuserve.authoring.labelled_pictures import (
    LabelledPicture,
    evenly_chosen,
    pictures_checksum,
    read_pictures,
)
from cpuserve.authoring.metrics import (
    AccuracyMetric,
    Areas,
    CustomMetric,
    MeanAveragePrecision,
    MeanIou,
    Top1,
    load_function,
)
from cpuserve.authoring.nncf_quantizer import Quantization, QuantizeOptions, load_nncf, quantize_graph
from cpuserve.authoring.precision_comparison import RECORDED, measure_bf16, record_of
from cpuserve.authoring.precisions import compare_precisions, compiled_for, run
from cpuserve.errors import UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.quantization_record import NOT_VALIDATED, VALIDATED, Validation
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.answer_agreement import AnswerAgreement, VectorReader
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings

__all__ = [
    "COMPARISONS",
    "METRICS",
    "QuantizeOrder",
    "QuantizeReport",
    "choose_metric",
    "quantize",
    "served_agreement",
]

METRICS = ("top1", "miou", "map")  # compare with labels
COMPARISONS = ("agreement", "areas", "cosine")  # compare with the float model
_REPORT = "report.json"
_LEAST_AGREEMENT = 0.5
_SERVED_OTHERWISE = (
    "{} stays, which does not see the thresholds of a server; the answers that a server gives agree with the "
    "float model's by {:.2f} only"
)
_READ_OTHERWISE = (
    "a server would read the outputs of the INT8 graph otherwise than the float model's: convert the float "
    "model with --model_type, so that its card says what it answers"
)


@dataclass(frozen=True)
class QuantizeOrder:
    """What to make, and which pictures to use.

    Attributes:
        name: name of the INT8 model.
        calibration: pictures that set the ranges.
        validation: pictures with their labels; None: the calibration pictures, by agreement.
        metric: one of `METRICS` or `COMPARISONS`, or MODULE:FUNCTION; empty: the one that the labels
            of the validation pictures allow.
        subset_size: largest number of calibration pictures.
    """

    name: str
    calibration: Path
    validation: Path | None
    metric: str
    subset_size: int


@dataclass(frozen=True)
class QuantizeReport:
    """The result of `quantize`.

    Attributes:
        published: the INT8 model; None when nothing is published.
        report: all figures, as in ``report.json`` beside the IR.
        left_out: file and reason of the pictures that could not be read.
    """

    published: ModelFile | None
    report: dict[str, Any]
    left_out: list[tuple[Path, str]]


def quantize(
    repository: Repository,
    file: ModelFile,
    settings: Settings,
    order: QuantizeOrder,
    options: QuantizeOptions,
    say: Callable[[str], None],
) -> QuantizeReport:
    """Quantises a version of a model and publishes the result, if it is as good, as the next version.

    Args:
        repository: where to publish.
        file: the float model.
        settings: settings in force; pictures are decoded as for serving.
        order: what to make.
        options: how.
        say: called with a few words before each step.

    Raises:
        UsageError: NNCF is not installed, or pictures and metric do not fit.
        ModelLoadError: the model cannot be quantised.
        RepositoryError: the result cannot be published.
    """
    nncf, core = load_nncf(), openvino_core()
    model = EvaluationModel.of(core, file, settings)
    say("reading pictures")
    calibration, validation = _pictures(model, order)
    metric = choose_metric(model, validation, order.metric or ("" if order.validation else "agreement"))
    made = quantize_graph(model.task, calibration.rows, validation.rows, metric, options, say)
    report = {
        "source": f"{file.name}/{file.version}",
        "published": None,
        **_accuracy(made, metric, options),
        **_decision(made),
        **_circumstances(calibration, validation, nncf.__version__),
    }
    left_out = list(dict([*calibration.left_out, *validation.left_out]).items())
    if made.model is None:
        return QuantizeReport(None, report, left_out)
    if not model.reads_alike(core, made.model, validation):
        return QuantizeReport(None, report | {"decision": "refused", "reason": _READ_OTHERWISE}, left_out)
    if metric.name in METRICS:
        agreement = served_agreement(core, model, made.model, validation)
        report["agreement_with_float"] = agreement
        if agreement is not None and not agreement >= _LEAST_AGREEMENT:
            reason = _SERVED_OTHERWISE.format(metric.name, agreement)
            return QuantizeReport(None, report | {"decision": "refused", "reason": reason}, left_out)
    say("measuring the time of both")
    report |= _compared(core, model, made.model, validation)
    record = record_of(report[RECORDED])
    if record is not None:
        record.write(made.model)
    say(f"publishing {order.name}")
    published = _publish(repository, order.name, model, made.model, report)
    return QuantizeReport(published, report, left_out)


def served_agreement(
    core: ov.Core, model: EvaluationModel, int8: ov.Model, pictures: EvaluationRows
) -> float | None:
    """How far the answers that a server gives agree with the float model's; None where that says nothing.

    Args:
        core: OpenVINO's core.
        model: the float model.
        int8: made of it.
        pictures: the pictures to answer.
    """
    metric = AnswerAgreement(model.answers(pictures.frames))
    for outputs in run(compiled_for(core, model.served(model.model), "f32"), pictures.rows):
        metric.learn(outputs)
    if metric.why_not():
        return None
    found = run(compiled_for(core, model.served(int8), "f32"), pictures.rows)
    return metric.value([metric.keep(outputs, index) for index, outputs in enumerate(found)])


def _pictures(model: EvaluationModel, order: QuantizeOrder) -> tuple[EvaluationRows, EvaluationRows]:
    """The pictures to calibrate on and those to validate on, which may be the same."""
    labels = model.card.labels
    calibration = model.rows(evenly_chosen(read_pictures(order.calibration, labels), order.subset_size))
    if order.validation is not None:
        return calibration, model.rows(_known(read_pictures(order.validation, labels), order.metric))
    if order.metric in METRICS:
        raise UsageError(
            f"--metric {order.metric} needs --validation: pictures with what is right about them"
        )
    return calibration, calibration


def _accuracy(made: Quantization, metric: AccuracyMetric, options: QuantizeOptions) -> dict[str, Any]:
    return {
        "method": made.method,
        "quantized_operations": made.quantized,
        "metric": metric.name,
        "max_drop": options.max_drop,
        "accuracy_float": made.accuracy_float,
        "accuracy_ptq": made.accuracy_ptq,
        "accuracy": made.accuracy,
    }


def _decision(made: Quantization) -> dict[str, Any]:
    """What the guard decided, why, and what that rests on."""
    verdict = made.verdict
    if verdict is None:
        return {"decision": NOT_VALIDATED, "reason": made.not_validated}
    reason = verdict.reason
    if not made.quantized:
        reason = "accuracy control had to put every operation back to floats to keep the answers"
    evidence = {key: value for key, value in asdict(verdict.evidence).items() if key != "pictures"}
    return {"decision": "refused" if made.model is None else VALIDATED, "reason": reason, **evidence}


def _circumstances(
    calibration: EvaluationRows, validation: EvaluationRows, nncf_version: str
) -> dict[str, Any]:
    """The pictures, machine, date and versions of a measurement."""
    return {
        "validation_pictures": len(validation.rows),
        "calibration_pictures": len(calibration.rows),
        "calibration_sha256": pictures_checksum(sample.file for sample in calibration.pictures),
        "machine": Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "cpuserve": cpuserve.__version__,
            "nncf": nncf_version,
            "openvino": ov.__version__.split("-")[0],
        },
    }


def choose_metric(model: EvaluationModel, pictures: EvaluationRows, wanted: str) -> AccuracyMetric:
    """The metric for validation pictures.

    Args:
        model: the model.
        pictures: the pictures and their labels.
        wanted: one of `METRICS` or `COMPARISONS`, MODULE:FUNCTION, or empty: what the labels allow.

    Raises:
        UsageError: the labels it needs are missing, or there is no such metric.
    """
    labelled = pictures.pictures
    if ":" in wanted:
        return CustomMetric(wanted, load_function(wanted), [picture.file for picture in labelled])
    brought = _brought(labelled)
    kind = wanted or brought
    if kind not in (*METRICS, *COMPARISONS):
        words = ", ".join((*METRICS, *COMPARISONS))
        raise UsageError(f"--metric {wanted} is none of {words}, and no MODULE:FUNCTION")
    if kind not in (brought, *COMPARISONS):
        needs = {"top1": "the class of each picture", "miou": "a mask", "map": "boxes"}[kind]
        raise UsageError(f"--metric {kind} needs {needs}; the validation pictures bring none (see --help)")
    if kind == "agreement":
        return AnswerAgreement(model.answers(pictures.frames))
    if kind == "cosine":
        if len(model.model.outputs) != 1:
            raise UsageError("--metric cosine compares embeddings: it needs a model with one output")
        return AnswerAgreement(VectorReader(), "cosine")
    if kind == "areas":
        return Areas()
    if kind == "top1":
        return Top1([picture.classes or frozenset() for picture in labelled])
    if kind == "miou":
        return MeanIou([model.mask(picture) for picture in labelled])
    return MeanAveragePrecision(
        [picture.boxes or () for picture in labelled], model.detector(pictures.frames)
    )


def _brought(samples: Sequence[LabelledPicture]) -> str:
    """The metric that the labels of the pictures allow."""
    if any(sample.classes for sample in samples):
        return "top1"
    if any(sample.mask for sample in samples):
        return "miou"
    return "map" if any(sample.boxes is not None for sample in samples) else "agreement"


def _known(samples: Sequence[LabelledPicture], metric: str) -> Sequence[LabelledPicture]:
    """The pictures whose class is known, where a class is needed and some have one."""
    labelled = [sample for sample in samples if sample.classes]
    return labelled if labelled and metric in ("", "top1") else samples


def _compared(
    core: ov.Core, model: EvaluationModel, int8: ov.Model, pictures: EvaluationRows
) -> dict[str, Any]:
    """Times of the float and the INT8 model as served, and what other precisions change."""
    requests = {}
    for name, graph in (("float", model.model), ("int8", int8)):
        request = compiled_for(core, model.served(graph), "f32", threads=1).create_infer_request()
        request.set_input_tensor(ov.Tensor(pictures.rows[0][None].copy()))
        requests[name] = request.infer
    times = alternate(requests)
    graph = model.served(model.model)
    found = compare_precisions(core, graph, pictures.rows, model.answers(pictures.frames))
    return {
        "speed": {
            "batch": 1,
            "threads": 1,
            "float_ms": times["float"].median_ms,
            "int8_ms": times["int8"].median_ms,
            "speedup": ratio(times["float"], times["int8"]),
            "noise": {name: timing.noise for name, timing in times.items()},
        },
        RECORDED: measure_bf16(core, model, int8, pictures).report,
        "float_model_by_precision": [one.report for one in found],
    }


def _publish(
    repository: Repository, name: str, model: EvaluationModel, int8: ov.Model, report: dict[str, Any]
) -> ModelFile:
    model.card.write(int8)
    _record(report).write(int8)
    with repository.publish(name, None) as folder:
        save_ir(int8, folder)
        report["published"] = name
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(name)


def _record(report: dict[str, Any]) -> Validation:
    """The part of the report that is kept inside the IR."""
    return Validation(
        source=report["source"],
        method=report["method"],
        metric=report["metric"],
        accuracy=report["accuracy"],
        accuracy_float=report["accuracy_float"],
        pictures=report["validation_pictures"],
        calibration_pictures=report["calibration_pictures"],
        calibration_sha256=report["calibration_sha256"],
        speedup=report["speed"]["speedup"],
        machine=report["machine"],
        decision=report["decision"],
        compared_with=report.get("compared_with", ""),
        answers=report.get("answers", 0),
        drop_low=report.get("low"),
        drop_high=report.get("high"),
    )
