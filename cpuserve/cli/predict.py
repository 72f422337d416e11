"""`cpuserve predict`: the server's pipeline on pictures from disk, in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.options import model_and_version, setting_options, settings_from
from cpuserve.errors import CpuserveError, UndecodableImage

if TYPE_CHECKING:
    from cpuserve.serving.pipeline import Pipeline

__all__ = ["command"]


@click.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--topk", type=int, help="Classes to show; the model's own number without it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a picture, one a line.")
@setting_options("model_repository", "decode", "precision", "max_pixels", "allow_unvalidated")
def command(
    model: str, images: tuple[Path, ...], topk: int | None, as_json: bool, config: Path | None, **flags: Any
) -> None:
    """Answer pictures with MODEL (or MODEL/VERSION), through the same code as the server.

    Ends with 1 when a picture could not be answered; the others are answered all the same.

    \b
    Example:
      cpuserve predict digits seven.png --json
    """
    from cpuserve.machine.budget import Budget  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.models.repository import Repository  # noqa: PLC0415
    from cpuserve.serving.loader import load_pipeline, new_core  # noqa: PLC0415

    settings = settings_from(config, flags)
    file = Repository(settings.model_repository).find(*model_and_version(model))
    pipeline = load_pipeline(new_core(), file, settings, Budget.read().effective)
    failed = False
    for image in images:
        try:
            answer = _answer(pipeline, image, topk)
        except CpuserveError as error:
            failed = True
            if as_json:
                click.echo(orjson.dumps({"image": str(image), "error": str(error)}))
            else:
                click.echo(f"{image}: {error}", err=True)
            continue
        if as_json:
            click.echo(orjson.dumps({"image": str(image), **answer}))
        else:
            _show(image, answer)
    if failed:
        sys.exit(1)


def _answer(pipeline: Pipeline, image: Path, topk: int | None) -> dict[str, Any]:
    from cpuserve.serving.request import Request  # noqa: PLC0415

    try:
        data = image.read_bytes()
    except OSError as error:
        raise UndecodableImage(f"cannot be read: {error.strerror}") from error
    answer = pipeline.predict(data, Request(), topk)
    return {"model": pipeline.name, "version": str(pipeline.version), **answer}


def _show(image: Path, answer: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    (kind,) = (key for key in answer if key not in ("model", "version"))
    measure = "probability" if kind == "predictions" else "area"
    table = Table("class", "label", measure, title=f"{image}  ({answer['model']}/{answer['version']})")
    table.columns[2].justify = "right"
    for row in answer[kind]:
        table.add_row(str(row["class_id"]), row["label"], f"{row[measure]:.4f}")
    Console().print(table)
