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

__all__ = ["progress", "stepping", "table_console"]

_GREP_WIDTH = 200


def table_console() -> Console:
    """A console for tables. Outside a terminal it is wide, so that a row is one line for grep."""
    from rich.console import Console  # noqa: PLC0415  # not for --help

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _GREP_WIDTH
    return console


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
