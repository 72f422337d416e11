"""Tables on stdout and progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

__all__ = ["progress", "show_table", "stepping"]


def show_table(table: Table, console: Console | None = None) -> None:
    """Prints a table without breaking a word, so that names, paths and URLs can be copied.

    Outside a terminal a row is one line, however wide. In a terminal that is too narrow for the table each
    row is a block: its first cell, and below it a line for each other one.

    Args:
        table: its title, if any, is printed as a line above it.
        console: where to; standard output by default.
    """
    from rich.console import Console  # noqa: PLC0415  # not for --help

    console = console or Console(markup=False, highlight=False)
    if table.title is not None:
        console.print(table.title, soft_wrap=True)
        table.title = None
    for column in table.columns:
        column.no_wrap = True
    natural = console.measure(table, options=console.options.update(width=_NATURAL)).maximum
    if not console.is_terminal:
        console.width = natural
    if natural <= console.width:
        console.print(table)
        return
    titles = [str(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *rest = map(str, cells)
        console.print(first, soft_wrap=True)
        for title, cell in zip(titles[1:], rest, strict=True):
            if cell:
                console.print(f"  {title}: {cell}" if title else f"  {cell}", soft_wrap=True)


_NATURAL = 100_000  # columns: wide enough for any table


@contextmanager
def progress(*columns: ProgressColumn, shown: bool) -> Iterator[Progress]:
    """Progress bars that vanish when they are done. Outside a terminal none are drawn.

    Args:
        columns: columns of a bar; rich's own if there are none.
        shown: False draws no bars at all.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bars:
        yield bars


@contextmanager
def stepping(length: int, label: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances a progress bar. Outside a terminal it is not drawn."""
    hidden = not (shown and sys.stderr.isatty())
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden) as bar:
        yield bar.update
