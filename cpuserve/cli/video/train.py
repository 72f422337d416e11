"""`cpuserve video train`: learns a cascade that answers for a model at less cost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import SEED, NumberRange
from cpuserve.cli.options import json_option, setting_options
from cpuserve.cli.video.model_options import MODEL_SETTINGS, model_settings, scaler_option
from cpuserve.cli.video.replica_options import opened_replicas, replica_options
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.video.query import Query
    from cpuserve.video.train import Training, TrainingOptions
    from cpuserve.video.training_clip import Progress
    from cpuserve.video.training_files import Learnt

__all__ = ["command"]

_FILE = LocalPath(dir_okay=False, path_type=Path)
_SHARE = NumberRange(0, 1, min_open=True, max_open=True)
_AT_MOST_ONE = NumberRange(0, 1, min_open=True)


@click.command("train")
@click.argument("videos", nargs=-1, type=_FILE, metavar="VIDEO...")
@click.option("--reference", metavar="NAME[/VERSION]", help="Model whose answers are right.")
@click.option("--query", metavar="CLASS,...[@REGION]", help="What is looked for, as car,truck@0,0.55,1,1.")
@click.option(
    "--fn",
    type=_SHARE,
    default=0.01,
    show_default=True,
    help="Share of the windows of 30 frames with the object that may be missed.",
)
@click.option(
    "--fp",
    type=_SHARE,
    default=0.01,
    show_default=True,
    help="Share of the windows without it that may be reported.",
)
@click.option(
    "--confidence",
    type=_SHARE,
    default=0.95,
    show_default=True,
    help="Probability that a promise is kept.",
)
@click.option(
    "-o",
    "--output",
    type=LocalPath(path_type=Path),
    required=True,
    metavar="DIR",
    help="Directory of the cascade; that of an earlier training is replaced.",
)
@click.option(
    "--regions",
    type=_FILE,
    metavar="FILE.toml",
    help="Polygons that queries may name, as door = [[0.1,0.2],[0.4,0.2],[0.4,0.9]].",
)
@click.option(
    "--min-score", type=_AT_MOST_ONE, help="Boxes with a lower probability do not count [default: 0.4]."
)
@click.option(
    "--min-area",
    type=_AT_MOST_ONE,
    help="Share of the region that a segmenter's classes cover [default: 0.01].",
)
@click.option(
    "--labels",
    multiple=True,
    type=_FILE,
    metavar="FILE.csv",
    help="Labels of your own instead of the reference's, one file for each video: "
    "frame,object_name,confidence,xmin,ymin,xmax,ymax.",
)
@click.option(
    "--scores",
    type=_FILE,
    metavar="DIR/scores.npz",
    help="Choose again from an earlier training, with other budgets or another query: nothing is decoded.",
)
@click.option(
    "--specialised",
    multiple=True,
    type=_FILE,
    metavar="NET.xml|NET.onnx",
    help="Network of your own, as IR or ONNX: u8 [n,h,w,3] in, one probability out; repeatable.",
)
@click.option(
    "--train-share",
    type=_SHARE,
    default=0.4,
    show_default=True,
    help="Share of the label's changes to learn on.",
)
@click.option(
    "--choose-share",
    type=_SHARE,
    default=0.2,
    show_default=True,
    help="Share to choose thresholds on; the rest proves the promise.",
)
@click.option(
    "--most-labels",
    type=int,
    default=20_000,
    show_default=True,
    metavar="N",
    help="Frames to label at most; of longer videos, minutes spread over the whole time.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the training of networks.")
@click.option(
    "--trainer",
    type=SuggestingChoice(["numpy", "torch"]),
    default="numpy",
    show_default=True,
    help="Who trains the networks: torch needs the extra torch. The networks have the same layers.",
)
@click.option(
    "--answers",
    type=LocalPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the reference's answers are kept for later trainings [default: video-answers in the cache].",
)
@scaler_option
@click.option("--parquet", is_flag=True, help="Keep the scores in scores.parquet, not scores.npz.")
@json_option("Print what was chosen and promised as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@replica_options
@setting_options(*MODEL_SETTINGS)
def command(
    videos: tuple[Path, ...],
    output: Path,
    scores: Path | None,
    fn: float,
    fp: float,
    confidence: float,
    parquet: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Learn a cascade from VIDEO... of one camera, which `cpuserve video run` then runs on others of it.

    The reference labels the videos. The cheapest cascade of frame skipping, difference detector and small
    network is chosen that errs on no more windows of 30 frames than --fn and --fp, and that is promised if
    the rest of the labelled time proves it. Where it does not, nothing is promised, and it is said how many
    more minutes to label; the exit code is 0 also then.

    \b
    Example:
      cpuserve video train monday.mp4 --reference yolox_nano --query car@0,0.55,1,1 -o cars
      cpuserve video train --scores cars/scores.npz --fn 0.05 --fp 0.05 -o cheaper
      cpuserve video train --scores cars/scores.npz --query person -o people
    """
    from cpuserve.cli.video.training_progress import training_progress  # noqa: PLC0415
    from cpuserve.video.guarantee import Budgets  # noqa: PLC0415
    from cpuserve.video.outputs.tables import check_pyarrow  # noqa: PLC0415
    from cpuserve.video.train import finish  # noqa: PLC0415
    from cpuserve.video.training_files import new_directory  # noqa: PLC0415

    budgets = Budgets(fn, fp, confidence)
    if parquet:
        check_pyarrow()
    with (
        _tidy_end(),
        new_directory(output) as made,
        TemporaryDirectory(dir=made) as scratch,
        training_progress(shown=not quiet) as report,
    ):
        if scores is None:
            learnt = _learn(videos, Path(scratch), report, flags)
        else:
            learnt = _again(videos, scores, Path(scratch), report, flags)
        training = finish(learnt, budgets, made, ".parquet" if parquet else ".npz")
    _show(training, output, as_json=as_json, quiet=quiet)


@contextmanager
def _tidy_end() -> Iterator[None]:
    """Lets SIGTERM end the command as Ctrl-C does, so that nothing half done stays."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _learn(videos: tuple[Path, ...], scratch: Path, report: Progress, flags: dict[str, Any]) -> Learnt:
    """Opens the reference and learns."""
    from cpuserve.video.frame_model import open_frame_model  # noqa: PLC0415
    from cpuserve.video.train import learn  # noqa: PLC0415

    reference, query, scaler = flags["reference"], flags["query"], flags.pop("scaler")
    if not videos or reference is None or query is None:
        missing = "a VIDEO" if not videos else "--reference MODEL" if reference is None else "--query CLASS"
        raise UsageError(f"{missing} is missing: to learn takes a VIDEO, --reference and --query")
    replicas = opened_replicas(reference, scaler, flags)
    options = _options(flags, local=replicas is None)
    text = {name: flags.pop(name) for name in ("query", "regions", "min_score", "min_area")}
    del flags["reference"]
    config: Path | None = flags.pop("config")
    if replicas is not None:
        with replicas:  # they do not say the names of their classes
            return learn(videos, replicas, (), _query((), **text), options, scratch, report=report)
    settings = model_settings(reference, config, flags)
    with open_frame_model(reference, settings, scaler=scaler) as opened:
        asked = _query(opened.labels, **text)
        return learn(videos, opened, opened.labels, asked, options, scratch, report=report)


def _again(
    videos: tuple[Path, ...], scores: Path, scratch: Path, report: Progress, flags: dict[str, Any]
) -> Learnt:
    """Takes what an earlier training learnt, labelled anew if the query is another one."""
    from cpuserve.video.train import label_again  # noqa: PLC0415
    from cpuserve.video.training_files import Learnt  # noqa: PLC0415

    given = [f"--{name}" for name in ("reference", "labels", "specialised", "replicas") if flags[name]]
    if videos or given:
        raise UsageError(
            "--scores takes what an earlier training read: leave out "
            f"{', '.join([*map(str, videos), *given])}"
        )
    learnt = Learnt.load(scores)
    before = learnt.facts.query
    if all(flags[name] is None for name in ("query", "regions", "min_score", "min_area")):
        return learnt
    asked = _query(
        learnt.facts.labels,
        query=flags["query"] or before.text,
        regions=flags["regions"],
        min_score=before.min_score if flags["min_score"] is None else flags["min_score"],
        min_area=before.min_area if flags["min_area"] is None else flags["min_area"],
    )
    return label_again(learnt, asked, _options(flags, local=True), scratch, report=report)


def _options(flags: dict[str, Any], *, local: bool) -> TrainingOptions:
    """Takes the options of learning out of ``flags``."""
    from cpuserve.video.own_labels import read_labels  # noqa: PLC0415
    from cpuserve.video.train import TrainingOptions  # noqa: PLC0415

    options = TrainingOptions(
        train_share=flags.pop("train_share"),
        choose_share=flags.pop("choose_share"),
        most_labels=flags.pop("most_labels"),
        own_cnns=flags.pop("specialised"),
        own_labels=[read_labels(path) for path in flags.pop("labels")],
        seed=flags.pop("seed"),
        trainer=flags.pop("trainer"),
        local=local,
    )
    answers: Path | None = flags.pop("answers")
    return options if answers is None else replace(options, answers=answers)


def _query(
    labels: tuple[str, ...],
    *,
    query: str,
    regions: Path | None,
    min_score: float | None,
    min_area: float | None,
) -> Query:
    from cpuserve.video.query import MIN_AREA, MIN_SCORE, Query  # noqa: PLC0415
    from cpuserve.video.region import load_regions  # noqa: PLC0415

    return Query.parse(
        query,
        labels=labels,
        regions=None if regions is None else load_regions(regions),
        min_score=MIN_SCORE if min_score is None else min_score,
        min_area=MIN_AREA if min_area is None else min_area,
    )


def _show(training: Training, output: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({"directory": str(output), **training.summary()}))
        return
    if quiet:
        return
    from rich.table import Table  # noqa: PLC0415

    from cpuserve.video.cascade_page import choice_words  # noqa: PLC0415

    chosen = training.chosen
    summary = training.summary()
    click.echo(f"{training.learnt.facts.query.text}: {choice_words(chosen.choice)}")
    table = Table("CPU time a frame", "ms", "times the cascade's")
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, seconds in (
        ("the cascade", chosen.cost_s),
        ("the reference on every frame", chosen.reference_s),
        ("the reference on the frames that the cascade looks at", chosen.sampled_s),
    ):
        table.add_row(name, f"{seconds * 1e3:.2f}", f"{seconds / chosen.cost_s:.1f}")
    show_table(table)
    table = Table("part", "minutes", "label changes", "windows with it", "windows without it")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, counts in summary["counts"].items():
        cells = (f"{counts['minutes']:.1f}", *(str(counts[key]) for key in _COUNTED))
        table.add_row(name, *cells)
    show_table(table)
    for sentence in (*chosen.promise.words, *training.learnt.table.notes):
        click.echo(sentence)
    click.echo(f"{output}/cascade.toml is what `cpuserve video run` takes, {output}/report.html tells more.")


_COUNTED = ("changes", "positive_windows", "negative_windows")
