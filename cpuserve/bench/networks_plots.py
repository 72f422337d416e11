"""Draws the networks' figures, by network and by batch, linear and logarithmic; it measures nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpuserve.bench.networks import NetworkRow
from cpuserve.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["need_matplotlib", "write_plots"]

_Draw = Callable[["Axes", Sequence[NetworkRow]], None]

_FEW_DECADES = 30  # below it the ticks between 1, 10 and 100 are named too: there may be no other
_MARKERS = "osD^v<>PX*hpd"


def need_matplotlib() -> None:
    """Refuse early what `write_plots` could not do after hours of measuring.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--out draws plots, which needs matplotlib: pip install cpuserve[bench]")


def write_plots(rows: Sequence[NetworkRow], folder: Path, machine: str) -> list[Path]:
    """Draw four plots a precision that has figures.

    Args:
        rows: figures; skipped ones are left out.
        folder: where to, as ``by_network_f32_log.png`` and so on.
        machine: its name, for the titles.

    Returns:
        The files.
    """
    need_matplotlib()
    measured = [row for row in rows if row.ms_per_image is not None]
    files = []
    for precision in dict.fromkeys(row.precision for row in measured):
        mine = [row for row in measured if row.precision == precision]
        for name, draw in (("by_network", _by_network), ("by_batch", _by_batch)):
            for scale in ("log", "linear"):
                file = folder / f"{name}_{precision}_{scale}.png"
                _save(file, draw, mine, scale, f"{machine}, {precision}")
                files.append(file)
    return files


def _save(file: Path, draw: _Draw, rows: Sequence[NetworkRow], scale: str, title: str) -> None:
    # the objects and not pyplot: no window system is looked for and no state of the process is changed
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_yscale(scale)
    draw(axes, rows)
    times = [(row.ms_per_image or 0.0, row.spread_ms) for row in rows]
    top = max(ms + spread for ms, spread in times)
    low = min(max(ms - spread, ms / 2) for ms, spread in times)
    axes.set_ylim((0.8 * low, 1.3 * top) if scale == "log" else (0, 1.08 * top))
    bottom, ceiling = axes.get_ylim()
    for fps, ms in ((25, 40.0), (10, 100.0)):
        if bottom < ms < ceiling:
            axes.axhline(ms, color="0.4", linewidth=0.9, linestyle="--", zorder=1)
            axes.annotate(
                f"{fps} images/s",
                (1, ms),
                xycoords=axes.get_yaxis_transform(),
                xytext=(-3, -2),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
                color="0.35",
            )
    if scale == "log":
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if ceiling / bottom < _FEW_DECADES else "")
    axes.set_ylabel("ms an image, less is better")
    axes.set_title(title)
    axes.grid(axis="y", which="both" if scale == "log" else "major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(file, dpi=110)


def _by_network(axes: Axes, rows: Sequence[NetworkRow]) -> None:
    """A column a network, a dot a batch, from dark for 1 to light."""
    from matplotlib import colormaps  # noqa: PLC0415

    networks = list(dict.fromkeys(row.network for row in rows))
    batches = sorted({row.batch for row in rows})
    for number, batch in enumerate(batches):
        mine = [row for row in rows if row.batch == batch]
        axes.errorbar(
            [networks.index(row.network) + 0.5 * ((number + 0.5) / len(batches) - 0.5) for row in mine],
            [row.ms_per_image or 0.0 for row in mine],
            yerr=[row.spread_ms for row in mine],
            fmt="o",
            markersize=5,
            color=colormaps["viridis"](0.9 * number / max(1, len(batches) - 1)),
            label=f"batch {batch}",
        )
    axes.set_xticks(range(len(networks)), networks, rotation=30, ha="right")
    axes.set_xlim(-0.5, len(networks) - 0.5)


def _by_batch(axes: Axes, rows: Sequence[NetworkRow]) -> None:
    """A line a network, the slowest first in the legend."""
    from matplotlib import colormaps  # noqa: PLC0415

    networks = list(dict.fromkeys(row.network for row in rows))
    slowest = {name: max(row.ms_per_image or 0.0 for row in rows if row.network == name) for name in networks}
    for name in sorted(networks, key=lambda name: -slowest[name]):
        mine = sorted((row for row in rows if row.network == name), key=lambda row: row.batch)
        number = networks.index(name)
        axes.errorbar(
            [row.batch for row in mine],
            [row.ms_per_image or 0.0 for row in mine],
            yerr=[row.spread_ms for row in mine],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            linewidth=1.2,
            color=colormaps["tab20"](2 * number % 20 + number // 10),
            label=name,
        )
    batches = sorted({row.batch for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("batch")
