"""Tables on standard output, and on standard error how far long work is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpuserve.machine.files import text_of_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

__all__ = ["EVERY_S", "printable", "progress", "show_table", "spoken", "status", "stepping"]

EVERY_S = 10.0
"""Seconds between two lines about long work, outside a terminal."""


def printable(name: Path | str) -> str:
    """A file's name on one line; what would move the cursor or colour the terminal is escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text_of_path(name)
    )


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
def progress(
    *columns: ProgressColumn, shown: bool, lines: Callable[[], Iterable[str]] | None = None
) -> Iterator[Progress]:
    """Progress bars that vanish when they are done; outside a terminal, a line every 10 s.

    Args:
        columns: columns of a bar; rich's own if there are none.
        shown: False shows nothing at all.
        lines: what is printed outside a terminal; by default how far each bar is.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)

    def far() -> Iterator[str]:
        for task in bars.tasks:
            if not task.finished:
                total = "" if task.total is None else f" of {task.total:.0f}"
                left = task.time_remaining
                soon = "" if left is None else f", {left:.0f} s left"
                yield f"{task.description}: {task.completed:.0f}{total}, {task.elapsed or 0:.0f} s{soon}"

    with (
        Progress(*columns, console=console, transient=True, disable=hidden) as bars,
        spoken(lines or far, shown=shown and not console.is_terminal),
    ):
        yield bars


@contextmanager
def stepping(length: int, label: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances a progress bar, as `progress` shows it."""
    with progress(shown=shown) as bars:
        task = bars.add_task(label, total=length)
        yield lambda steps: bars.advance(task, steps)


@contextmanager
def status(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the current step; outside a terminal, a line every 10 s names it."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    if shown and console.is_terminal:
        with console.status("") as shower:
            yield shower.update
        return
    said: list[str] = []
    with spoken(lambda: said[-1:], shown=shown):
        yield said.append


@contextmanager
def spoken(lines: Callable[[], Iterable[str]], *, shown: bool) -> Iterator[None]:
    """Prints lines to standard error every 10 s while the context lasts."""
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(EVERY_S):
            for line in lines():
                click.echo(line, err=True)

    thread = threading.Thread(target=speak, name="progress", daemon=True)
    if shown:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if shown:
            thread.join()
