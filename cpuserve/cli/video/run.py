"""`cpuserve video run`: labels the frames of videos with a cascade."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import orjson

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import SEED, NumberRange
from cpuserve.cli.options import json_option, setting_options
from cpuserve.cli.video.model_options import MODEL_SETTINGS, live_timeout_option, model_settings
from cpuserve.cli.video.replica_options import opened_replicas, replica_options
from cpuserve.cli.video.run_end import ended_by_signals
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.video.cascade_file import Cascade
    from cpuserve.video.cascade_run import CascadeRun
    from cpuserve.video.drift import OnDrift
    from cpuserve.video.frame_model import FrameModel
    from cpuserve.video.outputs.run_record import RunRecord
    from cpuserve.video.replicas import Replicas
    from cpuserve.video.run_metrics import RunMetrics
    from cpuserve.video.video_run import RunSummary
    from cpuserve.video.video_sources import VideoSource

__all__ = ["command"]

_BROKEN = 3


@click.command("run")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option(
    "--cascade",
    "directory",
    type=LocalPath(path_type=Path),
    required=True,
    metavar="DIR",
    help="What `video train` wrote.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A line for each frame, .csv or .jsonl; a directory (with / at its end) for several videos.",
)
@click.option(
    "--audit",
    type=NumberRange(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Share of the frames decided without the reference that it answers too; more near thresholds.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the audit's sample.")
@click.option(
    "--on-drift",
    type=SuggestingChoice(["alarm", "tighten", "reference"]),
    default="alarm",
    show_default=True,
    help="When the audit finds a budget in danger: say so; tighten thresholds; or, once it is broken, ask "
    "the reference about every frame.",
)
@click.option("--every-frame", is_flag=True, help="Ask the reference about every frame: true labels.")
@click.option(
    "--metrics-file",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="Write metrics here every few seconds, for node_exporter.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve metrics for Prometheus on this port, and a page of the run at /.",
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of that port.")
@click.option("--processes", type=click.IntRange(1), help="Processes that decode [default: one a CPU].")
@live_timeout_option
@click.option("--resume", is_flag=True, help="Go on where a run that was ended stopped.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier run wrote.")
@json_option("Print what was done as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print errors and alarms only.")
@replica_options
@setting_options(*MODEL_SETTINGS)
def command(
    *,
    videos: tuple[str, ...],
    directory: Path,
    output: str,
    audit: float,
    seed: int,
    on_drift: OnDrift,
    every_frame: bool,
    metrics_file: Path | None,
    metrics_port: int | None,
    metrics_host: str,
    processes: int | None,
    live_timeout_s: float,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Label every frame of VIDEO...: is the object of the cascade's query there?

    Frames that do not change, and those that the cascade's small network is sure of, do not reach the
    reference, but for a sample of them, the audit. In the end it says what was promised and what observed.

    \b
    Exit codes: 0 done, 1 a video cannot be read to its end, 2 wrong options,
    3 the audit found a budget broken.

    \b
    Example:
      cpuserve video run day2.mp4 --cascade cars/ -o day2.csv
      cpuserve video run day2/ --cascade cars/ -o labels/ --audit 0.02 --on-drift tighten
      cpuserve video run day2.mp4 --cascade cars/ -o day2.csv --replicas http://a:8000,http://b:8000
    """
    from cpuserve.cli.video.run_progress import RunProgress  # noqa: PLC0415  # not for --help
    from cpuserve.video.cascade_file import Cascade  # noqa: PLC0415
    from cpuserve.video.cascade_run import CascadeRun  # noqa: PLC0415
    from cpuserve.video.cascade_stage import CascadeStage, Thresholds  # noqa: PLC0415
    from cpuserve.video.decoding import kept_decoders  # noqa: PLC0415
    from cpuserve.video.video_run import label_files, plan_labels, run_videos  # noqa: PLC0415
    from cpuserve.video.video_sources import find_videos  # noqa: PLC0415

    cascade = Cascade.load(directory)
    sources = find_videos(videos)
    files = plan_labels(sources, Path(output), directory=output.endswith("/"))
    asked: dict[str, Any] = {
        "cascade": cascade.files,
        "query": cascade.query,
        "thresholds": repr(cascade.choice),
    }
    asked |= {"audit": audit, "seed": seed, "on_drift": on_drift, "every_frame": every_frame}
    record = label_files(files, sources, asked, resume=resume, overwrite=overwrite)
    with (
        ended_by_signals("the same command with --resume goes on"),
        kept_decoders(CascadeStage(directory, cascade, Thresholds.of(cascade)), processes),
        _reference(cascade, config, flags) as reference,
        _metrics(cascade, sources, metrics_file, metrics_port, metrics_host) as metrics,
        RunProgress(sources, shown=not (quiet or as_json)) as watcher,
    ):
        run = CascadeRun(
            *(directory, cascade, reference),
            audit_rate=audit,
            seed=seed,
            on_drift=on_drift,
            processes=processes,
            every_frame=every_frame,
            live_timeout_s=live_timeout_s,
        )
        summary = run_videos(sources, run, cascade.promise, files, record, watcher=watcher, metrics=metrics)
        document = summary.as_json() | _replica_report(reference)
        _keep_observed(directory, run, summary, record)
    _end(summary, document, as_json=as_json, quiet=quiet)


def _end(summary: RunSummary, document: dict[str, Any], *, as_json: bool, quiet: bool) -> NoReturn:
    """Print the summary, then the errors, and end with the exit code."""
    if as_json:
        click.echo(orjson.dumps(document))
    elif not quiet:
        click.echo(summary.text())
    for name, error in summary.errors.items():
        click.echo(f"cpuserve: error: {error if name in error else f'{name}: {error}'}", err=True)
    sys.exit(1 if summary.errors else _BROKEN if summary.broken else 0)


@contextmanager
def _reference(
    cascade: Cascade, config: Path | None, flags: dict[str, Any]
) -> Iterator[FrameModel | Replicas]:
    """The model of the training: here, or on the replicas that the options name."""
    from cpuserve.video.frame_model import open_frame_model  # noqa: PLC0415
    from cpuserve.video.query import check_classes  # noqa: PLC0415

    wanted = cascade.reference
    name, scaler = f"{wanted.model}/{wanted.version}", wanted.scale.scaler
    replicas = opened_replicas(name, scaler, flags, checksum=wanted.checksum)
    if replicas is not None:
        with replicas:
            yield replicas
        return
    with open_frame_model(name, model_settings(name, config, flags), scaler=scaler) as model:
        check_classes(cascade.parsed_query().classes, model.labels)
        yield model


@contextmanager
def _metrics(
    cascade: Cascade, sources: list[VideoSource], file: Path | None, port: int | None, host: str
) -> Iterator[RunMetrics | None]:
    """The metrics that the options ask for."""
    from cpuserve.video.run_metrics import RunMetrics  # noqa: PLC0415

    if file is None and port is None:
        yield None
        return
    names = [source.name for source in sources]
    metrics = RunMetrics(cascade.promise, file=file, port=port, host=host, query=cascade.query, videos=names)
    try:
        yield metrics
    finally:
        metrics.close()


def _keep_observed(directory: Path, run: CascadeRun, summary: RunSummary, record: RunRecord) -> None:
    """Show what the audit observed in the report of the cascade; without an audit there is nothing."""
    from cpuserve.video.observed_run import observed_run  # noqa: PLC0415
    from cpuserve.video.run_history import keep_observed  # noqa: PLC0415

    if run.audit is None or not run.counts.frames:
        return
    observed = observed_run(
        *(run.counts, run.audit, run.drift),
        videos=list(record.done),
        labels=str(record.path.absolute()),
        dropped=summary.dropped,
    )
    try:
        keep_observed(directory, summary.promise, observed)
    except UsageError as error:
        click.echo(f"cpuserve: warning: {error}", err=True)


def _replica_report(reference: FrameModel | Replicas) -> dict[str, Any]:
    from cpuserve.video.replicas import Replicas  # noqa: PLC0415

    return {"reference": reference.report()} if isinstance(reference, Replicas) else {}
