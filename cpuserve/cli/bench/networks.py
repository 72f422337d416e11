"""`cpuserve bench networks`: times well-known networks on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cpuserve.cli.console import progress
from cpuserve.cli.figures import OUTPUT_FOLDER
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from cpuserve.bench.networks import NetworkRow
    from cpuserve.bench.networks_table import Comparison
    from cpuserve.measuring.journal import Journal

__all__ = ["command"]

_INTERRUPTED = 130


@click.command("networks")
@click.option(
    "--networks", default="all", show_default=True, metavar="NAME,...", help="Networks to time, of the 13."
)
@click.option(
    "--batches", default="1,2,4,8,16,32,64,128", show_default=True, metavar="INT,...", help="Batch sizes."
)
@click.option(
    "--precisions",
    default="f32,bf16",
    show_default=True,
    metavar="NAME,...",
    help="Precisions: f32, bf16, f16 and int8 (which needs cpuserve[quantize]).",
)
@click.option(
    "--passes", type=click.IntRange(1), default=5, show_default=True, help="Timed passes for each figure."
)
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    help="Write figures, tables and plots (SVG) to this directory.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option(
    "--compare",
    "table",
    type=LocalPath(path_type=Path),
    help="A table.csv of another machine to compare with.",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(1),
    metavar="MB",
    help="Skip what needs more MiB than this.  [default: 80 % of free memory]",
)
@json_option("Print the figures as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing.")
def command(
    *,
    networks: str,
    batches: str,
    precisions: str,
    passes: int,
    out: Path | None,
    resume: bool,
    table: Path | None,
    memory_limit: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time 13 networks of the literature, with random weights, over batch sizes and precisions.

    Prints milliseconds an image, the mean of the passes with their standard deviation. One batch at a time is
    computed by all cores this process may use. What needs more memory than there is, or a precision that the
    CPU does not have, is skipped with the reason. A run with --out that was stopped, or killed, goes on with
    --resume; finished figures are not measured again.

    \b
    Example:
      cpuserve bench networks --networks mobilenet,resnet50 --batches 1,8
      cpuserve bench networks --out here
      cpuserve bench networks --out here --resume --compare there/table.csv
    """
    from cpuserve.authoring.zoo.networks import NETWORKS  # noqa: PLC0415  # OpenVINO only when it is needed
    from cpuserve.bench.networks import NetworksPlan, machine_name, measure_networks, memory_limit_bytes  # noqa: PLC0415
    from cpuserve.bench.networks_table import SavedTable, compare, comparison_markdown, markdown  # noqa: PLC0415

    plan = NetworksPlan(
        networks=tuple(NETWORKS) if networks == "all" else _words(networks),
        precisions=_words(precisions),
        batches=_numbers(batches),
        passes=passes,
        limit_bytes=memory_limit << 20 if memory_limit else memory_limit_bytes(),
    )
    other = SavedTable.read(table) if table else None
    if other and not set(other.ms) & set(plan.cells):
        raise UsageError(f"--compare {table}: none of its figures is among those asked for")
    journal = _journal(out, resume=resume)
    try:
        with _bar(len(plan.cells), shown=not (quiet or as_json)) as step:
            rows = measure_networks(plan, journal, step)
    except KeyboardInterrupt:
        said = f"; the same command with --resume goes on from what is in {out}" if out else ""
        click.echo(f"cpuserve: stopped{said}", err=True)
        sys.exit(_INTERRUPTED)
    machine = machine_name()
    found = compare(rows, other) if other else []
    if out is not None:
        _write(out, rows, machine, passes)
        if other:
            _write_comparison(out, found, machine, other.name)
    if as_json:
        figures = {"machine": machine, "figures": [asdict(row) for row in rows]}
        click.echo(orjson.dumps(figures | (_beside(found, other.name) if other else {})))
    elif not quiet:
        click.echo(markdown(rows, machine, passes), nl=False)
        if other:
            click.echo(comparison_markdown(found, machine, other.name), nl=False)


def _journal(out: Path | None, *, resume: bool) -> Journal | None:
    """Where figures are kept as they come: in a directory that is there from now on, or nowhere."""
    from cpuserve.measuring.journal import Journal  # noqa: PLC0415

    if out is None:
        if resume:
            raise UsageError("--resume goes on with the run in --out DIR: which?")
        return None
    journal = Journal(out / "figures.jsonl")
    if journal.file.exists() and not resume:
        raise UsageError(f"{out} has a run already: --resume goes on with it; or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: {error}") from error
    return journal


def _write(out: Path, rows: list[NetworkRow], machine: str, passes: int) -> None:
    from cpuserve.bench.networks_plots import write_plots  # noqa: PLC0415
    from cpuserve.bench.networks_table import csv_text, markdown  # noqa: PLC0415
    from cpuserve.measuring.results import write_result  # noqa: PLC0415

    (out / "table.csv").write_text(csv_text(rows, machine))
    (out / "table.md").write_text(markdown(rows, machine, passes))
    write_plots(rows, out, machine)
    write_result(
        out / "networks.json", ["cpuserve", *sys.argv[1:]], {"figures": [asdict(row) for row in rows]}
    )


def _write_comparison(out: Path, found: list[Comparison], machine: str, other: str) -> None:
    from cpuserve.bench.networks_table import comparison_csv, comparison_markdown  # noqa: PLC0415

    (out / "compare.md").write_text(comparison_markdown(found, machine, other))
    (out / "compare.csv").write_text(comparison_csv(found, machine, other))


def _beside(found: list[Comparison], other: str) -> dict[str, Any]:
    return {"compared_with": other, "compared": [{**asdict(one), "ratio": one.ratio} for one in found]}


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise UsageError(f"--batches {text}: numbers with commas between, such as 1,8,32") from None


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[NetworkRow], None]]:
    """Yields what moves a bar on by a figure; it is not drawn outside a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415  # not for --help

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress(*columns, shown=shown) as bars:
        task = bars.add_task("networks", total=total)

        def step(row: NetworkRow) -> None:
            said = f"{row.ms_per_image:.3g} ms" if row.ms_per_image is not None else "skipped"
            shown = f"{row.network} {row.precision} batch {row.batch}: {said}"
            bars.update(task, advance=1, description=shown)

        yield step
