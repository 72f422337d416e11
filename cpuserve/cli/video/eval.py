"""`cpuserve video eval`: compares the labels of a run with true ones, in windows of 30 frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option
from cpuserve.errors import CpuserveError

if TYPE_CHECKING:
    from cpuserve.video.evaluation import Evaluation
    from cpuserve.video.windows import Rate

__all__ = ["command"]

_SHARE = NumberRange(0, 1)


@click.command("eval")
@click.argument("labels", type=LocalPath(dir_okay=False, path_type=Path))
@click.option(
    "--truth",
    type=LocalPath(dir_okay=False, path_type=Path),
    required=True,
    help="True labels: a file as LABELS, or scores.npz or scores.parquet of `video train`.",
)
@click.option(
    "--confidence",
    type=NumberRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence of the intervals.",
)
@click.option("--fn", type=_SHARE, help="Fail when a larger share of the windows with the object is missed.")
@click.option("--fp", type=_SHARE, help="Fail when a larger share of those without it is reported.")
@json_option("Print the figures as one JSON object.")
@click.option("--quiet", is_flag=True, help="Print nothing; see the exit code.")
def command(
    *,
    labels: Path,
    truth: Path,
    confidence: float,
    fn: float | None,
    fp: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare LABELS, a file of `cpuserve video run`, with true labels.

    Both are .csv or .jsonl files with `frame` and `label` (0 or 1) for each frame. Frames are counted one by
    one and in windows of 30: a window is positive when at least 28 of its frames are. Windows of which a
    frame is missing in either file are left out.

    \b
    FN: share of the truly positive windows that are labelled negative.
    FP: share of the truly negative windows that are labelled positive.
    Exit codes: 0 done, 1 above --fn or --fp, 2 wrong options or files.

    \b
    Example:
      cpuserve video eval labels.csv --truth reference.csv
      cpuserve video eval labels.csv --truth cascade/scores.npz --fn 0.02 --fp 0.02
    """
    from cpuserve.video.evaluation import evaluate  # noqa: PLC0415  # not for --help

    found = evaluate(labels, truth, confidence=confidence)
    if as_json:
        click.echo(orjson.dumps(_document(found)))
    elif not quiet:
        _show(found)
    rates = {"fn": (found.accuracy.fn, fn), "fp": (found.accuracy.fp, fp)}
    for name, (rate, budget) in rates.items():
        if budget is not None and rate.value is None:
            raise CpuserveError(f"there is no window to tell {name.upper()} from: --{name} cannot be checked")
        if budget is not None and rate.value is not None and rate.value > budget:
            raise CpuserveError(f"{name.upper()} is {rate.value:.2%} of windows, above --{name} {budget:.2%}")


def _document(found: Evaluation) -> dict[str, Any]:
    document = dataclasses.asdict(found)
    for name in ("fn", "fp", "frames_fn", "frames_fp"):
        document["accuracy"][name]["rate"] = getattr(found.accuracy, name).value
    document["accuracy"]["agreement"] = found.accuracy.agreement
    return document


def _show(found: Evaluation) -> None:
    from rich.table import Table  # noqa: PLC0415  # not for --help and --json

    of = found.accuracy
    table = Table("", "wrong", "of", "rate", f"interval, {of.confidence:.3g}", "events", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = (
        ("FN, windows", of.fn, str(of.events_fn)),
        ("FP, windows", of.fp, str(of.events_fp)),
        ("FN, frames", of.frames_fn, ""),
        ("FP, frames", of.frames_fp, ""),
    )
    for name, rate, events in rows:
        interval = f"{100 * rate.low:.2f} - {100 * rate.high:.2f} %"
        table.add_row(name, str(rate.wrong), str(rate.of), _share(rate), interval, events)
    show_table(table)
    if found.stages:
        stages = Table("decided by", "frames", "share", "missed", "invented", box=None)
        for column in stages.columns[1:]:
            column.justify = "right"
        for one in found.stages:
            share = f"{one.frames / found.frames:.1%}"
            stages.add_row(one.stage, str(one.frames), share, str(one.missed), str(one.invented))
        show_table(stages)
    agreement = "" if of.agreement is None else f", {of.agreement:.2%} of them labelled alike"
    click.echo(
        f"{found.frames} frames, {of.windows} windows{agreement}; the true label changes {of.changes} times"
    )
    for count, words in (
        (of.left_out, "frames are in no whole window"),
        (found.only_labels, "frames have no true label"),
        (found.only_truth, "frames with a true label are missing in the labels"),
    ):
        if count:
            click.echo(f"{count} {words}")
    click.echo(
        "The intervals take windows for independent. Errors of one event come together, so that few events, "
        "or changes of the label, say less than many windows."
    )


def _share(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.value:.2%}"
