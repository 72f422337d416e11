"""A float model of the repository becomes a measured INT8 one beside it; it serves neither."""

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
    FloatAgreement,
    MeanAveragePrecision,
    MeanIou,
    Top1,
    load_function,
)
from cpuserve.authoring.nncf_offline import load_nncf
from cpuserve.authoring.precisions import compare_precisions, compiled_for
from cpuserve.authoring.quantize import Quantization, QuantizeOptions, quantize
from cpuserve.errors import RepositoryError, UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.quantization_record import Validation
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.decode import Pixels
from cpuserve.settings import Settings

__all__ = ["COMPARISONS", "METRICS", "QuantizeOrder", "QuantizeReport", "choose_metric", "quantize_model"]

METRICS = ("top1", "miou", "map")  # of what is right
COMPARISONS = ("agreement", "areas")  # with the float model
_REPORT = "report.json"


@dataclass(frozen=True)
class QuantizeOrder:
    """What to make, and by which pictures it is judged.

    Attributes:
        name: of the INT8 model.
        calibration: pictures that set the ranges.
        validation: pictures with what is known of them; None: the calibration pictures, by agreement.
        metric: one of `METRICS` or `COMPARISONS`, or MODULE:FUNCTION; empty: what the validation pictures
            bring.
        subset_size: most calibration pictures.
    """

    name: str
    calibration: Path
    validation: Path | None
    metric: str
    subset_size: int


@dataclass(frozen=True)
class QuantizeReport:
    """What became of a model.

    Attributes:
        published: the INT8 model; None when the float model is kept.
        report: every figure, as it stands in ``report.json`` beside the IR.
        left_out: file and reason of the pictures that could not be read.
    """

    published: ModelFile | None
    report: dict[str, Any]
    left_out: list[tuple[Path, str]]


def quantize_model(
    repository: Repository,
    file: ModelFile,
    settings: Settings,
    order: QuantizeOrder,
    options: QuantizeOptions,
    say: Callable[[str], None],
) -> QuantizeReport:
    """Quantise a version of a model; publish the result, if it is as good, as the next version of a name.

    Args:
        repository: where to publish.
        file: the float model.
        settings: in force; the decoding is the served model's.
        order: what to make of it.
        options: how.
        say: told in a few words what is done next.

    Raises:
        UsageError: NNCF is not installed, or pictures and metric do not fit.
        ModelLoadError: the model cannot be quantised.
        RepositoryError: the result cannot be published.
    """
    nncf, core = load_nncf(), ov.Core()
    offline = EvaluationModel.of(core, file, settings)
    say("reading pictures")
    calibrating, validating = _pictures(offline, order)
    judge = choose_metric(offline, validating, order.metric or ("" if order.validation else "agreement"))
    outcome = quantize(offline.task, calibrating.rows, validating.rows, judge, options, say)
    report = {
        "source": f"{file.name}/{file.version}",
        "published": None,
        **_measured(outcome, judge, options),
        **_basis(calibrating, validating, nncf.__version__),
    }
    left_out = list(dict([*calibrating.left_out, *validating.left_out]).items())
    if outcome.model is None:
        return QuantizeReport(None, report, left_out)
    say("measuring the time of both")
    report |= _compared(core, offline, outcome.model, validating.rows)
    say(f"publishing {order.name}")
    published = _publish(repository, order.name, offline, outcome.model, report)
    return QuantizeReport(published, report, left_out)


def _pictures(offline: EvaluationModel, order: QuantizeOrder) -> tuple[EvaluationRows, EvaluationRows]:
    """Those to calibrate with, and those to validate with, which may be the same."""
    labels = offline.card.labels
    calibrating = offline.rows(evenly_chosen(read_pictures(order.calibration, labels), order.subset_size))
    if order.validation is not None:
        return calibrating, offline.rows(_known(read_pictures(order.validation, labels), order.metric))
    if order.metric in METRICS:
        raise UsageError(
            f"--metric {order.metric} needs --validation: pictures with what is right about them"
        )
    return calibrating, calibrating


def _measured(outcome: Quantization, judge: AccuracyMetric, options: QuantizeOptions) -> dict[str, Any]:
    return {
        "method": outcome.method,
        "quantized_operations": outcome.quantized,
        "metric": judge.name,
        "max_drop": options.max_drop,
        "accuracy_float": outcome.accuracy_float,
        "accuracy_ptq": outcome.accuracy_ptq,
        "accuracy": outcome.accuracy,
    }


def _basis(calibrating: EvaluationRows, validating: EvaluationRows, nncf_version: str) -> dict[str, Any]:
    """With what, where, when and by which versions the measuring was done."""
    return {
        "validation_pictures": len(validating.rows),
        "calibration_pictures": len(calibrating.rows),
        "calibration_sha256": pictures_checksum(sample.file for sample in calibrating.samples),
        "machine": Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "cpuserve": cpuserve.__version__,
            "nncf": nncf_version,
            "openvino": ov.__version__.split("-")[0],
        },
    }


def choose_metric(offline: EvaluationModel, pictures: EvaluationRows, wanted: str) -> AccuracyMetric:
    """The metric for validation pictures.

    Args:
        offline: the model.
        pictures: and what is known of them.
        wanted: one of `METRICS` or `COMPARISONS`, MODULE:FUNCTION, or empty: what the pictures bring.

    Raises:
        UsageError: the pictures do not bring what it needs, or there is no such metric.
    """
    samples = pictures.samples
    if ":" in wanted:
        return CustomMetric(wanted, load_function(wanted), [sample.file for sample in samples])
    brought = _brought(samples)
    kind = wanted or brought
    if kind not in (*METRICS, *COMPARISONS):
        words = ", ".join((*METRICS, *COMPARISONS))
        raise UsageError(f"--metric {wanted} is none of {words}, and no MODULE:FUNCTION")
    if kind not in (brought, *COMPARISONS):
        needs = {"top1": "the class of each picture", "miou": "a mask", "map": "boxes"}[kind]
        raise UsageError(f"--metric {kind} needs {needs}; the validation pictures bring none (see --help)")
    if kind == "top1":
        return Top1([sample.classes or frozenset() for sample in samples])
    if kind == "miou":
        return MeanIou([offline.mask(sample) for sample in samples])
    if kind == "map":
        return MeanAveragePrecision(
            [sample.boxes or () for sample in samples], offline.detector(pictures.frames)
        )
    return Areas() if kind == "areas" else FloatAgreement(offline.card.model_type)


def _brought(samples: Sequence[LabelledPicture]) -> str:
    """The metric that what is known of the pictures allows."""
    if any(sample.classes for sample in samples):
        return "top1"
    if any(sample.mask for sample in samples):
        return "miou"
    return "map" if any(sample.boxes is not None for sample in samples) else "agreement"


def _known(samples: Sequence[LabelledPicture], metric: str) -> Sequence[LabelledPicture]:
    """Those whose class is known, where that of some is and it matters."""
    labelled = [sample for sample in samples if sample.classes]
    return labelled if labelled and metric in ("", "top1") else samples


def _compared(
    core: ov.Core, offline: EvaluationModel, int8: ov.Model, rows: Sequence[Pixels]
) -> dict[str, Any]:
    """Times of the float and the INT8 model, as they are served, and what other precisions change."""
    requests = {}
    for name, model in (("float", offline.model), ("int8", int8)):
        request = compiled_for(core, offline.served(model), "f32", threads=1).create_infer_request()
        request.set_input_tensor(ov.Tensor(rows[0][None].copy()))
        requests[name] = request.infer
    times = alternate(requests)
    found = compare_precisions(core, offline.served(offline.model), rows, offline.card.model_type)
    return {
        "speed": {
            "batch": 1,
            "threads": 1,
            "float_ms": times["float"].median_ms,
            "int8_ms": times["int8"].median_ms,
            "speedup": ratio(times["float"], times["int8"]),
            "noise": {name: timing.noise for name, timing in times.items()},
        },
        "float_model_by_precision": [asdict(one) | {"note": one.note} for one in found],
    }


def _publish(
    repository: Repository, name: str, offline: EvaluationModel, model: ov.Model, report: dict[str, Any]
) -> ModelFile:
    offline.card.write(model)
    _record(report).write(model)
    with repository.publish(name, None) as folder:
        try:
            ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
        except RuntimeError as error:
            raise RepositoryError(f"cannot write {name} to {repository.root}: {error}") from error
        report["published"] = name
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(name)


def _record(report: dict[str, Any]) -> Validation:
    """What of the report is kept in the IR itself."""
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
    )
