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
from cpuserve.errors import RepositoryError, UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.models.metrics import (
    Agreement,
    Areas,
    Custom,
    MeanAveragePrecision,
    MeanIou,
    Metric,
    Top1,
    load_function,
)
from cpuserve.models.nncf_offline import load_nncf
from cpuserve.models.precisions import compare_precisions, compiled_for
from cpuserve.models.quantize import Options, Outcome, quantize
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.models.samples import Sample, checksum, read_samples, spread
from cpuserve.models.timing import alternate, ratio
from cpuserve.models.validated import Validation
from cpuserve.serving.decode import Pixels
from cpuserve.serving.offline import Offline, Rows
from cpuserve.settings import Settings

__all__ = ["COMPARISONS", "METRICS", "Result", "choose_metric", "quantize_model"]

METRICS = ("top1", "miou", "map")  # of what is right
COMPARISONS = ("agreement", "areas")  # with the float model
_REPORT = "report.json"


@dataclass(frozen=True)
class Result:
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
    *,
    calibration: Path,
    validation: Path | None,
    metric: str,
    name: str,
    subset_size: int,
    options: Options,
    say: Callable[[str], None],
) -> Result:
    """Quantise a version of a model; publish the result, if it is as good, as the next version of ``name``.

    Args:
        repository: where to publish.
        file: the float model.
        settings: in force; the decoding is the served model's.
        calibration: pictures that set the ranges.
        validation: pictures with what is known of them; None: the calibration pictures, by agreement.
        metric: one of `METRICS` or `COMPARISONS`, or MODULE:FUNCTION; empty: what the validation pictures
            bring.
        name: of the INT8 model.
        subset_size: most calibration pictures.
        options: how.
        say: told in a few words what is done next.

    Raises:
        UsageError: NNCF is not installed, or pictures and metric do not fit.
        ModelLoadError: the model cannot be quantised.
        RepositoryError: the result cannot be published.
    """
    nncf, core = load_nncf(), ov.Core()
    offline = Offline.of(core, file, settings)
    say("reading pictures")
    labels = offline.card.labels
    calibrating = offline.rows(spread(read_samples(calibration, labels), subset_size))
    validating = calibrating
    if validation is not None:
        validating = offline.rows(_known(read_samples(validation, labels), metric))
    elif metric in METRICS:
        raise UsageError(f"--metric {metric} needs --validation: pictures with what is right about them")
    judge = choose_metric(offline, validating, metric or ("" if validation else "agreement"))
    outcome = quantize(offline.task, calibrating.rows, validating.rows, judge, options, say)
    machine = Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short
    report: dict[str, Any] = {
        "source": f"{file.name}/{file.version}",
        "published": None,
        "method": outcome.method,
        "quantized_operations": outcome.quantized,
        "metric": judge.name,
        "max_drop": options.max_drop,
        "accuracy_float": outcome.accuracy_float,
        "accuracy_ptq": outcome.accuracy_ptq,
        "accuracy": outcome.accuracy,
        "validation_pictures": len(validating.rows),
        "calibration_pictures": len(calibrating.rows),
        "calibration_sha256": checksum(sample.file for sample in calibrating.samples),
        "machine": machine,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "cpuserve": cpuserve.__version__,
            "nncf": nncf.__version__,
            "openvino": ov.__version__.split("-")[0],
        },
    }
    seen = dict([*calibrating.left_out, *validating.left_out])
    left_out = list(seen.items())
    if outcome.model is None:
        return Result(None, report, left_out)
    say("measuring the time of both")
    report |= _compared(core, offline, outcome.model, validating.rows)
    record = Validation(
        source=report["source"],
        method=outcome.method,
        metric=judge.name,
        accuracy=outcome.accuracy,
        accuracy_float=outcome.accuracy_float,
        pictures=len(validating.rows),
        calibration_pictures=len(calibrating.rows),
        calibration_sha256=report["calibration_sha256"],
        speedup=report["speed"]["speedup"],
        machine=machine,
    )
    say(f"publishing {name}")
    published = _publish(repository, name, offline, outcome, record, report)
    return Result(published, report, left_out)


def choose_metric(offline: Offline, pictures: Rows, wanted: str) -> Metric:
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
        return Custom(wanted, load_function(wanted), [sample.file for sample in samples])
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
    return Areas() if kind == "areas" else Agreement(offline.card.model_type)


def _brought(samples: Sequence[Sample]) -> str:
    """The metric that what is known of the pictures allows."""
    if any(sample.classes for sample in samples):
        return "top1"
    if any(sample.mask for sample in samples):
        return "miou"
    return "map" if any(sample.boxes is not None for sample in samples) else "agreement"


def _known(samples: Sequence[Sample], metric: str) -> Sequence[Sample]:
    """Those whose class is known, where that of some is and it matters."""
    labelled = [sample for sample in samples if sample.classes]
    return labelled if labelled and metric in ("", "top1") else samples


def _compared(core: ov.Core, offline: Offline, int8: ov.Model, rows: Sequence[Pixels]) -> dict[str, Any]:
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
    repository: Repository,
    name: str,
    offline: Offline,
    outcome: Outcome,
    record: Validation,
    report: dict[str, Any],
) -> ModelFile:
    model = outcome.model
    offline.card.write(model)
    record.write(model)
    with repository.publish(name, None) as folder:
        try:
            ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
        except RuntimeError as error:
            raise RepositoryError(f"cannot write {name} to {repository.root}: {error}") from error
        report["published"] = name
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(name)
