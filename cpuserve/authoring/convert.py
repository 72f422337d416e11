"""Converts a model of any framework: source, graph, card, check against the original, publish."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import openvino as ov

from cpuserve.authoring.compiler_folding import folding
from cpuserve.authoring.complexity import complexity
from cpuserve.authoring.first_answers import first_answers
from cpuserve.authoring.graph_import import reason
from cpuserve.authoring.ir_file import save_ir
from cpuserve.authoring.measured_outputs import measured_in_child
from cpuserve.authoring.original_comparison import (
    OriginalComparison,
    check_pictures,
    compare_with_original,
)
from cpuserve.authoring.precision_comparison import RECORDED, PrecisionTask, record_bf16
from cpuserve.authoring.report_process import Facts, compute_in_child
from cpuserve.authoring.source import SourceModel
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import OWN, Card
from cpuserve.models.exporter_metadata import ExporterMetadata, exporter_metadata
from cpuserve.models.python_steps import PythonSteps
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.serving.graph import image_input, unique_names
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.servable_graph import class_count
from cpuserve.serving.source_model import PreparedModel, prepare_model
from cpuserve.settings import Settings

__all__ = ["ConvertOrder", "convert"]

_CONVERTED = "converted"  # below `rt_info/cpuserve`
_REPORT = "report.json"
_LIMIT = "--report-timeout"
_F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True)
class ConvertOrder:
    """What to publish.

    Attributes:
        name: the model's name.
        card: what the user says of the model; metadata of the source fill in what is left at its default.
        said: names of the card's fields that the user says, also those said at their default.
        steps: Python to run before and after it; None: none. The report is about the model without.
        version: its version; None: the next.
        compress_to_fp16: store the weights as f16.
        replace: replace the version if it exists.
        parity: compare with the original framework.
        images: pictures to compare on; None: seeded random tensors.
        report_timeout_s: seconds until a part of the report is given up.
    """

    name: str
    card: Card
    version: int | None = None
    compress_to_fp16: bool = False
    replace: bool = False
    parity: bool = True
    images: Path | None = None
    report_timeout_s: float = 300.0
    said: frozenset[str] = frozenset()
    steps: PythonSteps | None = None


def convert(
    source: SourceModel,
    order: ConvertOrder,
    repository: Repository,
    settings: Settings,
    say: Callable[[str], None],
) -> tuple[ModelFile, dict[str, Any]]:
    """Converts a model, compares the written IR with the original, and publishes IR and report.

    Args:
        source: the model.
        order: how.
        repository: where to publish.
        settings: settings in force; they limit the pictures.
        say: called with a few words before each step.

    Returns:
        The published version, and the report that lies in ``report.json`` beside the IR.

    Raises:
        UsageError: the card does not fit the model, or there are no pictures in ``images``.
        ModelLoadError: the source's metadata are wrong, or OpenVINO cannot compile the model.
        RepositoryError: it cannot be published; the repository is unchanged.
    """
    say(f"converting {source.name}")
    made = _prepared(source, order)
    if order.images is not None:
        check_pictures(made.model, made.card, order.images)
    with repository.publish(order.name, order.version, replace=order.replace) as folder:
        xml = save_ir(made.model, folder, compress_to_fp16=order.compress_to_fp16)
        precision = None
        if order.images is not None:
            say(f"comparing {RECORDED} with f32")
            task = PrecisionTask(xml, order.images, settings, order.compress_to_fp16)
            precision = record_bf16(made.model, task, limit_s=order.report_timeout_s, option=_LIMIT)
        report = _facts(source, made, xml) | {RECORDED: precision}
        say("reading what the compiler folded")
        _report_structure(xml, report, order.report_timeout_s)
        if order.images is not None:
            say("answering the first pictures")
            _first_answers(xml, report, order, order.images, settings)
        report["parity"] = None
        if order.parity:
            say("comparing with the original")
            report["parity"] = _parity(source, made, xml, order, settings)
        if order.steps is not None:
            order.steps.write(folder)
        (folder / _REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return repository.find(order.name, order.version), report


def _prepared(source: SourceModel, order: ConvertOrder) -> PreparedModel:
    """A copy of the source's graph that can be served, with the card inside."""
    model = source.model.clone()
    model.set_friendly_name(order.name)
    measured = partial(measured_in_child, limit_s=order.report_timeout_s, option=_LIMIT)
    made = prepare_model(model, source.name, _metadata(source), _said(source, order), measured)
    facts = {
        "file": source.name,
        "sha256": source.sha256,
        "framework": source.framework,
        "openvino": _openvino_version(),
    }
    for key, value in facts.items():
        made.model.set_rt_info(value, [OWN, _CONVERTED, key])
    return made


def _metadata(source: SourceModel) -> ExporterMetadata:
    """What the exporter wrote; of a PyTorch module no more than its framework is known."""
    if source.path is None or source.framework == "pytorch":
        return ExporterMetadata(source.framework)
    return exporter_metadata(source.path)


def _said(source: SourceModel, order: ConvertOrder) -> dict[str, Any]:
    """The fields of the card that the user says, and where the model is from."""
    default, card = Card(), order.card
    chosen = {
        field.name: getattr(card, field.name)
        for field in dataclasses.fields(Card)
        if field.name in order.said or getattr(card, field.name) != getattr(default, field.name)
    }
    classes = class_count(source.model, card.model_type.lower())
    if card.labels and classes not in (None, len(card.labels)):
        raise UsageError(f"--labels has {len(card.labels)} names, the model {classes} classes")
    return chosen | {"source": card.source or Card.read(source.model).source or source.name}


def _facts(source: SourceModel, made: PreparedModel, xml: Path) -> dict[str, Any]:
    return {
        "source": source.name,
        "format": source.title,
        "framework": source.framework,
        "sha256": source.sha256 or None,
        "openvino": _openvino_version(),
        "inputs": _described(made.model.inputs),
        "outputs": _described(made.model.outputs),
        "answers": made.answers,
        "dequantised": {
            name: asdict(how)
            for (name, *_), how in zip(unique_names(made.model.outputs), made.dequantised, strict=True)
            if how is not None
        },
        "pictures": _pictures(made),
        "bytes": xml.stat().st_size + xml.with_suffix(".bin").stat().st_size,
        "batch": _batch(made),
        "notes": list(_notes(made)),
    }


def _batch(made: PreparedModel) -> dict[str, Any]:
    """Where the batch lies, by port, and why requests run alone."""
    axes = iter([None if axis < 0 else axis for axis in made.card.batch_axes])
    by_name = {
        what: {name: next(axes) for name, *_ in unique_names(ports)}
        for what, ports in (("inputs", made.model.inputs), ("outputs", made.model.outputs))
    }
    return {"axes": by_name, "alone": made.batch.reason or None}


def _pictures(made: PreparedModel) -> dict[str, Any] | None:
    """How pictures become the input, and what of it was taken without being said; None: it takes none."""
    source = image_input(made.model, made.card)
    if source is None:
        return None
    return {
        "width": source.width,
        "height": source.height,
        "resize_type": made.card.resize_type,
        "values": made.card.pixels(source.channels),
        "mean_values": list(made.card.mean_values),
        "scale_values": list(made.card.scale_values),
        "taken": list(made.reasons),
    }


def _openvino_version() -> str:
    return str(ov.__version__).split("-")[0]


def _described(ports: Sequence[ov.Output]) -> list[str]:
    return [
        f"{name} {port.element_type.get_type_name()}{port.partial_shape}"
        for (name, *_), port in zip(unique_names(ports), ports, strict=True)
    ]


def _notes(made: PreparedModel) -> Iterator[str]:
    """What the user should know, one sentence each."""
    for port in made.model.inputs:
        if any(side.is_dynamic for side in list(port.partial_shape)[1:]):
            name = next(iter(sorted(port.get_names())), port.get_node().get_friendly_name())
            yield (
                f"input {name} has variable sides {port.partial_shape}: it takes tensors, but no pictures "
                f"unless --input {name}[1,...] fixes them"
            )
    if image_input(made.model, made.card) is None:
        yield from (f"pictures, once its sides are fixed: {reason}" for reason in made.reasons)


def _structure(xml: Path) -> Facts:
    """Size and folding for a batch of one; a graph with other variable sides cannot be counted.

    Yields:
        ``refused``, what OpenVINO says against the written model; or ``complexity`` (None for variable sides)
        and ``folding``.
    """
    written = openvino_core().read_model(xml)
    single, shapes = written.clone(), {}
    for port in single.inputs:
        shape = port.partial_shape
        if len(shape) and shape[0].is_dynamic:
            shape[0] = 1
        shapes[port] = shape
    single.reshape(shapes)
    counted = not any(shape.is_dynamic for shape in shapes.values())
    yield "complexity", asdict(complexity(single)) if counted else None
    try:
        compiled = openvino_core().compile_model(single, "CPU", _F32)
    except RuntimeError:
        try:
            openvino_core().compile_model(written, "CPU", _F32)  # perhaps only a batch of one is wrong
        except RuntimeError as error:
            yield "refused", reason(error)
            return
        raise
    yield "folding", asdict(folding(single, compiled))


def _report_structure(xml: Path, report: dict[str, Any], limit_s: float) -> None:
    """Adds complexity and folding to a report, or a note why they are not known.

    Raises:
        ModelLoadError: OpenVINO cannot compile the model.
    """
    found, missing = compute_in_child(_structure, xml, limit_s=limit_s, option=_LIMIT)
    if "refused" in found:
        raise ModelLoadError(f"OpenVINO read the model but cannot compile it: {found['refused']}")
    if missing:
        what = "folding" if "complexity" in found else "size and folding"
        report["notes"].append(f"{what} are not known: {missing}")
    report |= {"complexity": None, "folding": None} | found


def _first_answers(
    xml: Path, report: dict[str, Any], order: ConvertOrder, images: Path, settings: Settings
) -> None:
    """Adds the answers to some of the pictures to a report, or a note why there are none."""
    given = (order.name, xml, images, settings.max_pixels)
    found, missing = compute_in_child(first_answers, *given, limit_s=order.report_timeout_s, option=_LIMIT)
    if missing:
        report["notes"].append(f"no first answers: {missing}")
    report["first_answers"] = found.get("pictures", [])


def _parity(
    source: SourceModel, made: PreparedModel, xml: Path, order: ConvertOrder, settings: Settings
) -> Any:
    """The differences to the original for each output, or why there is no comparison."""
    with tempfile.TemporaryDirectory(prefix="cpuserve-weights-") as folder:
        weights = source.save_weights(Path(folder))
        task = OriginalComparison(
            source.asked, weights, xml, made.dequantised, order.images, settings.max_pixels
        )
        found, missing = compute_in_child(
            compare_with_original, task, limit_s=order.report_timeout_s, option=_LIMIT
        )
    return {"not_compared": missing} if missing else found
