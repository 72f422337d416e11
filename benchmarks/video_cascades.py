"""Measures cascades on clips they were not trained on, against the reference on every frame and some.

The first part of each clip trains (`cpuserve video train`), the rest is run (`cpuserve video run`). Decoding
is in every time, loading the models is in none. Run as ``python -m benchmarks.video_cascades --clips DIR
--model-repository DIR --references deeplab yolox [--out FILE]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fixtures.clip_parts import divide_clip
from cpuserve.errors import CpuserveError
from cpuserve.measuring.results import write_result
from cpuserve.video.cascade_file import Cascade, FrameSampling
from cpuserve.video.label_file import read_labels
from cpuserve.video.window_looks import LOOKS, WindowScores
from cpuserve.video.windows import LEAST_POSITIVE, WINDOW_FRAMES, Accuracy, accuracy

__all__ = ["main"]

_SHARE = 0.6
_SKIPS = (30, 15, 10, 5, 3, 2)
_TARGET_ERROR = 0.02
_TARGETS = {"heavy": 20.0, "light": 8.0, "stage_0": 1.3}


@dataclass(frozen=True)
class ClipQuery:
    """What is asked of a clip.

    Attributes:
        clip: name of the file.
        query: for `--query`.
    """

    clip: str
    query: str


QUERIES = (
    ClipQuery("one-by-one-person-detection.mp4", "person"),
    ClipQuery("street_cars.mp4", "car@0,0.55,1,1"),
    ClipQuery("highway.avi", "car@0,0.60,1,1"),
)


@dataclass(frozen=True)
class _Asked:
    """What every command of a measurement is given."""

    repository: Path
    precision: str
    answers: Path

    def call(self, *words: str) -> dict[str, Any]:
        """What a command of `cpuserve video` prints with ``--json``."""
        command = [sys.executable, "-m", "cpuserve", "video", *words, "--json", "--quiet"]
        command += ["--model-repository", str(self.repository), "--precision", self.precision]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):  # 3: the audit found a budget broken
            raise CpuserveError(
                f"cpuserve video {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def main() -> None:
    """Train, run and compare every clip with every reference; print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="directory of the clips")
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument(
        "--references", nargs="+", required=True, help="models; the first is to be 20 times slower, others 8"
    )
    parser.add_argument("--only", nargs="+", help="beginnings of the names of the clips to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.01, help="of training, for fn and fp")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--quick", action="store_true", help="one round, without plain skipping: a trial")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    chosen = [one for one in QUERIES if not given.only or one.clip.startswith(tuple(given.only))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        asked = _Asked(given.model_repository, given.precision, Path(folder) / "answers")
        for place, reference in enumerate(given.references):
            for query in chosen:
                work = Path(folder) / f"{reference.replace('/', '-')}-{query.clip}"
                work.mkdir()
                rounds = 1 if given.quick else given.rounds
                row = _measure(
                    asked, given.clips, query, reference, work, rounds, given.budget, skips=not given.quick
                )
                target = _TARGETS["light" if place else "heavy"]
                errors = max(
                    row["fn"]["wrong"] / max(1, row["fn"]["of"]), row["fp"]["wrong"] / max(1, row["fp"]["of"])
                )
                held = row["speed_up"] >= target and errors <= _TARGET_ERROR
                rows.append({**row, "target": target, "held": held})
                _show(rows[-1:])
    _show(rows)
    if given.out:
        words = ["python", "-m", "benchmarks.video_cascades", *sys.argv[1:]]
        facts = {"cpus": len(os.sched_getaffinity(0)), "precision": given.precision, "budget": given.budget}
        write_result(given.out, words, {**facts, "trained_on": _SHARE, "targets": _TARGETS, "rows": rows})


def _measure(
    asked: _Asked,
    clips: Path,
    query: ClipQuery,
    reference: str,
    work: Path,
    rounds: int,
    budget: float,
    *,
    skips: bool,
) -> dict[str, Any]:
    """Train on the first part of a clip and run on the rest, by turns with the reference alone."""
    suffix = Path(query.clip).suffix
    first, rest = work / f"first{suffix}", work / f"rest{suffix}"
    frames = divide_clip(clips / query.clip, _SHARE, first, rest)
    cascade = work / "cascade"
    trained = asked.call(
        *("train", str(first), "--reference", reference, "--query", query.query, "-o", str(cascade)),
        *("--fn", str(budget), "--fp", str(budget), "--answers", str(asked.answers)),
    )
    truth, runs = work / "truth.csv", []
    every = [_run(asked, rest, cascade, truth, "--every-frame") for _ in range(min(rounds, 2))]
    wanted = _labels(truth)
    for number in range(rounds):  # each audits a sample of its own
        runs.append(_run(asked, rest, cascade, work / "run.csv", "--seed", str(number)))
    plain = _run(asked, rest, cascade, work / "plain.csv", "--audit", "0")
    skip = _skipping(asked, rest, cascade, wanted, work) if skips else None
    seconds = {"every": _median(every, "seconds"), "cascade": _median(runs, "seconds")}
    cpu = {"every": _median(every, "cpu_ms_per_frame"), "cascade": _median(runs, "cpu_ms_per_frame")}
    made = Cascade.load(cascade)
    costs = {name: 1000 * cost for name, cost in made.costs.items()}
    fewer = min(costs["decode:nonref"], costs["decode:nonkey"])
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    rounded_cpu = {name: round(value, 3) for name, value in cpu.items()}
    return {
        "clip": query.clip,
        "query": query.query,
        "reference": reference,
        "frames": {"trained": frames[0], "run": len(wanted)},
        "choice": repr(made.choice),
        "promised": dataclasses.asdict(made.promise),
        "train_words": trained.get("words"),
        "seconds": rounded | {"unaudited": plain["seconds"]},
        "cpu_ms_per_frame": rounded_cpu | {"unaudited": plain["cpu_ms_per_frame"]},
        "speed_up": round(seconds["every"] / seconds["cascade"], 2),
        "speed_up_cpu": round(cpu["every"] / cpu["cascade"], 2),
        "speed_up_unaudited": round(seconds["every"] / plain["seconds"], 2),
        "skipping": skip and {**skip, "speed_up": round(skip["seconds"] / seconds["cascade"], 2)},
        "shares": runs[0]["shares"],
        "audited": [run["audited"] for run in runs],
        "alarms": len(runs[0]["alarms"]),
        **_errors(accuracy(_labels(work / "run.csv"), wanted)),
        "costs_ms": {name: round(cost, 4) for name, cost in costs.items()},
        "stage_0": round(costs["decode:all"] / fewer, 2),
        "parts_ms": _parts(made, runs[-1]),
        "looks_alone": _looks_alone(wanted),
    }


def _looks_alone(wanted: Any) -> list[dict[str, float]]:
    """Windows that the reference itself gets wrong by looks alone, wherever they begin."""
    rows = np.arange(max(0, len(wanted) - WINDOW_FRAMES + 1))[:, None] + np.arange(WINDOW_FRAMES)
    truth = wanted[rows].sum(axis=1) >= LEAST_POSITIVE
    found = []
    for looks in LOOKS:
        seen = WindowScores(rows, truth, wanted, looks, None)
        missed, invented, _, asked = seen.decided(0.0, 1.0, WINDOW_FRAMES)
        share = {"fn": missed / max(1, truth.sum()), "fp": invented / max(1, (~truth).sum()), "asked": asked}
        found.append({"looks": len(looks), **{name: round(float(one), 4) for name, one in share.items()}})
    return found


def _parts(made: Cascade, run: dict[str, Any]) -> dict[str, float]:
    """Where the CPU time of a frame went in a run: what parts cost in training, by their shares of frames."""
    costs, shares, choice = made.costs, run["shares"], made.choice
    looked = len(choice.looks) / WINDOW_FRAMES if choice.looks else 1 - shares["skipped"] - shares["packets"]
    asked = looked if choice.looks else shares["specialised"] + shares["reference"]
    small = choice.detector is not None or choice.cnn is not None
    found = {
        "decoding": costs[f"decode:{choice.which}"],
        "scaling": looked * costs["scale"] * small,
        "detector": looked * costs[f"difference:{choice.detector}"] if choice.detector else 0.0,
        "network": asked * costs[f"specialised:{choice.cnn}"] if choice.cnn else 0.0,
        "reference": shares["reference"] * costs["reference"],
        "audit": run["audited"] / run["frames"] * costs["reference"],
    }
    parts = {name: round(1000 * seconds, 3) for name, seconds in found.items()}
    return {**parts, "all else": round(run["cpu_ms_per_frame"] - sum(parts.values()), 3)}


def _run(asked: _Asked, clip: Path, cascade: Path, out: Path, *words: str) -> dict[str, Any]:
    return asked.call("run", str(clip), "--cascade", str(cascade), "-o", str(out), "--overwrite", *words)


def _labels(file: Path) -> Any:
    return np.array([frame.label for frame in read_labels(file)], bool)


def _median(runs: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.median(float(run[key]) for run in runs)


def _skipping(asked: _Asked, clip: Path, cascade: Path, wanted: Any, work: Path) -> dict[str, Any]:
    """The reference on every k-th frame, with the largest k that errs on few enough windows."""
    for every in (*_SKIPS, 1):
        copied = wanted[np.arange(len(wanted)) // every * every]
        found = accuracy(copied, wanted)
        if max(found.fn.value or 0, found.fp.value or 0) <= _TARGET_ERROR:
            break
    plain = work / f"every-{every}"
    shutil.copytree(cascade, plain)
    trained = Cascade.load(plain)
    dataclasses.replace(
        *(trained,), sampling=FrameSampling(every), packets=None, difference=None, specialised=None
    ).save(plain)
    run = _run(asked, clip, plain, work / f"every-{every}.csv", "--audit", "0")
    return {"every": every, "seconds": run["seconds"], "cpu_ms_per_frame": run["cpu_ms_per_frame"]}


def _errors(found: Accuracy) -> dict[str, Any]:
    return {
        "windows": found.windows,
        "changes": found.changes,
        "fn": dataclasses.asdict(found.fn),
        "fp": dataclasses.asdict(found.fp),
        "frames_fn": dataclasses.asdict(found.frames_fn),
        "frames_fp": dataclasses.asdict(found.frames_fp),
    }


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(
        "clip", "reference", "every frame, s", "cascade, s", "times", "CPU", "skipping", "fn", "fp", "ref."
    )
    for row in rows:
        seconds, skip = row["seconds"], row["skipping"]
        table.add_row(
            *(row["clip"][:12], row["reference"][:12]),
            *(f"{seconds['every']:.2f}", f"{seconds['cascade']:.2f}"),
            f"{row['speed_up']:.1f} ({row['target']:g})",
            f"{row['speed_up_cpu']:.1f}",
            "" if skip is None else f"1 of {skip['every']}: {skip['speed_up']:.1f}",
            *(f"{row[kind]['wrong']} of {row[kind]['of']}" for kind in ("fn", "fp")),
            f"{row['shares']['reference']:.1%}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
