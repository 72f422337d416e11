"""`cpuserve profile diff`: two profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

if TYPE_CHECKING:
    from cpuserve.profiling.diff import Difference, Line

__all__ = ["command"]

_LAYERS = 10
_PATH = click.Path(exists=True, path_type=Path)


@click.command("diff")
@click.argument("before", type=_PATH)
@click.argument("after", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def command(before: Path, after: Path, *, as_json: bool) -> None:
    """Show what became faster or slower between two profiles, and which findings came and went.

    BEFORE and AFTER are directories that cpuserve profile has written.

    \b
    Example:
      cpuserve profile diff profiles/BEFORE profiles/AFTER
    """
    from cpuserve.profiling.diff import compare  # noqa: PLC0415  # not for --help
    from cpuserve.profiling.recording import Recording  # noqa: PLC0415

    found = compare(Recording.load_from(before), Recording.load_from(after))
    if as_json:
        click.echo(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2))
    else:
        _show(found)


def _show(found: Difference) -> None:
    if not found.same_model:
        click.echo("the profiles are of different models")
    if not found.same_machine:
        click.echo("the profiles are of different machines: their times do not compare")
    for name, (one, other) in found.settings.items():
        click.echo(f"setting {name}: {one} before, {other} after")
    _table([*found.whole, *found.stages, *found.cpu, *found.layers[:_LAYERS]])
    for word, findings in (("gone", found.gone), ("new", found.new)):
        for finding in findings:
            click.echo(f"{word}: {finding.sentence}")
    if found.kept:
        click.echo(f"found in both: {', '.join(found.kept)}")


def _table(lines: Sequence[Line]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    grid = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "before", "after", "unit", "factor"):
        grid.add_column(title, justify="left" if title in ("", "unit") else "right")
    for line in lines:
        factor = "" if line.factor is None else f"{line.factor:.2f}x"
        grid.add_row(line.name, _number(line.before), _number(line.after), line.unit, factor)
    Console().print(grid)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
