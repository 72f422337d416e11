"""`cpuserve bench compare`: compares OpenVINO with the framework that a network comes from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cpuserve.cli.console import stepping
from cpuserve.cli.figures import deliver, figures_options
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import pictures_option, setting_options, settings_from
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.bench.compare import FrameworkResult

__all__ = ["command"]

_ALL = "onnxruntime,torch,torch.compile,cv2,tflite,tensorflow"


@click.command("compare")
@click.argument("model")
@click.option(
    "--with", "others", default=_ALL, show_default=True, metavar="NAME,...", help="The other frameworks."
)
@click.option("--input", "shapes", multiple=True, metavar="NAME[1,3,224,224]", help="Shape of the input.")
@pictures_option
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures in a batch.")
@click.option(
    "--precision",
    type=SuggestingChoice(["f32", "bf16", "auto"]),
    default="f32",
    show_default=True,
    help="OpenVINO's INFERENCE_PRECISION_HINT; other frameworks compute as the model file says.",
)
@click.option(
    "--rounds", type=click.IntRange(3), default=7, show_default=True, help="Windows of each framework."
)
@click.option(
    "--window-seconds",
    type=NumberRange(0.05),
    default=1.0,
    show_default=True,
    help="Length of a window.",
)
@figures_options
@setting_options("model_repository")
def command(
    *,
    model: str,
    others: str,
    shapes: tuple[str, ...],
    images: Path | None,
    batch: int,
    precision: str,
    rounds: int,
    window_seconds: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run MODEL with OpenVINO and other frameworks, by turns, and compare times and outputs.

    MODEL is a file (.onnx, .tflite, .pb, TorchScript), a SavedModel, module:callable, a network of `bench
    networks`, or a model of the repository; only OpenVINO can run the last two. Calls are made one after the
    other. Each framework has the number of threads that was fastest in a first window. If rounds disagree on
    which is faster, the result is a tie.

    \b
    Exit codes: 0 done, 1 OpenVINO cannot run the model (or it could not be measured),
    2 wrong options.

    \b
    Example:
      cpuserve bench compare yolox_nano.onnx --with onnxruntime,cv2
      cpuserve bench compare torchvision.models:mobilenet_v2 --input [1,3,224,224] --with torch,torch.compile
    """
    from cpuserve.bench.compare import compare, thread_counts  # noqa: PLC0415  # not for --help
    from cpuserve.bench.frameworks import FRAMEWORKS  # noqa: PLC0415
    from cpuserve.machine.budget import Budget  # noqa: PLC0415
    from cpuserve.measuring.pictures import pictures  # noqa: PLC0415

    names = [name.strip() for name in others.split(",") if name.strip()]
    unknown = [name for name in names if name not in FRAMEWORKS]
    if unknown:
        raise UsageError(f"--with {unknown[0]}: the frameworks are {', '.join(FRAMEWORKS)}")
    steps = len(names) + 1 + rounds
    with (
        tempfile.TemporaryDirectory(prefix="cpuserve-compare-") as place,
        pictures(images) as sent,
        stepping(steps, "compare", shown=not (as_json or quiet)) as step,
    ):
        folder = Path(place)
        source = _source(model, settings_from(config, flags).model_repository, folder)
        entries = compare(
            source,
            names,
            _tensors(source, shapes, batch, sent.files),
            folder,
            shapes=shapes,
            precision=precision,
            threads=thread_counts(Budget.read().effective),
            rounds=rounds,
            seconds=window_seconds,
            done=lambda: step(1),
        )
    figures = {
        "model": Path(model).name,
        "pictures": sent.name,
        "batch": batch,
        "openvino_precision": precision,
        "frameworks": [entry.figures(entries[0]) for entry in entries],
    }
    if not (as_json or quiet):
        _show(entries, figures)
    deliver(figures, out, as_json=as_json)


def _source(model: str, repository: Path, folder: Path) -> str:
    """What `cpuserve.authoring.source.read_source` takes: a path or module:callable."""
    import openvino as ov  # noqa: PLC0415

    from cpuserve.authoring.zoo.networks import NETWORKS, build_network  # noqa: PLC0415
    from cpuserve.models.find_model import find_model  # noqa: PLC0415

    if model in NETWORKS:
        ov.save_model(build_network(model), folder / f"{model}.xml", compress_to_fp16=False)
        return str(folder / f"{model}.xml")
    if Path(model).exists() or ":" in model:
        return model
    return str(find_model(model, repository).xml)


def _tensors(source: str, shapes: Sequence[str], batch: int, files: Sequence[Path]) -> list[Any]:
    import cv2  # noqa: PLC0415

    from cpuserve.authoring.source import input_shapes, read_source  # noqa: PLC0415
    from cpuserve.bench.frameworks import sample, with_batch  # noqa: PLC0415

    decoded = []
    for file in files:
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise UsageError(f"--images: {file.name} cannot be decoded")
        decoded.append(pixels)
    graph = with_batch(read_source(source, input_shapes(shapes)), batch)
    return [
        sample(graph, batch, decoded[start:] + decoded[:start]) for start in range(0, len(decoded), batch)
    ]


def _show(entries: Sequence[FrameworkResult], figures: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415  # not for --help
    from rich.table import Table  # noqa: PLC0415

    grid = Table(box=None, padding=(0, 2, 0, 0))
    for title in (
        "framework",
        "ms/image",
        "noise",
        "CPU-ms",
        "threads",
        "tried",
        "max diff",
        "top-1",
        "verdict",
    ):
        grid.add_column(title, no_wrap=title != "verdict")
    for row in figures["frameworks"]:
        if "refused" in row:
            continue
        tried = " ".join(f"{threads}:{ms:.2f}" for threads, ms in row["ms_by_threads"].items())
        difference, top1 = row["max_abs_diff"], row["top1_agreement"]
        grid.add_row(
            row["framework"],
            f"{row['ms_per_image']:.3f}",
            f"{row['noise']:.1%}",
            f"{row['cpu_ms_per_image']:.3f}",
            str(row["threads"]),
            tried,
            "-" if difference is None else f"{difference:.2g}",
            "-" if top1 is None else f"{top1:.1%}",
            row["note"] or ("the measure" if row["framework"] == entries[0].name else row["verdict"]),
        )
    Console(width=max(118, Console().width)).print(grid)
    for entry in entries:
        if entry.refused:
            click.echo(f"not measured: {entry.name}: {entry.refused}")
    click.echo(
        f"batch {figures['batch']}, OpenVINO in {figures['openvino_precision']}, medians of the rounds; "
        "tried: ms by threads, in one window each"
    )
    click.echo(f"pictures: {figures['pictures']}")
