"""Counts how often a cascade breaks the budgets promised of it, against thresholds that just fit.

Run as ``python -m benchmarks.video_promises --scores DIR/scores.npz... [--out FILE]``, with scores that
``cpuserve video train`` wrote for the labelled clips.

The clips are far shorter than what a promise takes, so that time is simulated from them: runs of the same
label, with the scores that they really have, are drawn one after the other, by turns with and without the
object. Each split is a camera of its own: it has its own shares of the runs (drawn evenly from all possible
shares), and each time that a run comes up all scores of a kind are shifted by as much as the clip's runs of
the same label differ from each other. Only runs that no network was trained on are drawn. A cascade is chosen
and proven on the labelled time, and its true rates are then counted on a long time of the same camera.
Skipping, two detectors and one network are simulated, so that hundreds of splits take minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cpuserve.measuring.results import write_result
from cpuserve.video.cascade_choice import REFERENCE_ONLY, Choice, replay
from cpuserve.video.cascade_search import Caution, WindowRows, part_of, search
from cpuserve.video.chosen_cascade import choose_cascade
from cpuserve.video.guarantee import Budgets
from cpuserve.video.score_table import ScoreTable
from cpuserve.video.windows import clopper_pearson

__all__ = ["main"]

_LEAST = 1e-6  # of a probability or a difference whose logarithm is taken
_POINT_ESTIMATE = Caution(1.0, 1.0, "the whole budgets")
_DETECTORS = ("global:10", "blocked:reference")
_SHARES = (0.0, 0.3, 0.7)  # of the labelled time, for training, choosing and proving


def main() -> None:
    """Simulate the splits and print or write how often budgets were broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.npz of a clip")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--frames", type=int, nargs="+", default=[20_000, 60_000], help="labelled, by turns")
    parser.add_argument("--true-frames", type=int, default=90_000, help="on which true rates are counted")
    parser.add_argument("--budget", type=float, default=0.1, help="FN and FP, share of windows")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    clips = {file.absolute().parent.name: _Camera(ScoreTable.load(file)) for file in given.scores}
    budgets = Budgets(given.budget, given.budget, given.confidence)
    names = [list(clips)[split % len(clips)] for split in range(given.splits)]
    lengths = [given.frames[split // len(clips) % len(given.frames)] for split in range(given.splits)]
    with ProcessPoolExecutor(given.processes) as pool:
        futures = [
            pool.submit(_split, clips[name], frames, given.true_frames, budgets, (given.seed, split))
            for split, (name, frames) in enumerate(zip(names, lengths, strict=True))
        ]
        rows = [
            {"clip": name, "frames": frames, **future.result()}
            for name, frames, future in zip(names, lengths, futures, strict=True)
        ]
    rules = {rule: _summary(rows, rule) for rule in ("promise", "point_estimate")}
    table = Table("rule", "splits", "promised", "broken", "broken, % of splits", "times as cheap")
    for rule, one in rules.items():
        cells = [one["splits"], one["promised"], one["broken"], f"{one['broken_share']:.1%}"]
        table.add_row(rule, *map(str, cells), f"{one['median_speed_up']:.1f}")
    Console().print(table)
    if given.out:
        words = ["python", "-m", "benchmarks.video_promises", *sys.argv[1:]]
        what = {"budget": given.budget, "confidence": given.confidence, "true_frames": given.true_frames}
        runs = {name: clip.counts for name, clip in clips.items()}
        write_result(given.out, words, {**what, "runs": runs, "rules": rules, "splits": rows})


class _Camera:
    """Draws endless time from the runs of a clip."""

    def __init__(self, table: ScoreTable) -> None:
        known = part_of(table, "choose", "test")
        self._table = _simulated(known)
        label = np.asarray(known.label, bool)
        new = (np.diff(label) != 0) | (np.diff(known.number) != 1) | (np.diff(known.video) != 0)
        runs = np.split(np.arange(len(label)), np.flatnonzero(new) + 1)
        self._runs = {sign: [run for run in runs if label[run[0]] == sign] for sign in (True, False)}
        if not all(self._runs.values()):
            raise SystemExit("the clip has no run with the object, or none without it: label a longer one")
        self._spread = {name: self._spread_of(scores) for name, scores in self._columns().items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are drawn from."""
        return {"with": len(self._runs[True]), "without": len(self._runs[False])}

    def weights(self, generator: np.random.Generator) -> dict[bool, NDArray[np.float64]]:
        """The share that each run has in a camera's time."""
        return {sign: generator.dirichlet(np.ones(len(runs))) for sign, runs in self._runs.items()}

    def time(
        self, frames: int, weights: Mapping[bool, NDArray[np.float64]], generator: np.random.Generator
    ) -> ScoreTable:
        """A table of so many frames: runs by turns, each shifted as a whole."""
        rows: list[NDArray[np.int64]] = []
        length, sign = 0, bool(generator.random() < 0.5)
        while length < frames:
            place = generator.choice(len(self._runs[sign]), p=weights[sign])
            rows.append(self._runs[sign][place])
            length, sign = length + len(rows[-1]), not sign
        run = np.repeat(np.arange(len(rows)), [len(one) for one in rows])[:frames]
        row = np.concatenate(rows)[:frames]
        label = np.asarray(self._table.label, bool)[row]
        shifts = {}
        for kind in ("probability", "difference"):
            shifts[kind] = generator.normal(size=len(rows))[run]
        columns: dict[str, Any] = {
            field.name: value[row]
            for field in dataclasses.fields(self._table)
            if isinstance(value := getattr(self._table, field.name), np.ndarray)
        }
        for name, scores in self._columns().items():
            kind = "difference" if name.startswith("difference.") else "probability"
            shift = shifts[kind] * np.where(label, *self._spread[name])
            columns[name] = _shifted(kind, scores[row], shift).astype(np.float32)
        columns["number"], columns["time_s"] = np.arange(frames), np.arange(frames) / self._table.frame_rate
        columns["video"] = np.zeros(frames, np.int16)
        columns["first"][0] = True
        places = np.searchsorted(np.cumsum(_SHARES)[:-1] * frames, np.arange(frames), side="right")
        columns["part"] = places.astype(np.uint8)
        for group, prefix in (("differences", "difference."), ("specialised", "specialised.")):
            names = [name for name in columns if name.startswith(prefix)]
            columns[group] = {name.removeprefix(prefix): columns.pop(name) for name in names}
        return dataclasses.replace(self._table, **columns)

    def _columns(self) -> dict[str, NDArray[np.float32]]:
        """All scores, by a name that says what they are."""
        table = self._table
        found = {f"difference.{name}": scores for name, scores in table.differences.items()}
        found |= {f"specialised.{name}": scores for name, scores in table.specialised.items()}
        return found if table.packets is None else {**found, "packets": table.packets}

    def _spread_of(self, scores: NDArray[np.float32]) -> tuple[float, float]:
        """How far the means of runs with and without the object differ from each other, as logarithms."""
        finite = np.isfinite(scores)
        spreads = []
        for sign in (True, False):
            means = [
                float(_log(scores[run[finite[run]]]).mean()) for run in self._runs[sign] if finite[run].any()
            ]
            spreads.append(float(np.std(means)) if len(means) > 1 else 0.0)
        return spreads[0], spreads[1]


def _simulated(table: ScoreTable) -> ScoreTable:
    """The table with the parts that are simulated; no column of them knows which frames were skipped."""
    differences = {name: scores for name, scores in table.differences.items() if name in _DETECTORS}
    first = next(iter(table.specialised))
    parts = {"decode:all", "scale", "reference", f"specialised:{first}"}
    parts |= {f"difference:{name}" for name in differences}
    return dataclasses.replace(
        table,
        differences=differences,
        specialised={first: table.specialised[first]},
        packets=None,
        costs={name: cost for name, cost in table.costs.items() if name in parts},
    )


def _log(scores: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(scores, _LEAST)), np.float64)


def _shifted(kind: str, scores: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences times a factor, or probabilities with their odds times one; what is no number stays."""
    if kind == "difference":
        return np.asarray(scores * np.exp(shift))
    inside = np.clip(scores.astype(float), _LEAST, 1 - _LEAST)
    return np.asarray(1 / (1 + (1 - inside) / inside * np.exp(-shift)))


def _split(
    camera: _Camera, frames: int, true_frames: int, budgets: Budgets, seed: tuple[int, int]
) -> dict[str, Any]:
    """Both rules on one camera."""
    generator = np.random.default_rng(seed)
    weights = camera.weights(generator)
    labelled, future = camera.time(frames, weights, generator), camera.time(true_frames, weights, generator)
    truth = WindowRows.of(future)
    chosen = choose_cascade(labelled, budgets)
    fitting = [one for one in search(labelled, budgets, [_POINT_ESTIMATE]) if one.choice != REFERENCE_ONLY]
    return {
        "promise": _judged(
            future, truth, chosen.choice, chosen.cost_s, budgets, promised=chosen.promise.promised
        ),
        "point_estimate": _judged(
            future,
            truth,
            fitting[0].choice if fitting else REFERENCE_ONLY,
            fitting[0].cost_s if fitting else chosen.reference_s,
            budgets,
            promised=bool(fitting),
        ),
        "reference_ms": 1000 * chosen.reference_s,
        "more_minutes": chosen.promise.more_minutes if np.isfinite(chosen.promise.more_minutes) else None,
    }


def _judged(
    future: ScoreTable, truth: WindowRows, choice: Choice, cost_s: float, budgets: Budgets, *, promised: bool
) -> dict[str, Any]:
    found = truth.labels(replay(future, choice).labels)
    fn = float((truth.truth & ~found).sum() / max(1, truth.truth.sum()))
    fp = float((~truth.truth & found).sum() / max(1, (~truth.truth).sum()))
    broken = promised and (fn > budgets.fn or fp > budgets.fp)
    return {"promised": promised, "broken": broken, "fn": fn, "fp": fp, "ms": 1000 * cost_s}


def _summary(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    count: Callable[[str], int] = lambda key: sum(row[rule][key] for row in rows)  # noqa: E731
    faster = [row["reference_ms"] / row[rule]["ms"] for row in rows if row[rule]["promised"]]
    return {
        "splits": len(rows),
        "promised": count("promised"),
        "broken": count("broken"),
        "broken_share": count("broken") / len(rows),
        "broken_at_most": clopper_pearson(count("broken"), len(rows), 0.9)[1],
        "broken_share_of_promised": count("broken") / max(1, count("promised")),
        "median_speed_up": float(np.median(faster)) if faster else 0.0,
    }


if __name__ == "__main__":
    main()
