"""Draws figures as charts: dots and lines over two axes, and bars of changes around zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cpuserve.reports.drawing import Drawing

__all__ = ["ChangeBar", "Dot", "PlotLine", "change_bars", "plot"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 16, 46
_LABEL_PX, _LINE_PX = 6.4, 14
_NAMES_PX = 96  # below a plot whose x axis has words
_LEGEND_PX = 190


@dataclass(frozen=True)
class Dot:
    """A dot of a plot.

    Attributes:
        x: where, in the units of the axis, or the number of its name.
        y: where.
        kind: its class in the style sheet, such as ``trial``, ``front``, ``best`` or ``series s0``.
        spread: half the height of its error bar.
        label: written beside it.
        tip: shown while the pointer is over it.
    """

    x: float
    y: float
    kind: str = "trial"
    spread: float = 0.0
    label: str = ""
    tip: str = ""


@dataclass(frozen=True)
class PlotLine:
    """A line of a plot.

    Attributes:
        corners: (x, y) in order.
        kind: its class in the style sheet beside ``line``.
    """

    corners: Sequence[tuple[float, float]]
    kind: str = ""


@dataclass(frozen=True)
class ChangeBar:
    """A row of a chart of changes.

    Attributes:
        label: what it is about.
        change: how long the bar is, as a share; it may be negative.
        noise: half the width of the band around 0, as a share.
        kind: its class in the style sheet: ``good``, ``bad``, ``none``.
        words: written at the end.
    """

    label: str
    change: float
    noise: float
    kind: str
    words: str


class _Scale:
    """Turns y values into heights: linear from 0, or logarithmic."""

    def __init__(self, dots: Sequence[Dot], base: float, *, log: bool) -> None:
        self._base, self._log = base, log
        top = max(dot.y + dot.spread for dot in dots)
        if log:
            self._low = 0.8 * min(max(dot.y - dot.spread, dot.y / 2) for dot in dots)
            self._top = 1.3 * top
            decades = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._top)))
            steps = (1, 2, 5) if len(decades) <= 3 else (1,)
            values = [step * 10.0**decade for decade in decades for step in steps]
            self.ticks = [value for value in values if self.shows(value)]
        else:
            self._low, self._top = 0.0, 1.08 * top
            self.ticks = _ticks(self._top)

    def shows(self, value: float) -> bool:
        return self._low < value < self._top

    def __call__(self, value: float) -> float:
        if self._log:
            share = math.log(max(value, self._low) / self._low) / math.log(self._top / self._low)
        else:
            share = value / self._top
        return self._base - (self._base - _TOP) * share


def plot(
    dots: Sequence[Dot],
    lines: Sequence[PlotLine],
    x_title: str,
    y_title: str,
    *,
    x_names: Sequence[str] = (),
    log: bool = False,
    levels: Sequence[tuple[float, str]] = (),
    legend: Sequence[tuple[str, str]] = (),
    size: tuple[float, float] = (560, 330),
    title: str = "",
) -> Drawing:
    """Draw dots and lines.

    Args:
        dots: later ones over earlier ones; at least one.
        lines: below the dots.
        x_title: name of the x axis with its unit.
        y_title: the same of the y axis.
        x_names: names of the places 0, 1, 2, ... of the x axis; without them it is linear from 0.
        log: whether the y axis is logarithmic; else it begins at 0.
        levels: (value, name) of lines across, where they are inside the plot.
        legend: (class, name) of what is drawn, written to the right.
        size: width and height.
        title: written on top, right-aligned.
    """
    width, height = size
    words = any(len(name) > 5 for name in x_names)
    right = width - (_LEGEND_PX if legend else _RIGHT)
    base = height - (_NAMES_PX if words else _BOTTOM)
    at_y = _Scale(dots, base, log=log)
    most = 1.05 * max(dot.x for dot in dots) or 1.0
    ticks = [(float(place), name) for place, name in enumerate(x_names)]
    ticks = ticks or [(tick, f"{tick:g}") for tick in _ticks(most)]

    def at_x(x: float) -> float:
        share = (x + 0.5) / len(x_names) if x_names else x / most
        return _LEFT + (right - _LEFT) * share

    drawing = Drawing(width, height, f"{y_title} by {x_title}")
    for tick in at_y.ticks:
        drawing.add("line", "grid", x1=_LEFT, y1=at_y(tick), x2=right, y2=at_y(tick))
        drawing.text(_LEFT - 7, at_y(tick) + 4, f"{tick:g}", anchor="end")
    for value, name in levels:
        if at_y.shows(value):
            drawing.add("line", "level", x1=_LEFT, y1=at_y(value), x2=right, y2=at_y(value))
            drawing.text(right - 3, at_y(value) - 4, name, "soft", anchor="end")
    for tick, name in ticks:
        drawing.add("line", "axis", x1=at_x(tick), y1=base, x2=at_x(tick), y2=base + 4)
        label = drawing.text(at_x(tick), base + 17, name, anchor="end" if words else "middle")
        if words:
            label.set("transform", f"rotate(-25 {at_x(tick):.1f} {base + 12:.1f})")
    drawing.add("line", "axis", x1=_LEFT, y1=base, x2=right, y2=base)
    drawing.text((_LEFT + right) / 2, height - 8, x_title, anchor="middle")
    turned = drawing.text(0, 0, y_title, anchor="middle")
    turned.set("transform", f"translate(14 {(_TOP + base) / 2:.0f}) rotate(-90)")
    if title:
        drawing.text(right, _TOP - 3, title, "strong", anchor="end")
    for line in lines:
        if len(line.corners) > 1:
            corners = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line.corners)
            drawing.add("polyline", f"line {line.kind}".strip(), points=corners)
    for dot in dots:
        x, y = at_x(dot.x), at_y(dot.y)
        if dot.spread:
            low, high = at_y(dot.y - dot.spread), at_y(dot.y + dot.spread)
            drawing.add("line", f"error {dot.kind}", x1=x, y1=low, x2=x, y2=high)
        drawing.add("circle", f"dot {dot.kind}", tip=dot.tip, cx=x, cy=y, r=6 if dot.label else 4)
    _labels(drawing, [(at_x(dot.x), at_y(dot.y), dot.label) for dot in dots if dot.label], width)
    for place, (kind, name) in enumerate(legend):
        drawing.add("circle", f"dot {kind}", cx=right + 20, cy=_TOP + 8 + 20 * place, r=5)
        drawing.text(right + 32, _TOP + 12 + 20 * place, name)
    return drawing


def change_bars(rows: Sequence[ChangeBar], title: str) -> Drawing:
    """Draw horizontal bars around 0, each with its band of noise.

    Args:
        rows: from the top.
        title: of the axis.
    """
    names, words, step = 250, 290, 24
    width, height = 1116, step * len(rows) + 46
    most = max((max(abs(row.change), row.noise) for row in rows), default=0.0) or 0.01
    ticks = [sign * tick for tick in _ticks(most) for sign in (1, -1) if tick or sign > 0]

    def at(share: float) -> float:
        return names + (width - names - words) * (0.5 + share / most / 2.1)

    base = height - 40
    drawing = Drawing(width, height, title)
    for tick in ticks:
        drawing.add("line", "grid" if tick else "axis", x1=at(tick), y1=4, x2=at(tick), y2=base)
        drawing.text(at(tick), base + 15, f"{100 * tick:+g} %" if tick else "0", anchor="middle")
    for place, row in enumerate(rows):
        y = 6 + step * place
        half, left = at(row.noise) - at(0), min(at(0), at(row.change))
        drawing.add("rect", "noise", x=at(0) - half, y=y, width=2 * half, height=step - 4)
        long = abs(at(row.change) - at(0))
        drawing.add("rect", f"bar {row.kind}", x=left, y=y + 5, width=long, height=step - 14)
        drawing.text(names - 8, y + 14, row.label, anchor="end")
        drawing.text(width - words + 8, y + 14, row.words)
    drawing.text(at(0), height - 8, title, anchor="middle")
    return drawing


def _labels(drawing: Drawing, wanted: Sequence[tuple[float, float, str]], whole: float) -> None:
    """Labels beside their dots, on the side with more room, moved down where one is in the way."""
    placed: list[tuple[float, float, float]] = []
    for x, y, label in sorted(wanted, key=lambda one: one[1]):
        width = _LABEL_PX * len(label)
        left = x + 10 if x + 10 + width < whole - 4 else x - 10 - width
        line = max(y + 4, _TOP)
        while any(
            left < there + wide and there < left + width and abs(line - at) < _LINE_PX
            for there, wide, at in placed
        ):
            line += 2
        placed.append((left, width, line))
        drawing.text(left, line, label, "label")


def _ticks(most: float) -> list[float]:
    """Round values from 0 up to ``most``, three to seven of them."""
    rough = most / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [round(number * step, 12) for number in range(int(most / step) + 1)]
