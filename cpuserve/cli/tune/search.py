"""`cpuserve tune MODEL...`: searches for the best settings, keeps and shows them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import orjson

from cpuserve.cli.figures import check_folder
from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.number_range import NumberRange
from cpuserve.cli.options import json_option, pictures_option, setting_options, settings_from
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.tune.search import Search
    from cpuserve.tune.trial import Trial
    from cpuserve.tune.tuning_run import TuningRequest, TuningResult

__all__ = ["command"]

_BUDGET = "20m"
_WINDOWS_A_BUDGET = 120
_WINDOW_S = (0.25, 2.0)
_INTERRUPTED = 130
_WIDTH = 118
_PRECISIONS = ("auto", "f32", "bf16", "f16")


@click.command("search")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--objective",
    type=SuggestingChoice(["throughput", "latency", "cpu_per_request"]),
    default="throughput",
    show_default=True,
    help="Most images a second, least p99, or least CPU time an image.",
)
@click.option(
    "--constraint", "constraints", multiple=True, metavar="'FIGURE<=N'", help="As 'p99_ms<=50'; repeatable."
)
@click.option("--max-trials", type=click.IntRange(1), help="Trials at most, those of earlier runs too.")
@click.option(
    "--budget", metavar="TIME", help=f"As 40s, 20m, 1h30m, earlier runs too; {_BUDGET} without --max-trials."
)
@click.option(
    "--mode",
    type=SuggestingChoice(["auto", "brute", "quick", "optuna"]),
    default="auto",
    show_default=True,
    help="Every point, a pattern search, or Optuna; auto: every point where all fit, else quick.",
)
@click.option(
    "--level",
    type=SuggestingChoice(["http", "engine"]),
    default="http",
    show_default=True,
    help="Measure a server, or its pipeline without HTTP.",
)
@click.option("--mix", metavar="N:N", help="Requests for each of several models, as 3:1; one each without.")
@pictures_option
@click.option(
    "--precisions",
    default="auto",
    show_default=True,
    metavar="LIST",
    help="Precisions that may be tried, as auto,f32: others than the default change the answers.",
)
@click.option(
    "--window-seconds",
    type=NumberRange(0.1),
    help="Of one window; without it a 120th of the budget, from 0.25 to 2.",
)
@json_option("Print what was found as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing; the preset and the exit code say it.")
@setting_options("model_repository", "tuning_dir")
def command(
    *,
    models: tuple[str, ...],
    objective: str,
    constraints: tuple[str, ...],
    max_trials: int | None,
    budget: str | None,
    mode: str,
    level: Literal["http", "engine"],
    mix: str | None,
    images: Path | None,
    precisions: str,
    window_seconds: float | None,
    as_json: bool,
    quiet: bool,
    config: Path | None,
    **flags: Any,
) -> None:
    """Find the settings that serve MODEL best on this machine; several models share it.

    Each trial runs in fresh processes on the seats it asks for. The defaults are measured first and last, to
    show drift, and what OpenVINO's hints choose for comparison. What wins is kept below --tuning-dir, by
    machine, and cpuserve serve applies it. Ended by Ctrl-C or killed, the same command goes on after the last
    trial that was done.

    \b
    Exit codes: 0 done, 1 it could not be measured, 2 wrong options,
    3 no settings keep the constraints: no preset is written, 130 ended by Ctrl-C.

    \b
    Example:
      cpuserve tune digits --objective throughput --constraint 'p99_ms<=50' --budget 20m
      cpuserve tune mobilenet yolox --mix 3:1 --images photos --max-trials 60
    """
    from cpuserve.models.repository import Repository  # noqa: PLC0415  # not for --help
    from cpuserve.tune.measurer import Measurer  # noqa: PLC0415
    from cpuserve.tune.objective import Objective  # noqa: PLC0415
    from cpuserve.tune.search import SearchLimits  # noqa: PLC0415
    from cpuserve.tune.tuning_run import TuningRequest, parse_mix, tune  # noqa: PLC0415

    settings = settings_from(config, flags)
    check_folder(settings.tuning_dir, "--tuning-dir")
    repository = Repository(settings.model_repository)
    models = tuple(repository.find(model).name for model in models)
    if len(set(models)) < len(models):
        raise UsageError(f"{' '.join(models)}: name each model once; --mix says how often it is asked")
    limits = SearchLimits.parse(max_trials, budget or (None if max_trials else _BUDGET))
    request = TuningRequest(
        models=models,
        repository=settings.model_repository,
        tuning_dir=settings.tuning_dir,
        objective=Objective.parse(objective, constraints),
        limits=limits,
        mode=mode,
        level=level,
        mix=parse_mix(mix, models),
        images=images,
        precisions=_precisions(precisions),
        command=shlex.join(["cpuserve", *sys.argv[1:]]),
    )
    measurer = Measurer(
        models,
        settings.model_repository,
        images,
        level=level,
        mix=request.mix,
        window_seconds=window_seconds or _window_s(limits.seconds),
    )
    with _progress(request, hidden=quiet or as_json) as (on_start, on_trial):
        try:
            outcome = tune(request, measurer, on_start=on_start, on_trial=on_trial)
        except KeyboardInterrupt:
            if not quiet:
                click.echo(f"ended; every trial that was done is kept. Go on: {request.command}", err=True)
            sys.exit(_INTERRUPTED)
    if as_json:
        click.echo(orjson.dumps(outcome.document()))
    elif not quiet:
        _show(outcome)
    sys.exit(3 if outcome.best.excess else 0)


def _window_s(budget_s: float | None) -> float:
    """A short budget buys more trials with more noise."""
    shortest, longest = _WINDOW_S
    return longest if budget_s is None else max(shortest, min(longest, budget_s / _WINDOWS_A_BUDGET))


def _precisions(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    wrong = [word for word in words if word not in _PRECISIONS]
    if wrong:
        raise UsageError(f"--precisions {wrong[0][:40]!r}: there are {', '.join(_PRECISIONS)}")
    return words


@contextmanager
def _progress(request: TuningRequest, *, hidden: bool) -> Iterator[tuple[Any, Any]]:
    """A bar with the best so far on a terminal, a line a trial elsewhere; both on stderr."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True, quiet=hidden)
    columns = (TextColumn("{task.completed} trials"), BarColumn(), TimeElapsedColumn())
    live = Progress(
        *columns, TextColumn("{task.description}"), console=console, disable=not console.is_terminal
    )
    task = live.add_task("the defaults", total=None)
    unit = request.objective.metric.title

    def on_start(notes: Sequence[str]) -> None:
        for note in notes:
            console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)

    def on_trial(trial: Trial, search: Search) -> None:
        best = search.objective.best(search.journal.trials)
        if best is not None and best.trial.figures is not None:
            value = search.objective.value(best.trial.figures)
            words = f"best so far {value:.1f} {unit} ({_words(best.point)})"
            live.update(task, completed=trial.number + 1, total=search.expected_trials, description=words)
        if not console.is_terminal:
            line = f"{trial.number + 1}. {trial.reason}: {_words(trial.point)}: "
            figures = trial.figures
            line += f"{search.objective.value(figures):.1f} {unit}" if figures else f"failed: {trial.error}"
            console.print(line, soft_wrap=True, markup=False, highlight=False)

    with live:
        yield on_start, on_trial


def _words(point: Any) -> str:
    return ", ".join(f"{name.removeprefix('env.')} {value}" for name, value in point.knobs) or "the defaults"


def _show(outcome: TuningResult) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    objective = outcome.request.objective
    rows = {"the defaults": outcome.default}
    rows |= {f"OpenVINO's hint {name}": one for name, one in outcome.hints.items()}
    rows |= {"runner-up": outcome.runner_up} if outcome.runner_up else {}
    rows |= {"best": outcome.best}
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("")
    for title in ("images/s", "p50 ms", "p99 ms", "CPU ms", "MiB", "noise"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("settings")
    for name, one in rows.items():
        figures = one.trial.figures
        if figures is not None:
            cells = (figures.images_per_s, figures.p50_ms, figures.p99_ms, figures.cpu_ms, figures.rss_mib)
            noise = f"{one.noise:.1%}"
            table.add_row(name, *(f"{cell:.1f}" for cell in cells), noise, _words(one.point))
    Console(width=max(_WIDTH, Console().width)).print(table)
    space, failed = outcome.space, sum(trial.figures is None for trial in outcome.trials)
    click.echo(
        f"{len(outcome.trials)} trials ({failed} failed), {outcome.mode}, of {len(space.points)} points the "
        f"rules left of {space.total} combinations: {outcome.trials_file}"
    )
    if outcome.drift is not None:
        click.echo(f"drift: the defaults changed by {outcome.drift:+.1%} from the first to the last trial")
    if outcome.best.excess:
        wanted = ", ".join(map(str, objective.constraints))
        click.echo(f"nothing keeps {wanted}; the best breaks them by {outcome.best.excess:.0%}: no preset")
        return
    if outcome.best.point == outcome.default.point:
        click.echo(f"{objective.name}: the defaults stay, nothing that was tried beats them beyond the noise")
    else:
        verdict = "a tie within the noise" if outcome.within_noise else f"{outcome.gain:+.1%}"
        click.echo(f"{objective.name} against the defaults: {verdict}")
    for path in outcome.presets:
        click.echo(f"preset: {path}; cpuserve serve applies it")
