"""One trial: a point's settings in fresh processes, measured until stable; it chooses no point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from cpuserve.tune.point import Figures, Point

__all__ = ["Measurer"]

Level = Literal["engine", "http"]


class Measurer:
    """Measures points, each in processes of its own, which are gone when it returns.

    Args:
        models: names in the repository; several are served together.
        repository: where they are.
        images: a directory of pictures; None for a made one.
        level: ``http`` loads a real server; ``engine`` loops over the pipeline in seats, without HTTP.
        window_seconds: of one window; three that agree make a measurement.
        max_windows: windows at most that count; spoiled ones are extra, as many again at most.
        mix: how many requests for each model in turn, such as (3, 1); None is one each.
        connections: clients with one request under way each, for every point; None is 4 a usable CPU.
        fixed: settings of every trial, by name; a point's own win.
        foreign_limit: cores used by others above which a window is spoiled and measured again.
        seen: told of every window: images a second, and whether it counts.
    """

    def __init__(
        self,
        models: Sequence[str],
        repository: Path,
        images: Path | None = None,
        *,
        level: Level = "http",
        window_seconds: float = 2.0,
        max_windows: int = 8,
        mix: Sequence[int] | None = None,
        connections: int | None = None,
        fixed: dict[str, Any] | None = None,
        foreign_limit: float = 0.25,
        seen: Callable[[float, bool], None] = lambda _rate, _counts: None,
    ) -> None:
        raise NotImplementedError

    def __call__(self, point: Point) -> Figures:
        """Measure a point.

        Raises:
            CpuserveError: it could not be served or measured; the message says why in one line.
        """
        raise NotImplementedError

    def hints(self) -> dict[str, Point]:
        """What OpenVINO itself chooses: the points of its ``THROUGHPUT`` and ``LATENCY`` hints.

        They are asked for in a fresh process that sits where one worker of all cores would.

        Raises:
            CpuserveError: the model cannot be compiled.
        """
        raise NotImplementedError
