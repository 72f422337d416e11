"""`cpuserve convert`: converts a model file of any framework and publishes it in the repository."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from click.core import ParameterSource

from cpuserve.cli.console import show_table, status
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import report_options, setting_options, settings_from
from cpuserve.errors import ModelLoadError, UsageError

if TYPE_CHECKING:
    from cpuserve.models.card import Card

__all__ = ["command"]

_RESIZE_TYPES = ("standard", "crop", "fit_to_window", "fit_to_window_letterbox")
_KINDS = ("predictions", "detections", "classes", "keypoints")
_ENTRIES = 5  # of an answer that are shown
_MEASURES = ("max_abs_diff", "mean_abs_diff", "top1_agreement", "pixel_agreement", "mean_iou")


@click.command("convert")
@click.argument("source", metavar="SRC")
@click.option("--name", required=True, help="Name to publish the model under.")
@click.option("--version", type=click.IntRange(1), help="Its version [default: the next].")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME[SHAPE]",
    help="Shape of an input, such as data[1,3,224,224], with -1 for a free dimension; repeatable.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="Output to keep; without it all are kept; repeatable.",
)
@click.option(
    "--labels",
    default="",
    metavar="FILE|A,B",
    help="Names of the classes, with commas or in a file with one name a line.",
)
@click.option(
    "--mean_values",
    "--mean-values",
    default="",
    metavar="R,G,B",
    help="Subtracted from pixels, which are 0 to 255: one number or three.",
)
@click.option(
    "--scale_values",
    "--scale-values",
    default="",
    metavar="R,G,B",
    help="Divides pixels after the mean: one number or three.",
)
@click.option(
    "--reverse_input_channels/--no-reverse_input_channels",
    "--reverse-input-channels/--no-reverse-input-channels",
    default=None,
    help="The model takes RGB; with --no- BGR [default: by its metadata or framework, see the report].",
)
@click.option(
    "--resize_type",
    "--resize-type",
    type=SuggestingChoice(_RESIZE_TYPES),
    default="standard",
    show_default=True,
    help="How pictures are resized to the model's input.",
)
@click.option(
    "--pad_value",
    "--pad-value",
    default="0",
    metavar="0-255",
    help="Grey value around pictures that do not fill the input.",
)
@click.option(
    "--model_type",
    "--model-type",
    default="",
    help="What the model answers: Classification, Segmentation, YOLOX, ... [default: judged by its outputs].",
)
@click.option(
    "--layout", default="", metavar="NHWC|NCHW", help="Layout of the input [default: follows from its shape]."
)
@click.option(
    "--set",
    "keys",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another key of the model's card, such as confidence_threshold=0.4; repeatable.",
)
@click.option(
    "--precision",
    type=SuggestingChoice(["f32", "f16"]),
    default="f32",
    show_default=True,
    help="Type of stored weights; f16 halves the file.",
)
@click.option(
    "--images",
    type=LocalPath(exists=True, path_type=Path),
    metavar="DIR|CSV",
    help="Pictures for the comparison with the original; without them random numbers are used.",
)
@click.option(
    "--before", default="", metavar="MODULE:NAME", help="Python function or class to run before the model."
)
@click.option(
    "--after", default="", metavar="MODULE:NAME", help="Python function or class to run after the model."
)
@click.option("--no-parity", "no_parity", is_flag=True, help="Do not compare with the original.")
@click.option(
    "--report-timeout",
    type=NumberRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time after which a part of the report is given up; the model is published without it.",
)
@click.option("--force", is_flag=True, help="Replace the version if it exists.")
@report_options
@setting_options("model_repository", "max_pixels")
def command(
    *,
    source: str,
    name: str,
    version: int | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    labels: str,
    keys: tuple[str, ...],
    precision: str,
    images: Path | None,
    before: str,
    after: str,
    no_parity: bool,
    report_timeout: float,
    force: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    max_pixels: str | None,
    model_repository: str | None,
    **said: Any,
) -> None:
    """Convert SRC to OpenVINO IR and publish it in the repository, with its card.

    SRC is an ONNX, TensorFlow Lite or PaddlePaddle file, a frozen TensorFlow graph, the directory of a
    SavedModel, an OpenVINO IR, a program of torch.export (.pt2) or TorchScript, or MODULE:CALLABLE that
    returns a torch.nn.Module. The card says how pictures become the model's input and what its outputs mean.
    The report lists what the compiler folded, the model's size, and how far its answers are from those of
    the original framework, if that is installed.

    \b
    Example:
      cpuserve convert net.onnx --name net --labels labels.txt --images photos
      cpuserve convert frozen.pb --name mobilenet --mean_values 127.5 --scale_values 127.5
        --reverse_input_channels
      cpuserve convert nets.mine:Net --name mine --input [1,3,224,224]
    """
    settings = settings_from(config, {"max_pixels": max_pixels, "model_repository": model_repository})
    card, named = _card(said, labels, keys)
    from cpuserve.authoring.convert import ConvertOrder, convert  # noqa: PLC0415
    from cpuserve.authoring.source import input_shapes, read_source  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.models.python_steps import PythonSteps  # noqa: PLC0415
    from cpuserve.models.repository import Repository  # noqa: PLC0415

    steps = PythonSteps.parse(before, after)
    order = ConvertOrder(
        name, card, version, precision == "f16", force, not no_parity, images, report_timeout, named, steps
    )
    with status(shown=not (quiet or as_json)) as say:
        say(f"reading {source}")
        model = read_source(source, input_shapes(inputs), outputs)
        file, report = convert(model, order, Repository(settings.model_repository), settings, say)
    if as_json:
        click.echo(orjson.dumps({"name": file.name, "version": file.version, "path": str(file.xml)} | report))
    elif not quiet:
        click.echo(f"{file.name}/{file.version} published: {file.xml}")
        _show(report)
        if steps is not None:
            click.echo("it runs Python before or after the model: serve it with --allow-callables")


def _card(said: dict[str, Any], labels: str, keys: tuple[str, ...]) -> tuple[Card, frozenset[str]]:
    """The card that the options say, and the names of the fields that they name."""
    from cpuserve.models.card import MODEL_INFO, OWN, Card  # noqa: PLC0415

    more = dict(_set(text, {"labels", *said}) for text in keys)
    texts = {key: "" if value is None else str(value) for key, value in said.items()} | more
    if texts["layout"].upper() not in ("", "NHWC", "NCHW"):
        raise UsageError(f"--layout {texts['layout']} is neither NHWC nor NCHW")
    texts["layout"] = texts["layout"].upper()
    names = {"labels": orjson.dumps(_labels(labels)).decode() if labels else ""}
    try:
        card = Card.from_sections(texts, texts | names)
    except ModelLoadError as error:
        raise UsageError(re.sub(rf"rt_info/(?:{MODEL_INFO}|{OWN})/", "--", str(error))) from error
    for option in ("mean_values", "scale_values"):
        if len(getattr(card, option)) not in (0, 1, 3):
            raise UsageError(f"--{option} {said[option]}: one number, or three")
    context = click.get_current_context()
    given = {key for key in said if context.get_parameter_source(key) != ParameterSource.DEFAULT}
    return card, frozenset(given | {*more})


def _set(text: str, flags: set[str]) -> tuple[str, str]:
    """The key and the value of ``--set``. Keys with an option of their own are refused."""
    from cpuserve.models.card import Card  # noqa: PLC0415

    key, equals, value = text.partition("=")
    known = sorted({field.name for field in dataclasses.fields(Card)} - flags - {"input_dtype"})
    if not equals or key not in known:
        raise UsageError(f"--set {text}: write KEY=VALUE, where KEY is one of {', '.join(known)}")
    return key, value


def _labels(text: str) -> tuple[str, ...]:
    from cpuserve.authoring.catalog import label_names  # noqa: PLC0415

    file = Path(text)
    if file.is_file():
        try:
            return label_names(file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--labels {text} cannot be read: {error}") from error
    if "," not in text:
        raise UsageError(f"--labels {text}: no such file; give a file, or names with commas between")
    return tuple(label.strip() for label in text.split(","))


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415

    facts = Table("", "", show_header=False)
    for words in _facts(report):
        facts.add_row(*words)
    show_table(facts)
    if report.get("first_answers"):
        answers = Table("picture", "answer")
        for row in report["first_answers"]:
            answers.add_row(row["picture"], "; ".join(_answer(row)) or "nothing found")
        show_table(answers)
    parity = report["parity"]
    if parity is None:
        return
    if "not_compared" in parity:
        click.echo(f"not compared: {parity['not_compared']}")
        return
    click.echo(f"against {parity['original']} in {parity['precision']}, on {parity['data']}:")
    measures = [key for key in _MEASURES if any(row.get(key) is not None for row in parity["outputs"])]
    for row in parity["outputs"]:
        if "not_compared" in row:
            click.echo(f"output {row['name']} not compared: {row['not_compared']}")
    if not measures:
        return
    table = Table("output", *(key.replace("_", " ") for key in measures))
    for row in parity["outputs"]:
        table.add_row(row["name"], *("" if row.get(key) is None else f"{row[key]:.6g}" for key in measures))
    show_table(table)


def _answer(row: dict[str, Any]) -> Iterator[str]:
    """The first entries of the answer to a picture, one text each."""
    if "error" in row:
        yield f"refused: {row['error']}"
    for tensor in row.get("tensors", ()):
        numbers = [tensor[key] for key in ("min", "max", "mean")]
        said = "empty" if None in numbers else "{:.4g} to {:.4g}, mean {:.4g}".format(*numbers)
        yield f"{tensor['name']}{tensor['shape']}: {said}".replace(", ", ",", len(tensor["shape"]) - 1)
    entries: list[dict[str, Any]] = next((row[kind] for kind in _KINDS if kind in row), [])
    for entry in entries[:_ENTRIES]:
        text = f"{entry['label']} {entry.get('probability', entry.get('area')):.3f}"
        place = entry.get("box", entry.get("point"))
        yield text if place is None else f"{text} at {' '.join(f'{number:.0f}' for number in place)}"
    if len(entries) > _ENTRIES:
        yield f"{len(entries) - _ENTRIES} more"


def _facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    folded, size = report["folding"], report["complexity"]
    yield "source", f"{report['source']}, {report['format']}, sha256 {(report['sha256'] or 'none')[:16]}"
    for key in ("inputs", "outputs"):
        yield key, "; ".join(report[key])
    alone = report["batch"]["alone"]
    yield (
        "batch",
        f"none, each request runs alone: {alone}" if alone else "first side of every input and output",
    )
    if (pictures := report["pictures"]) is not None:
        sides = f"{pictures['width']}x{pictures['height']}"
        yield "pictures", f"{sides} ({pictures['resize_type']}), {pictures['values']}"
        for reason in pictures["taken"]:
            yield "taken", reason
    yield "answers", report["answers"]
    for name, how in report["dequantised"].items():
        yield "dequantised", f"{name}: (value - {how['zero_point']}) * {how['scale']:.8g}"
    if size is not None:
        yield "multiply-adds", f"{size['multiply_adds'] / 1e6:.2f} million"
        yield "parameters", f"{size['parameters'] / 1e6:.3f} million"
    yield "bytes", f"{report['bytes'] / 1e6:.2f} MB"
    if folded is not None:
        yield from _folded(folded)
    if (bf16 := report["bf16"]) is not None:
        yield "bf16", _said_of_bf16(bf16)
    for note in report["notes"]:
        yield "note", note


def _said_of_bf16(found: dict[str, Any]) -> str:
    if found.get("not_compared"):
        return f"not compared with f32: {found['not_compared']}"
    if found["note"]:
        return str(found["note"])
    evidence = found["evidence"]
    return (
        f"agreement with f32 {found['agreement']:.4f} on {evidence['pictures']} pictures: "
        f"{evidence['answers']} answers, {evidence['missed']} missed, {evidence['invented']} invented"
    )


def _folded(folded: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "operations", f"{folded['operations']}, of which {folded['executed']} nodes run"
    yield "batch norms", f"{folded['batch_norms']}, {folded['batch_norms_merged']} merged"
    yield "constants", f"{folded['constants']} operations computed while compiling"
    fused = ", ".join(f"{count} {kind}" for kind, count in folded["fused"].items())
    yield "fused", fused or "none"
    reorders = ", ".join(f"{count} {what}" for what, count in folded["reorders"].items())
    moved = (
        f"{folded['transposes']} transposes, {folded['transposes_left']} run; reorders: {reorders or 'none'}"
    )
    yield "layout changes", moved
