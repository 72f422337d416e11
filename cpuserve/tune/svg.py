"""Draws plots as SVG that takes its colours from the page it stands in, light or dark; it knows no trials.

Not by matplotlib, as `matplotlib` does: its colours are fixed when it draws, and it is an extra.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Mark", "bars", "plot"]

_WIDTH, _HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 16, 46
_LABEL_PX, _LINE_PX = 6.4, 14


@dataclass(frozen=True)
class Mark:
    """A dot.

    Attributes:
        x: where, in the units of the axis.
        y: where.
        kind: its class in the style sheet: ``trial``, ``front``, ``default``, ``hint``, ``best``.
        spread: half the height of its error bar.
        label: written beside it.
        tip: shown when the pointer is over it.
    """

    x: float
    y: float
    kind: str = "trial"
    spread: float = 0.0
    label: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart.

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


def plot(
    marks: Sequence[Mark],
    line: Sequence[tuple[float, float]],
    x_title: str,
    y_title: str,
    *,
    x_steps: Sequence[float] = (),
) -> str:
    """A plot of dots and one line; the y axis begins at 0.

    Args:
        marks: dots, later ones over earlier ones.
        line: corners of the line, in order.
        x_title: name of the x axis with its unit.
        y_title: the same of the y axis.
        x_steps: the values there are on the x axis, set at equal distances; without them it is linear from 0.
    """
    top = 1.08 * max(mark.y + mark.spread for mark in marks)
    y_ticks = _ticks(top)
    if x_steps:
        x_ticks, right = list(x_steps), 0.0
    else:
        right = 1.05 * max(mark.x for mark in marks)
        x_ticks = _ticks(right)

    def at_x(x: float) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        share = (x_ticks.index(x) + 0.5) / len(x_ticks) if x_steps else x / right
        return _LEFT + room * share

    def at_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * y / top

    base = _HEIGHT - _BOTTOM
    about = f"{escape(y_title)} by {escape(x_title)}"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{about}">']
    for tick in y_ticks:
        y = at_y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 7, y + 4, f"{tick:g}", "end"))
    for tick in x_ticks:
        parts.append(
            f'<line class="axis" x1="{at_x(tick):.1f}" y1="{base}" x2="{at_x(tick):.1f}" y2="{base + 4}"/>'
        )
        parts.append(_text(at_x(tick), base + 17, f"{tick:g}", "middle"))
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>')
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_title, "middle"))
    turned = f"translate(14 {(_TOP + base) / 2:.0f}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(y_title)}</text>')
    if len(line) > 1:
        corners = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        parts.append(f'<polyline class="line" points="{corners}"/>')
    for mark in marks:
        parts += _dot(
            mark, at_x(mark.x), at_y(mark.y), at_y(mark.y - mark.spread), at_y(mark.y + mark.spread)
        )
    parts += _labels([(at_x(mark.x), at_y(mark.y), mark.label) for mark in marks if mark.label])
    return "".join([*parts, "</svg>"])


def bars(rows: Sequence[Bar], title: str) -> str:
    """Horizontal bars around 0, each with its band of noise.

    Args:
        rows: from the top.
        title: of the axis.
    """
    names, words, step = 250, 290, 24
    width, height = 1116, step * len(rows) + 46
    most = max((max(abs(row.change), row.noise) for row in rows), default=0.0) or 0.01
    ticks = [sign * tick for tick in _ticks(most) for sign in (1, -1) if tick or sign > 0]

    def at(share: float) -> float:
        room = width - names - words
        return names + room * (0.5 + share / most / 2.1)

    base = height - 40
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        kind = "grid" if tick else "axis"
        parts.append(f'<line class="{kind}" x1="{at(tick):.1f}" y1="4" x2="{at(tick):.1f}" y2="{base}"/>')
        parts.append(_text(at(tick), base + 15, f"{100 * tick:+g} %" if tick else "0", "middle"))
    for place, row in enumerate(rows):
        y = 6 + step * place
        half = at(row.noise) - at(0)
        left = min(at(0), at(row.change))
        parts.append(
            f'<rect class="noise" x="{at(0) - half:.1f}" y="{y}" width="{2 * half:.1f}" height="{step - 4}"/>'
        )
        long = abs(at(row.change) - at(0))
        where = f'x="{left:.1f}" y="{y + 5}" width="{long:.1f}" height="{step - 14}"'
        parts.append(f'<rect class="bar {row.kind}" {where}/>')
        parts.append(_text(names - 8, y + 14, row.label, "end"))
        parts.append(_text(width - words + 8, y + 14, row.words, "start"))
    parts.append(_text(at(0), height - 8, title, "middle"))
    return "".join([*parts, "</svg>"])


def _dot(mark: Mark, x: float, y: float, low: float, high: float) -> list[str]:
    parts = []
    if mark.spread:
        parts.append(
            f'<line class="error {mark.kind}" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>'
        )
    tip = f"<title>{escape(mark.tip)}</title>" if mark.tip else ""
    size = 6 if mark.label else 4
    parts.append(f'<circle class="dot {mark.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}">{tip}</circle>')
    return parts


def _labels(wanted: Sequence[tuple[float, float, str]]) -> list[str]:
    """Labels beside their dots, on the side with more room, moved down where one is in the way."""
    placed: list[tuple[float, float, float]] = []
    parts = []
    for x, y, label in sorted(wanted, key=lambda one: one[1]):
        width = _LABEL_PX * len(label)
        left = x + 10 if x + 10 + width < _WIDTH - 4 else x - 10 - width
        line = max(y + 4, _TOP)
        while any(
            left < there + wide and there < left + width and abs(line - at) < _LINE_PX
            for there, wide, at in placed
        ):
            line += 2
        placed.append((left, width, line))
        parts.append(_text(left, line, label, "start", "label"))
    return parts


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _ticks(most: float) -> list[float]:
    """Round values from 0 up to ``most``, three to seven of them."""
    rough = most / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [round(number * step, 12) for number in range(int(most / step) + 1)]
