"""Progress of a training: a bar for each thing that is done, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cpuserve.cli.console import progress

if TYPE_CHECKING:
    from rich.progress import TaskID

    from cpuserve.video.training_clip import Progress

__all__ = ["training_progress"]


@contextmanager
def training_progress(*, shown: bool) -> Iterator[Progress]:
    """Yields what is told of progress. Outside a terminal nothing is drawn."""
    with progress(shown=shown) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report
