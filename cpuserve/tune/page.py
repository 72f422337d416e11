"""Writes a search as an HTML page that loads nothing else: what was chosen, tables and plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cpuserve.reports.charts import ChangeBar, Dot, PlotLine, change_bars, plot
from cpuserve.reports.drawing import Drawing
from cpuserve.reports.page import render
from cpuserve.tune.conclusion import figures_words
from cpuserve.tune.curves import Curve
from cpuserve.tune.knob_effects import Effect
from cpuserve.tune.report import SearchReport, settings_words
from cpuserve.tune.trial import Figures, Point, Trial

__all__ = ["page"]

_COLOURS = {"helps": "good", "harmful": "bad"}

_Row = tuple[str, Sequence[str]]
"""The class of a table's row, and its cells."""


class _Figure(NamedTuple):
    drawing: Drawing
    caption: str


def page(report: SearchReport, conclusion: Sequence[str]) -> str:
    """The whole page.

    Args:
        report: the search.
        conclusion: its sentences, first on the page.
    """
    objective = report.objective
    words = [f"objective {objective.name}", *map(str, objective.constraints)]
    curves = (
        _curve(report.batches, "max_batch", "images/s"),
        _curve(report.batches, "max_batch", "p99 ms"),
        _curve(report.cores, "cores of a worker", "images/s of the whole machine"),
    )
    return render(
        "cpuserve.tune",
        "search.html",
        title=f"cpuserve tune: {report.model}",
        script="",
        report=report,
        about=f"{report.machine} · {', '.join(words)} · {len(report.trials)} trials",
        conclusion=conclusion,
        compared=list(_compared(report)),
        figures=[figure for figure in (_pareto(report), *curves) if figure],
        knobs=_knobs_chart(report),
        effects=list(_effects(report)),
        trials=list(_trials(report)),
    )


def _cells(figures: Figures, noise: float) -> list[str]:
    """The figures that both tables have."""
    return [
        f"{figures.images_per_s:.4g}",
        f"{figures.p50_ms:.3g}",
        f"{figures.p99_ms:.3g}",
        f"{figures.cpu_ms:.3g}",
        f"{figures.rss_mib:.0f}",
        f"{100 * noise:.1f} %",
    ]


def _compared(report: SearchReport) -> Iterator[_Row]:
    """The chosen settings, then the defaults and the hints."""
    if report.best is None:
        return
    rows = [("chosen", report.best, "", "")]
    for rival in report.rivals:
        if rival.standing.point == report.best.point:
            rows.append((rival.name, rival.standing, "", "the same settings"))
        else:
            gain = f"{100 * rival.change:+.1f} % ± {100 * rival.noise:.1f}"
            rows.append((rival.name, rival.standing, gain, "within noise" if rival.tie else "beyond noise"))
    for name, standing, gain, verdict in rows:
        if standing.trial.figures is not None:
            cells = _cells(standing.trial.figures, standing.noise)
            kind = "best" if name == "chosen" else ""
            yield kind, [name, settings_words(standing.point), *cells, gain, verdict]


def _pareto(report: SearchReport) -> _Figure | None:
    dots, best = [], report.best.point if report.best else None
    named: set[Point] = set()
    for trial in sorted(report.trials, key=lambda trial: _kind(trial, report) != "trial"):
        if trial.figures is None:
            continue
        kind, label = _kind(trial, report), ""
        if kind in {"default", "hint"} or trial.point == best:
            label = "" if trial.point in named else _label(trial, best)
            named.add(trial.point)
        tip = f"#{trial.number} {settings_words(trial.point)}: {figures_words(trial.figures)}"
        dots.append(Dot(trial.figures.p99_ms, trial.figures.images_per_s, kind, 0.0, label, tip))
    if not dots:
        return None
    by_number = {trial.number: trial.figures for trial in report.trials if trial.figures is not None}
    front = [(by_number[number].p99_ms, by_number[number].images_per_s) for number in report.front]
    caption = "Every trial; the line joins those that no other beats in both. Up and to the left is better."
    return _Figure(plot(dots, [PlotLine(front)], "p99 ms", "images/s"), caption)


def _kind(trial: Trial, report: SearchReport) -> str:
    if report.best is not None and trial.point == report.best.point:
        return "best"
    if not trial.point.knobs:
        return "default"
    if trial.reason.startswith("hint:"):
        return "hint"
    return "front" if trial.number in report.front else "trial"


def _label(trial: Trial, best: Point | None) -> str:
    name = "defaults" if not trial.point.knobs else trial.reason.removeprefix("hint:")
    if trial.point != best:
        return name
    return f"chosen = {name}" if not trial.point.knobs or trial.reason.startswith("hint:") else "chosen"


def _curve(curve: Curve, x_title: str, y_title: str) -> _Figure | None:
    if not curve.spots:
        return None
    late = y_title.startswith("p99")
    dots = []
    for place, spot in enumerate(curve.spots):
        y = spot.figures.p99_ms if late else spot.figures.images_per_s
        spread = 0.0 if late else y * spot.figures.noise / 2
        dots.append(Dot(place, y, "front", spread, tip=f"#{spot.trial}: {figures_words(spot.figures)}"))
    line = PlotLine([(dot.x, dot.y) for dot in dots])
    names = [f"{spot.x:g}" for spot in curve.spots]
    what = (
        "Everything else as chosen" if curve.alike else "The best trial of each value, other settings differ"
    )
    caption = what + ("." if late else "; bars are the spread of the windows.")
    return _Figure(plot(dots, [line], x_title, y_title, x_names=names), caption)


def _knobs_chart(report: SearchReport) -> Drawing | None:
    """A bar for each row of the table of knobs that has a figure."""
    rows = []
    for one in report.effects:
        for effect in one.values:
            if not math.isnan(effect.change):
                label = f"{one.knob.removeprefix('env.')}={effect.value}"
                words = effect.words + (", by regression" if effect.method == "regression" else "")
                kind = _COLOURS.get(effect.kind, "none")
                rows.append(ChangeBar(label, effect.change, effect.noise, kind, words))
    return change_bars(rows, f"change of {report.objective.metric.title}") if rows else None


def _effects(report: SearchReport) -> Iterable[_Row]:
    for one in report.effects:
        for value in one.values:
            yield _COLOURS.get(value.kind, ""), _effect(one.knob, value)
        if not one.values:
            yield "", [one.knob, "", "", one.words, "", "", "", ""]


def _effect(knob: str, effect: Effect) -> list[str]:
    share = ["", ""]
    if not math.isnan(effect.change):
        share = [f"{100 * effect.change:+.1f} %", f"{100 * effect.noise:.1f} %"]
    words = [knob, str(effect.value), str(effect.against), effect.words]
    return [*words, *share, effect.method, str(effect.pairs or "")]


def _trials(report: SearchReport) -> Iterator[_Row]:
    for trial in report.trials:
        figures = trial.figures
        cells = [""] * 7
        if figures is not None:
            cells = [*_cells(figures, figures.noise), f"{figures.foreign_cores:.2f}"]
        words = settings_words(trial.point) + (f" — {trial.error}" if trial.error else "")
        chosen = report.best is not None and trial.point == report.best.point
        row = [str(trial.number), trial.reason, words, *cells, f"{trial.seconds:.0f}"]
        yield "best" if chosen else "", row
