"""Compares a preset with the defaults and with OpenVINO's hints, in rounds of one run.

Run as ``python -m benchmarks.tuned MODEL... --model-repository DIR --tuning-dir DIR --out FILE`` after
``cpuserve tune``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpuserve.errors import UsageError
from cpuserve.measuring.results import write_result
from cpuserve.models.repository import Repository
from cpuserve.tune.measurer import Measurer
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.preset_store import PresetStore
from cpuserve.tune.trial import Figures, Point

__all__ = ["main", "markdown", "summary"]

_SHOWN = ("images_per_s", "p50_ms", "p99_ms", "cpu_ms", "rss_mib", "foreign_cores")
_FIRST = "defaults"


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--tuning-dir", type=Path, default=Path("tuning"))
    parser.add_argument("--images", type=Path, help="directory of pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {model: _model(given, model) for model in given.models}
    for model, ways in found.items():
        Console().print(_table(model, ways))
    if given.out:
        command = ["python", "-m", "benchmarks.tuned", *sys.argv[1:]]
        write_result(given.out, command, {"rounds": given.rounds, "models": found})


def _model(given: argparse.Namespace, model: str) -> dict[str, Any]:
    key = PresetKey.read(Repository(given.model_repository).find(model))
    match = PresetStore(given.tuning_dir).find(model, key)
    if match.kind != "exact" or match.preset is None:
        raise UsageError(
            f"{given.tuning_dir} has no preset of {model} for this machine: cpuserve tune {model}"
        )
    measure = Measurer(
        [model], given.model_repository, given.images, window_seconds=given.window_seconds, max_windows=4
    )
    environ = {f"env.{name}": value for name, value in match.preset.environ.items()}
    ways = {_FIRST: Point(), "tuned": Point.of({**match.preset.settings, **environ})}
    ways |= {f"hint {name}": point for name, point in measure.hints().items()}
    rounds: dict[str, list[Figures]] = {name: [] for name in ways}
    for number in range(given.rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in order:
            rounds[name].append(measure(ways[name]))
    return summary(ways, rounds)


def summary(ways: Mapping[str, Point], rounds: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """Medians over the rounds, by way.

    Returns:
        By way: ``settings``, ``same_as`` (a way before it with the same settings, or None), each figure with
        ``median`` and ``noise`` (highest less lowest over the median), and ``gain``, throughput over that of
        the defaults less 1.
    """
    found: dict[str, Any] = {}
    for name, point in ways.items():
        same = next((other for other in found if ways[other] == point), None)
        found[name] = {"settings": dict(point.knobs), "same_as": same}
        for key in _SHOWN:
            values = [asdict(figures)[key] for figures in rounds[name]]
            middle = statistics.median(values)
            found[name][key] = {
                "median": middle,
                "noise": (max(values) - min(values)) / middle if middle else 0.0,
            }
    base = found[_FIRST]["images_per_s"]["median"]
    for way in found.values():
        way["gain"] = way["images_per_s"]["median"] / base - 1
    return found


def _rows(ways: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, way in ways.items():
        cells = [f"{way[key]['median']:.2f} ± {50 * way[key]['noise']:.0f} %" for key in _SHOWN]
        settings = " ".join(f"{key}={value}" for key, value in way["settings"].items()) or "the defaults"
        rows.append([name, *cells, f"{100 * way['gain']:+.1f} %", settings])
    return rows


def _table(model: str, ways: Mapping[str, Any]) -> Table:
    table = Table(model, *_SHOWN, "gain", "settings")
    for row in _rows(ways):
        table.add_row(*row)
    return table


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a result file; figures are medians with half of how far the rounds lie apart."""
    head = ["model", "way", *_SHOWN, "gain", "settings"]
    rows = [[model, *row] for model, ways in found["models"].items() for row in _rows(ways)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
