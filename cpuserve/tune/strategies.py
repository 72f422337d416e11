"""The strategies by name: ``brute``, ``quick`` and ``optuna``."""

from __future__ import annotations

import random
from pathlib import Path

from cpuserve.tune.search import Search, Strategy
from cpuserve.tune.space import Space

__all__ = ["MODES", "brute", "strategy"]

MODES = ("auto", "brute", "quick", "optuna")
"""How a space may be searched; ``auto`` is brute where all of it fits, else quick."""

_SMALL = 24


def strategy(mode: str, space: Space, expected: int | None, optuna_file: Path) -> tuple[str, Strategy]:
    """The name and the strategy of a mode.

    Args:
        mode: one of `MODES`.
        space: the points there are.
        expected: how many trials there can be; None without a limit.
        optuna_file: where Optuna keeps its study.

    Raises:
        UsageError: Optuna is not installed.
    """
    if mode == "auto":
        mode = "brute" if len(space.points) <= (expected or _SMALL) else "quick"
    if mode == "brute":
        return mode, lambda search: brute(search, space)
    if mode == "quick":
        from cpuserve.tune.pattern_search import PatternSearch  # noqa: PLC0415  # numpy: not for whoever asks for --help

        return mode, PatternSearch(space)
    from cpuserve.tune.optuna_search import OptunaSearch  # noqa: PLC0415  # an extra

    return mode, OptunaSearch(space, optuna_file)


def brute(search: Search, space: Space) -> None:
    """Measure every point once, shuffled so that drift of the machine does not look like an effect."""
    points = list(space.points)
    random.Random(0).shuffle(points)  # noqa: S311  # the same order after a break, no secret
    for point in points:
        search.measure(point)
