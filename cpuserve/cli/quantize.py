"""`cpuserve quantize`: makes an INT8 model of a float model and publishes it if its accuracy holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import printable, spoken
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import model_and_version, report_options, setting_options, settings_from

if TYPE_CHECKING:
    from cpuserve.authoring.quantize import QuantizeReport

__all__ = ["command"]

_KEPT_FLOAT = 3
_PATH = LocalPath(exists=True, path_type=Path)


@click.command("quantize")
@click.argument("model")
@click.option(
    "--calibration",
    required=True,
    type=_PATH,
    metavar="DIR|CSV",
    help="Pictures from which the ranges of activations are measured.",
)
@click.option(
    "--validation",
    type=_PATH,
    metavar="DIR|CSV|JSON",
    help="Pictures with the right answers; without it the INT8 model is compared with the float model on the"
    " calibration pictures.",
)
@click.option(
    "--metric",
    default="",
    metavar="top1|miou|map|agreement|areas|cosine|MODULE:FUNCTION",
    help="Measure of accuracy [default: follows from --validation].",
)
@click.option(
    "--max-drop",
    type=NumberRange(0),
    default=0.01,
    show_default=True,
    help="Largest absolute drop of the metric that is accepted.",
)
@click.option(
    "--name",
    default="",
    help="Name to publish the INT8 model under, as its next version [default: NAME_int8].",
)
@click.option(
    "--subset-size",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Most pictures to calibrate with; they are chosen evenly.",
)
@click.option(
    "--preset",
    type=SuggestingChoice(["performance", "mixed"]),
    default="performance",
    show_default=True,
    help="NNCF's quantization preset: mixed has asymmetric ranges of activations, as Swish and GELU need.",
)
@click.option(
    "--accuracy-control/--no-accuracy-control",
    default=True,
    help="Change operations back to float if the metric drops too far [default: on].",
)
@report_options
@setting_options("model_repository", "decode", "max_pixels", "allow_unvalidated")
def command(
    *,
    model: str,
    calibration: Path,
    validation: Path | None,
    metric: str,
    max_drop: float,
    name: str,
    subset_size: int,
    preset: str,
    accuracy_control: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Quantize MODEL (or MODEL/VERSION) to INT8 with NNCF and publish it if its accuracy holds.

    Needs cpuserve[quantize]. --validation takes a DIR with a folder for each class or with pictures named
    after their class, a CSV with the columns file,label or file,mask or file,x1,y1,x2,y2,class, or COCO's
    JSON. If the metric drops by more than --max-drop, NNCF's accuracy control changes operations back to
    float. If that does not help, nothing is published. A model whose answers cannot be compared is not
    published without --allow-unvalidated.

    \b
    Exit codes: 0 published, 1 refused or failed, 2 wrong options,
    3 the INT8 model is not accurate enough, or cannot be judged, and is not published.

    \b
    Example:
      cpuserve quantize mobilenet_v2_1.0_224_frozen --calibration photos --validation labels.csv
      cpuserve quantize detector --calibration photos --validation instances.json --max-drop 0.02
    """
    from cpuserve.authoring.nncf_quantizer import QuantizeOptions  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.authoring.quantize import QuantizeOrder, quantize  # noqa: PLC0415
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    settings = settings_from(config, flags)
    repository = Repository(settings.model_repository)
    file = repository.find(*model_and_version(model))
    shown = not (quiet or as_json)
    bars = sys.stderr if shown and sys.stderr.isatty() else None
    steps: list[str] = []

    def say(step: str) -> None:
        steps.append(f"... {step}")
        if shown:
            click.echo(steps[-1], err=True)

    order = QuantizeOrder(name or f"{file.name}_int8", calibration, validation, metric, subset_size)
    options = QuantizeOptions(max_drop, preset, accuracy_control, bars, settings.allow_unvalidated)
    with spoken(lambda: steps[-1:], shown=shown and bars is None):
        result = quantize(repository, file, settings, order, options, say=say)
    for picture, reason in result.left_out:
        click.echo(f"left out: {printable(picture)}: {reason}", err=True)
    if as_json:
        click.echo(orjson.dumps(result.report))
    elif not quiet or result.published is None:
        _show(result)
    if result.published is None:
        sys.exit(_KEPT_FLOAT)


def _show(result: QuantizeReport) -> None:
    report = result.report
    said = _figures(report)
    if result.published is None:
        click.echo(f"{report['source']} is kept as it is and nothing is published: {said}", err=True)
        return
    speed = report["speed"]
    click.echo(f"{result.published.name}/{result.published.version} published: {result.published.xml}")
    click.echo(f"{said} ({report['method']}, {report['quantized_operations']} operations quantised)")
    click.echo(
        f"{speed['speedup']:.2f} times as fast: {speed['float_ms']:.2f} ms -> {speed['int8_ms']:.2f} ms "
        "a picture on one thread"
    )
    for one in report["float_model_by_precision"]:
        if one["note"]:
            click.echo(f"{one['asked']}: {one['note']}")
        elif one["agreement"] is not None and one["asked"] != "f32":
            click.echo(
                f"{one['asked']}: agreement with f32 {one['agreement']:.4f}{_changes(one['evidence'])}"
            )


def _figures(report: dict[str, Any]) -> str:
    """What was compared with what, on how much, and what was decided."""
    if report["decision"] == "not validated":
        said = f"not validated: {report['reason']}"
        return said if report["published"] else f"{said}; --allow-unvalidated publishes it all the same"
    said = (
        f"{report['metric']} on {report['validation_pictures']} pictures: "
        f"float {report['accuracy_float']:.4f}, INT8 {report['accuracy']:.4f}, "
        f"compared with {report['compared_with']}, {report['answers']} in all"
        f"{_changes(report)}"
    )
    if report["high"] is not None:
        said += f", drop {report['low']:.2f} to {report['high']:.2f} (95% interval)"
    if report["reason"]:
        said += f"; {report['reason']}"
    if (
        report["decision"] == "refused"
        and report["method"] == "accuracy_control"
        and report["quantized_operations"]
    ):
        said += "; accuracy control did not help"
    return said


def _changes(evidence: dict[str, Any]) -> str:
    if evidence["missed"] is None:
        return ""
    return f" ({evidence['missed']} missed, {evidence['invented']} invented)"
