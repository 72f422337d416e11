"""`cpuserve batch`: answers folders of pictures and videos into shards."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import progress
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option, setting_options
from cpuserve.cli.video.model_options import MODEL_SETTINGS, model_option, model_settings, scaler_option

if TYPE_CHECKING:
    from cpuserve.batch.job import BatchSummary
    from cpuserve.batch.job_folder import JobFolder
    from cpuserve.batch.prepare import PreparedJob
    from cpuserve.batch.shard_formats import ShardFormat
    from cpuserve.batch.worker_task import LoadedModel
    from cpuserve.batch.workers import BatchWorkers
    from cpuserve.video.scale import Scaler

__all__ = ["command"]

_INTERRUPTED = 130
_TERMINATED = 128 + signal.SIGTERM


@click.command(
    "batch",
    epilog="""\b
Exit codes: 0 all rows are written (those that are errors are counted), 1 the job failed,
2 wrong options, or the folder has another job, 4 packages of an extra are missing,
130 ended by Ctrl-C, 143 by SIGTERM. After 1, 130, 143 and a kill the same command goes on.""",
)
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@model_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=LocalPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the shards and manifest.json.",
)
@click.option(
    "--format",
    "as_format",
    type=SuggestingChoice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="Of the shards.",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    default=5000,
    show_default=True,
    metavar="N",
    help="A shard ends when it has so many rows.",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="Work on all nodes of this Ray cluster, HOST:PORT or auto, instead of this machine alone. Each node "
    "sees the inputs and the models under the same path.",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Answer every Nth frame only.")
@click.option("--topk", type=click.IntRange(1), metavar="N", help="Number of classes [default: the model's].")
@scaler_option
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the job in DIR. It is what happens without it, too; with it, an empty DIR is refused.",
)
@click.option("--overwrite", is_flag=True, help="Remove the job that is in DIR, and begin anew.")
@json_option("Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@setting_options(*MODEL_SETTINGS, "decode")
def command(
    uris: tuple[str, ...],
    model: str,
    output: Path,
    as_format: ShardFormat,
    shard_rows: int,
    address: str | None,
    every: int,
    topk: int | None,
    scaler: Scaler,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Run a model on every picture and frame of URI..., and write a row for each into shards.

    URI is a picture, a video, a folder, a pattern, a text list (.txt, .lst, .list) or an address such as
    s3://bucket/folder. A picture that cannot be answered is a row with its error. The same command again goes
    on where it was ended.

    \b
    Example:
      cpuserve batch photos/ --model yolox_nano -o boxes/
      cpuserve batch list.txt day1/*.mp4 --model yolox_nano -o boxes/ --format parquet
    """
    from cpuserve.batch.prepare import BatchOptions, prepare_job  # noqa: PLC0415
    from cpuserve.errors import UsageError  # noqa: PLC0415

    if resume and not (output / "manifest.json").exists():
        raise UsageError(f"--resume: there is no job in {output}: leave --resume out")
    settings = model_settings(model, config, flags)
    options = BatchOptions(as_format, shard_rows, every, topk, scaler)
    with _ended_by_sigterm():
        try:
            job = prepare_job(uris, model, output, settings, options)
            with job.open(overwrite=overwrite) as folder:
                summary = _run(job, folder, address, shown=not quiet)
        except BaseException as error:
            _say_how_to_go_on(error, output)
            raise
    _show(summary, folder, as_json=as_json, quiet=quiet)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the command as Ctrl-C does, so that the workers end with it."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_how_to_go_on(error: BaseException, output: Path) -> None:
    if isinstance(error, (KeyboardInterrupt, SystemExit)) and (output / "manifest.json").exists():
        click.echo(f"cpuserve: ended; the same command goes on in {output}", err=True)
    if isinstance(error, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)


def _run(job: PreparedJob, folder: JobFolder, address: str | None, *, shown: bool) -> BatchSummary:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from cpuserve.batch.job import BatchSummary, run_job  # noqa: PLC0415

    if folder.manifest.complete:
        return BatchSummary(rows_before=folder.rows_before)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.speed:.1f}/s"), TimeRemainingColumn()),
    )
    wanted = job.model._replace(precision=folder.manifest.precision)
    with _workers(job, wanted, address) as workers, progress(*columns, shown=shown) as bars:
        task = bars.add_task("rows", total=job.rows, completed=folder.rows_before)
        return run_job(folder, workers, lambda rows: bars.advance(task, rows))


@contextmanager
def _workers(job: PreparedJob, wanted: LoadedModel, address: str | None) -> Iterator[BatchWorkers]:
    from cpuserve.batch.seat_workers import SeatWorkers  # noqa: PLC0415
    from cpuserve.video.seats import plan_video_seats  # noqa: PLC0415

    if address is not None:
        with _ray_workers(job, wanted, address) as workers:
            yield workers
        return
    workers = SeatWorkers(plan_video_seats(job.task.settings).seats, job.task, wanted)
    try:
        yield workers
    finally:
        workers.close()


@contextmanager
def _ray_workers(job: PreparedJob, wanted: LoadedModel, address: str) -> Iterator[BatchWorkers]:
    from cpuserve.batch.ray_hosts import RayHosts  # noqa: PLC0415
    from cpuserve.batch.ray_workers import RayWorkers  # noqa: PLC0415
    from cpuserve.cluster.ray_cluster import connected  # noqa: PLC0415

    with connected(address) as ray:
        workers = RayWorkers(RayHosts(ray, job.task), wanted)
        try:
            yield workers
        finally:
            workers.close()


def _show(summary: BatchSummary, folder: JobFolder, *, as_json: bool, quiet: bool) -> None:
    said = summary.as_json(folder)
    if as_json:
        click.echo(orjson.dumps(said))
        return
    if quiet:
        return
    errors = f", {said['errors']} of them errors" if said["errors"] else ""
    click.echo(f"{said['rows']} rows{errors} in {said['shards']} shards: {said['manifest']}")
    if not summary.rows:
        click.echo("all were there already")
        return
    before = f", {summary.rows_before} were there already" if summary.rows_before else ""
    click.echo(
        f"{summary.rows} rows in {summary.seconds:.1f} s ({said['rows_per_second']:.1f} a second){before}"
    )
    if summary.workers_lost:
        click.echo(f"{summary.workers_lost} workers died and were replaced")
