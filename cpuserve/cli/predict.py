"""`cpuserve predict`: runs a model on picture files, without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import printable, show_table
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option, setting_options, settings_from
from cpuserve.errors import CpuserveError, UndecodableImage, UsageError
from cpuserve.machine.files import text_of_path

if TYPE_CHECKING:
    from cpuserve.local_model import Model

__all__ = ["command"]

_MEASURES = {  # what an answer says of each entry beside its class
    "predictions": ("probability",),
    "classes": ("area",),
    "detections": ("probability", "box"),
    "keypoints": ("probability", "point"),
}


@click.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=LocalPath(path_type=Path), metavar="IMAGE|DIR...")
@click.option("--topk", type=int, help="Number of classes to show [default: the model's].")
@click.option(
    "--output",
    type=LocalPath(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Write the picture with the answer drawn on it; for one picture only.",
)
@click.option(
    "--save-expected",
    is_flag=True,
    help="Keep each picture and its answer in the warmup/ directory of the version: a server that loads the "
    "version checks that it answers so.",
)
@json_option("Print a line with a JSON object for each picture.")
@setting_options(
    "model_repository", "decode", "precision", "max_pixels", "allow_callables", "allow_unvalidated"
)
def command(
    model: str,
    images: tuple[Path, ...],
    topk: int | None,
    output: Path | None,
    save_expected: bool,
    as_json: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run MODEL (or MODEL/VERSION) of the repository, or a model file, on pictures, without a server.

    The answers are the same as the server's. The exit code is 1 if a picture fails; the others are answered.

    \b
    Example:
      cpuserve predict digits seven.png --json
      cpuserve predict yolox_nano.onnx photos
      cpuserve predict yolox street.jpg --output boxes.png
      cpuserve predict digits/2 seven.png --save-expected
    """
    from cpuserve.local_model import Model  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.models.find_model import find_model  # noqa: PLC0415

    if output is not None and (len(images) > 1 or output.suffix.lower() != ".png"):
        raise UsageError(f"--output takes one picture and writes a .png, not {len(images)} into {output}")
    settings = settings_from(config, flags)
    images = tuple(picture for image in images for picture in _pictures_at(image))
    file = find_model(model, settings.model_repository)
    failed = False
    with Model(file, settings) as loaded:
        for image in images:
            try:
                answer = _answer(loaded, image, topk, output)
            except CpuserveError as error:
                failed = True
                if as_json:
                    click.echo(orjson.dumps({"image": text_of_path(image), "error": str(error)}))
                else:
                    click.echo(f"{printable(image)}: {error}", err=True)
                continue
            if save_expected:
                _save_expected(file.xml, image, answer)
            if as_json:
                click.echo(orjson.dumps({"image": text_of_path(image), **answer}))
            else:
                _show(image, answer)
    if failed:
        sys.exit(1)


def _pictures_at(place: Path) -> tuple[Path, ...]:
    """The pictures in a directory, by name; what is no directory is taken for a picture.

    Raises:
        UsageError: the directory holds none, or cannot be listed.
    """
    from cpuserve.serving.picture_files import pictures_in  # noqa: PLC0415

    try:
        if not place.is_dir():
            return (place,)
    except OSError:  # what is said of a picture that cannot be read is said of this one
        return (place,)
    try:
        return pictures_in(place)
    except OSError as error:
        raise UsageError(f"{place} cannot be listed: {error.strerror}") from error


def _answer(model: Model, image: Path, topk: int | None, output: Path | None) -> dict[str, Any]:
    try:
        data = image.read_bytes()
    except OSError as error:
        raise UndecodableImage(f"cannot be read: {error.strerror}") from error
    answer = model.predict(data, topk=topk)
    if output is not None:
        drawn = model.render(data, topk=topk)
        try:
            output.write_bytes(drawn)
        except OSError as error:
            raise CpuserveError(f"{output} cannot be written: {error.strerror}") from error
    return answer


def _save_expected(model: Path, image: Path, answer: dict[str, Any]) -> None:
    """Put a picture and its answer beside a model, each in one step.

    Raises:
        CpuserveError: the directory cannot be written to.
    """
    from cpuserve.models.warm_up_files import WARM_UP, expected_path  # noqa: PLC0415

    kept = model.parent / WARM_UP / image.name
    said = {key: value for key, value in answer.items() if key not in ("model", "version")}
    try:
        kept.parent.mkdir(exist_ok=True)
        for file, data in ((kept, image.read_bytes()), (expected_path(kept), orjson.dumps(said))):
            beside = file.with_name(f".{file.name}")  # hidden files are no warm-up
            beside.write_bytes(data)
            beside.replace(file)
    except OSError as error:
        raise CpuserveError(f"{kept} cannot be written: {error.strerror}") from error


def _show(image: Path, answer: dict[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415

    title = f"{printable(image)}  ({answer['model']}/{answer['version']})"
    kind = next((key for key in answer if key in _MEASURES), "")
    if not kind:
        table = Table("text", "probability", title=title)
        table.add_row(answer["text"], _text(answer["probability"]))
        show_table(table)
        return
    measures = _MEASURES[kind]
    table = Table("class", "label", *measures, title=title)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in answer[kind]:
        table.add_row(str(row["class_id"]), row["label"], *(_text(row[measure]) for measure in measures))
    show_table(table)


def _text(value: float | list[float]) -> str:
    return " ".join(f"{number:.0f}" for number in value) if isinstance(value, list) else f"{value:.4f}"
