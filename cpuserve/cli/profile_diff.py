"""`cpuserve profile diff`: compares two profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpuserve.profiling.diff import Difference, FigureChange

__all__ = ["command"]

_LAYERS = 10


@click.command("diff")
@click.argument("before", metavar="A", type=LocalPath(exists=True, path_type=Path))
@click.argument("after", metavar="B", type=LocalPath(exists=True, path_type=Path))
@json_option("Print all figures of both as JSON.")
def command(before: Path, after: Path, *, as_json: bool) -> None:
    """Compare profile B with profile A: stages, CPU time, layers, findings.

    A and B are directories that cpuserve profile wrote, or their profile.json. Times of stages and CPU are
    those of one request, so profiles under different loads can be compared.

    \b
    Example:
      cpuserve profile diff profiles/20260101T120000Z-digits profiles/20260101T121500Z-digits
    """
    from cpuserve.profiling.diff import compare  # noqa: PLC0415  # not for --help
    from cpuserve.profiling.recording import Recording  # noqa: PLC0415

    difference = compare(Recording.load_from(before), Recording.load_from(after))
    if as_json:
        click.echo(orjson.dumps(difference.to_json()))
        return
    _show(difference)


def _show(difference: Difference) -> None:
    if not difference.same_model:
        click.echo("these are profiles of different models")
    if not difference.same_machine:
        click.echo("these are profiles of different machines")
    for name, (one, two) in difference.settings.items():
        click.echo(f"setting {name}: {one} -> {two}")
    noise = difference.noise
    click.echo(f"both speeds changed by {noise:.0%} by themselves; changes within that are marked ~")
    _lines("all", difference.whole, noise)
    _lines("stage, a request", difference.stages, noise)
    _lines("CPU time, a request", difference.cpu, noise)
    changed = [line for line in difference.layers if line.before != line.after]
    _lines("layer, largest changes", changed[:_LAYERS], noise)
    for title, findings in (("gone", difference.gone), ("new", difference.new)):
        for finding in findings:
            click.echo(f"{title}: {finding.severity}: {finding.sentence}")
    if difference.kept:
        click.echo(f"as before: {', '.join(difference.kept)}")


def _lines(title: str, lines: Sequence[FigureChange], noise: float) -> None:
    from rich.console import Console  # noqa: PLC0415  # not for --help
    from rich.table import Table  # noqa: PLC0415

    if not lines:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title=None)
    table.add_column(title, overflow="ellipsis", no_wrap=True, max_width=50)
    for name in ("A", "B", "B / A"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for line in lines:
        factor = f"{line.factor:.2f}" if line.factor is not None else ""
        factor += "~" if line.within(noise) else " "
        table.add_row(line.name, _number(line.before), _number(line.after), factor, line.unit)
    Console(highlight=False, markup=False).print(table)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
