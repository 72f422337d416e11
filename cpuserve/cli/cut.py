"""`cpuserve cut`: cuts a model into head, core and tail and publishes them as one model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import progress
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import report_options, setting_options, settings_from
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.authoring.cut import CutReport

__all__ = ["command"]

_SPEC = "ir, none, MODULE:FUNCTION, onnx:FILE or tf:FILE"


@click.command("cut")
@click.argument("model", metavar="MODEL|FILE")
@click.option("--name", required=True, help="Name to publish the cut model under, as its next version.")
@click.option(
    "--input", "inputs", multiple=True, metavar="TENSOR", help="Tensor where the core begins; repeatable."
)
@click.option(
    "--output", "outputs", multiple=True, metavar="TENSOR", help="Tensor where the core ends; repeatable."
)
@click.option(
    "--head", default="ir", metavar="SPEC", help=f"How the part before the core runs: {_SPEC}. [default ir]"
)
@click.option(
    "--tail", default="ir", metavar="SPEC", help=f"How the part after the core runs: {_SPEC}. [default ir]"
)
@click.option("--card", "card_of", default="", metavar="MODEL", help="Use the card of this model.")
@click.option(
    "--images",
    type=LocalPath(exists=True, path_type=Path),
    help="Picture or directory of pictures for the comparison with the whole model; without it random"
    " numbers are used.",
)
@click.option(
    "--min-agreement",
    type=NumberRange(0, 1),
    default=0.99,
    show_default=True,
    help="Least share of equal classes between the cut and the whole model; below it nothing is published.",
)
@report_options
@setting_options("model_repository", "allow_callables", "allow_unvalidated")
def command(
    *,
    model: str,
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    head: str,
    tail: str,
    card_of: str,
    images: Path | None,
    min_agreement: float,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Cut MODEL (or MODEL/VERSION) of the repository, or FILE, into three parts published as one.

    The core lies between --input and --output and runs in batches. The part before it, the head, runs with
    the decoding; the part after it, the tail, with the post-processing. Clients see one model. Before it is
    published, its answers are compared in f32 with those of the whole model; the result is kept with it.

    \b
    Example:
      cpuserve cut deeplab.pb --name deeplab_cut --input 0:MobilenetV2/Conv/Conv2D --output ArgMax
      cpuserve cut digits --name digits_cut --output 254 --tail mine.tails:softmax --allow-callables
    """
    if not inputs and not outputs:
        raise UsageError("name the tensors to cut at with --input or --output; cpuserve cutpoints lists them")
    from cpuserve.authoring.cut import CutOrder, CutSource, cut  # noqa: PLC0415
    from cpuserve.machine.budget import Budget  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.models.cut_manifest import CutPart  # noqa: PLC0415
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    settings = settings_from(config, flags)
    repository = Repository(settings.model_repository)
    order = CutOrder(
        name, inputs, outputs, CutPart.parse(head), CutPart.parse(tail), _pictures(images), min_agreement
    )
    with progress(shown=not (quiet or as_json)) as bars:
        task = bars.add_task("comparing cut and whole", total=None)
        whole = CutSource.find(model, repository, card_of)
        report = cut(
            whole,
            order,
            repository,
            settings,
            Budget.read().effective,
            lambda done, count: bars.update(task, completed=done, total=count),
        )
    if as_json:
        kept = dataclasses.asdict(report.parts)
        facts = {"name": name, "version": report.file.version, "path": str(report.file.xml)}
        click.echo(orjson.dumps(facts | kept))
    elif not quiet:
        _show(report)


def _pictures(place: Path | None) -> tuple[Path, ...]:
    from cpuserve.serving.picture_files import pictures_in  # noqa: PLC0415

    if place is None or place.is_file():
        return () if place is None else (place,)
    return pictures_in(place)


def _show(report: CutReport) -> None:
    parts = report.parts
    work = parts.report["multiply_adds"]
    counts = [count for count in work.values() if count is not None]
    total = sum(counts) or 1
    click.echo(f"{report.file.name}/{report.file.version} published: {report.file.xml}")
    runs = {"head": parts.head, "tail": parts.tail}
    for name in ("head", "core", "tail"):
        part = runs.get(name)
        if name in work:
            how = "core, batched" if part is None else f"{part.run} {part.what}".strip()
            share = f"{100 * work[name] / total:.1f} %" if len(counts) == len(work) else "unknown share"
            click.echo(f"  {name}: {how}; {share} of the multiply-adds")
    parity = parts.report["parity"]
    for output, agreement in parity["outputs"].items():
        known = {key: value for key, value in agreement.items() if value is not None and key != "pictures"}
        said = ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in known.items())
        click.echo(f"  {output} against the whole in {parity['precision']} on {parity['on']}: {said}")
