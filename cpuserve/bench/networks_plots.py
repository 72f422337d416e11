"""Plots the networks' figures by network and by batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpuserve.bench.networks import NetworkRow
from cpuserve.reports.charts import Dot, PlotLine, plot
from cpuserve.reports.drawing import Drawing

__all__ = ["write_plots"]

_COLOURS = 13  # s0, s1, ... of the style sheet
_LEVELS = ((40.0, "25 images/s"), (100.0, "10 images/s"))
_SIZE = (1100, 600)
_Y_TITLE = "ms an image, less is better"


def write_plots(rows: Sequence[NetworkRow], folder: Path, machine: str) -> list[Path]:
    """Draw four plots a precision that has figures.

    Args:
        rows: figures; skipped ones are left out.
        folder: where to, as ``by_network_f32_log.svg`` and so on.
        machine: its name, for the titles.

    Returns:
        The files.
    """
    measured = [row for row in rows if row.ms_per_image is not None]
    files = []
    for precision in dict.fromkeys(row.precision for row in measured):
        mine = [row for row in measured if row.precision == precision]
        for name, draw in (("by_network", _by_network), ("by_batch", _by_batch)):
            for scale in ("log", "linear"):
                file = folder / f"{name}_{precision}_{scale}.svg"
                drawing = draw(mine, f"{machine}, {precision}", log=scale == "log")
                file.write_text(drawing.file_text(), encoding="utf-8")
                files.append(file)
    return files


def _by_network(rows: Sequence[NetworkRow], title: str, *, log: bool) -> Drawing:
    """A column a network, a dot a batch, from left to right."""
    networks = list(dict.fromkeys(row.network for row in rows))
    batches = sorted({row.batch for row in rows})
    dots = []
    for number, batch in enumerate(batches):
        beside = 0.5 * ((number + 0.5) / len(batches) - 0.5)
        dots += [
            _dot(networks.index(row.network) + beside, row, number) for row in rows if row.batch == batch
        ]
    legend = [(_kind(number), f"batch {batch}") for number, batch in enumerate(batches)]
    return plot(
        dots,
        [],
        "network",
        _Y_TITLE,
        x_names=networks,
        log=log,
        levels=_LEVELS,
        legend=legend,
        size=_SIZE,
        title=title,
    )


def _by_batch(rows: Sequence[NetworkRow], title: str, *, log: bool) -> Drawing:
    """A line a network, the slowest first in the legend."""
    networks = list(dict.fromkeys(row.network for row in rows))
    batches = sorted({row.batch for row in rows})
    slowest = {name: max(row.ms_per_image or 0.0 for row in rows if row.network == name) for name in networks}
    dots, lines, legend = [], [], []
    for name in sorted(networks, key=lambda name: -slowest[name]):
        number = networks.index(name)
        mine = sorted((row for row in rows if row.network == name), key=lambda row: row.batch)
        own = [_dot(batches.index(row.batch), row, number) for row in mine]
        dots += own
        lines.append(PlotLine([(dot.x, dot.y) for dot in own], _kind(number)))
        legend.append((_kind(number), name))
    return plot(
        dots,
        lines,
        "batch",
        _Y_TITLE,
        x_names=[str(batch) for batch in batches],
        log=log,
        levels=_LEVELS,
        legend=legend,
        size=_SIZE,
        title=title,
    )


def _dot(x: float, row: NetworkRow, number: int) -> Dot:
    ms = row.ms_per_image or 0.0
    tip = f"{row.network}, batch {row.batch}: {ms:.3g} ± {row.spread_ms:.2g} ms"
    return Dot(x, ms, _kind(number), row.spread_ms, tip=tip)


def _kind(number: int) -> str:
    return f"series s{number % _COLOURS}"
