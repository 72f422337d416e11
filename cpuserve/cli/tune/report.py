"""`cpuserve tune report`: shows in the terminal and as a page what a search found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import show_table
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option, setting_options, settings_from
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cpuserve.tune.report import SearchReport

__all__ = ["command"]

_OPENMP = "openmp.json"


@click.command("report")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--machine",
    metavar="FINGERPRINT",
    help="Directory of tuning_dir to report [default: that of this machine].",
)
@click.option(
    "--out",
    type=LocalPath(dir_okay=False, path_type=Path),
    help="File of the page [default: MODEL.html beside the trials].",
)
@click.option(
    "--openmp",
    type=LocalPath(exists=True, dir_okay=False, path_type=Path),
    help=f"Results of python -m benchmarks.openmp to show [default: {_OPENMP} beside the trials].",
)
@json_option("Print the report as JSON; no page is written.")
@click.option("--quiet", is_flag=True, help="Print only the path of the page.")
@setting_options("tuning_dir")
def command(
    models: tuple[str, ...],
    *,
    machine: str | None,
    out: Path | None,
    openmp: Path | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Show what tuning MODEL found: the chosen settings, their gain, and the effect of each setting.

    Name several models that were tuned together. The page is one self-contained file.

    \b
    Exit codes: 0 done, 2 there are no trials, or wrong options.

    \b
    Example:
      cpuserve tune report mobilenet_v2_1.0_224_quant
      cpuserve tune report digits --out report.html
    """
    from cpuserve.tune.conclusion import conclude  # noqa: PLC0415  # not for --help
    from cpuserve.tune.page import page  # noqa: PLC0415
    from cpuserve.tune.preset_store import PresetStore  # noqa: PLC0415
    from cpuserve.tune.report import report_of  # noqa: PLC0415

    name = "+".join(models)
    store = PresetStore(settings_from(config, flags).tuning_dir)
    trials = store.trials_file(machine or _this_machine(), name)
    beside = trials.with_name(_OPENMP)
    verdicts = _verdicts(openmp or (beside if beside.is_file() else None))
    report = report_of(trials, name, verdicts)
    conclusion = conclude(report)
    if as_json:
        click.echo(orjson.dumps(report.document(conclusion)))
        return
    file = out or trials.with_name(f"{name}.html")
    try:
        file.write_text(page(report, conclusion), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {file}: {error.strerror}") from error
    if not quiet:
        _show(report, conclusion)
    click.echo(f"page: {file}")


def _this_machine() -> str:
    from cpuserve.machine.budget import Budget  # noqa: PLC0415
    from cpuserve.machine.fingerprint import Fingerprint  # noqa: PLC0415
    from cpuserve.machine.topology import Topology  # noqa: PLC0415

    return Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short


def _verdicts(file: Path | None) -> Sequence[Mapping[str, Any]]:
    if file is None:
        return ()
    try:
        found: list[Mapping[str, Any]] = json.loads(file.read_text())["verdicts"]
        if all({"process", "environment", "words", "why"} <= verdict.keys() for verdict in found):
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--openmp {file}: no verdicts in it ({error!r:.80})") from error
    raise UsageError(f"--openmp {file}: its verdicts lack process, environment, words or why")


def _show(report: SearchReport, conclusion: Sequence[str]) -> None:
    from rich.table import Table  # noqa: PLC0415  # not for --help and --json

    from cpuserve.tune.report import settings_words  # noqa: PLC0415

    for line in conclusion:
        click.echo(f"- {line}")
    table = Table("", "settings", "images/s", "p99 ms", "CPU ms", "MiB", "noise", title=report.model)
    rows = [] if report.best is None else [("chosen", report.best)]
    for name, standing in rows + [(rival.name, rival.standing) for rival in report.rivals]:
        figures = standing.trial.figures
        if figures is not None:
            table.add_row(
                name,
                settings_words(standing.point),
                f"{figures.images_per_s:.4g}",
                f"{figures.p99_ms:.3g}",
                f"{figures.cpu_ms:.3g}",
                f"{figures.rss_mib:.0f}",
                f"{100 * standing.noise:.1f} %",
            )
    if table.rows:
        show_table(table)
    knobs = Table("knob", "verdict", "of", "method", title=f"effect on {report.objective.metric.title}")
    for one in report.effects:
        strongest = one.strongest
        value = "" if strongest is None else f"{strongest.value} against {strongest.against}"
        knobs.add_row(one.knob, one.words, value, "" if strongest is None else strongest.method)
    if knobs.rows:
        show_table(knobs)
    if report.openmp:
        verdicts = Table(
            "process", "environment", "verdict", "what was read back", title="OpenMP's variables"
        )
        for verdict in report.openmp:
            verdicts.add_row(*(str(verdict[key]) for key in ("process", "environment", "words", "why")))
        show_table(verdicts)
