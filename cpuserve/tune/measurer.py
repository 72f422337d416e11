"""Measures a point: starts fresh processes with its settings and loads them until figures are stable."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from cpuserve.errors import CpuserveError, UsageError
from cpuserve.machine.budget import Budget
from cpuserve.measuring.load_window import Load, LoadWindow
from cpuserve.measuring.noise import QuietWindows, foreign_cores
from cpuserve.measuring.pictures import pictures
from cpuserve.measuring.stable_windows import LoadLevel, measure_level
from cpuserve.models.repository import Repository
from cpuserve.tune.openvino_hints import hint_points
from cpuserve.tune.trial import Figures, Point
from cpuserve.tune.trial_engine import engine_trial
from cpuserve.tune.trial_http import http_trial
from cpuserve.tune.trial_setup import RunningTrial, TrialSetup, repository_of

__all__ = ["Measurer"]

_WARM_S = 1.0
_LAST = 3  # windows that count, as `cpuserve.measuring.stable_windows` has it


class Measurer:
    """Measures points, each in fresh processes that end before it returns.

    Args:
        models: names in the repository; several are served together.
        repository: where they are.
        images: a directory of pictures; None generates one.
        level: ``http`` loads a real server; ``engine`` loops over the pipeline in seats, without HTTP.
        window_seconds: length of a window; three that agree make a measurement.
        max_windows: most windows that count; as many spoiled ones may be repeated.
        mix: how many requests for each model in turn, such as (3, 1); None is one each.
        connections: clients with one request under way each, for every point; None is 4 a usable CPU. They
            are of ``http`` only: at ``engine`` each serving thread has one picture under way.
        fixed: settings of every trial, by name; those of a point override them.
        foreign_limit: a window in which other programs use more cores is spoiled and repeated.
        on_window: is called with every window: images a second, and whether it counts.

    Raises:
        UsageError: the mix does not fit the models.
    """

    def __init__(
        self,
        models: Sequence[str],
        repository: Path,
        images: Path | None = None,
        *,
        level: Literal["engine", "http"] = "http",
        window_seconds: float = 2.0,
        max_windows: int = 8,
        mix: Sequence[int] | None = None,
        connections: int | None = None,
        fixed: Mapping[str, Any] | None = None,
        foreign_limit: float = 0.25,
        on_window: Callable[[float, bool], None] = lambda _rate, _counts: None,
    ) -> None:
        self.models = tuple(models)
        self.mix = tuple(mix) if mix else (1,) * len(self.models)
        if len(self.mix) != len(self.models) or min(self.mix, default=0) < 1:
            raise UsageError(
                f"mix {':'.join(map(str, self.mix))} for {len(self.models)} models: "
                "give one whole number from 1 for each, such as 3:1"
            )
        self.repository = repository
        self.images = images
        self.level = level
        self.window_seconds = window_seconds
        self.max_windows = max_windows
        self.connections = connections or 4 * Budget.read().effective
        self.fixed = dict(fixed or {})
        self.foreign_limit = foreign_limit
        self._on_window = on_window

    def __call__(self, point: Point) -> Figures:
        """Measure a point.

        Raises:
            CpuserveError: it could not be served or measured; the message says why in one line.
        """
        with repository_of(self.models, self.repository) as folder, pictures(self.images) as sent:
            setup = TrialSetup(
                models=self.models,
                turns=[name for name, count in zip(self.models, self.mix, strict=True) for _ in range(count)],
                repository=folder,
                settings=self.fixed | point.settings(),
                environ=point.environ(),
                files=sent.files,
            )
            with self._started(setup) as running:
                return self._figures(running, sent.name)

    def hints(self) -> dict[str, Point]:
        """The points that OpenVINO's ``THROUGHPUT`` and ``LATENCY`` hints choose.

        A fresh process seated as one worker of all cores asks for the model with the largest part of the mix.

        Raises:
            CpuserveError: the model is not there, or cannot be compiled.
        """
        model = self.models[self.mix.index(max(self.mix))]
        setup = TrialSetup(self.models, self.models, self.repository, {}, {})
        xml = Repository(self.repository).find(model).xml
        return hint_points(xml, setup.environment(with_settings=False))

    def _started(self, setup: TrialSetup) -> AbstractContextManager[RunningTrial]:
        return http_trial(setup, self.connections) if self.level == "http" else engine_trial(setup)

    def _figures(self, running: RunningTrial, name: str) -> Figures:
        def once(number: int) -> LoadWindow:
            return running.window(number, self.window_seconds)

        def on_window(window: LoadWindow, counts: bool) -> None:
            self._on_window(window.per_s, counts)

        running.window(-1, min(_WARM_S, self.window_seconds))
        quiet = QuietWindows(once, limit=self.foreign_limit, most=self.max_windows, on_window=on_window)
        load = Load(connections=self.connections)
        level = measure_level(load, quiet, self.max_windows, lambda _: None)
        facts = running.facts() | {"pictures": name, "errors": level.last.errors}
        return _figures(level, quiet, facts)


def _figures(level: LoadLevel, quiet: QuietWindows, facts: dict[str, Any]) -> Figures:
    """The figures of the last three windows.

    Raises:
        CpuserveError: no request was answered.
    """
    last, counted = level.last, level.windows[-_LAST:]
    if not last.latencies_ms:
        errors = ", ".join(f"{count} x {status}" for status, count in last.errors.items())
        raise CpuserveError(f"no request was answered: {errors or 'none was sent'}")
    rates = [window.per_s for window in counted]
    shown = last.figures()
    return Figures(
        images_per_s=shown["images_per_s"],
        p50_ms=shown["p50_ms"],
        p95_ms=shown["p95_ms"],
        p99_ms=shown["p99_ms"],
        cpu_ms=shown["cpu_ms"] or 0.0,
        rss_mib=max(window.unique_mib or 0.0 for window in level.windows),
        noise=(max(rates) - min(rates)) / statistics.median(rates),
        foreign_cores=foreign_cores(last),
        windows=len(level.windows),
        repeated=quiet.repeated,
        stable=level.stable,
        facts=facts | {"spoiled": quiet.spoiled},
    )
