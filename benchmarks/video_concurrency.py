"""Times a classifier on a video: OpenCV frame by frame, the same with swscale, and `cpuserve video infer`.

It is the case of a video quality service that Intel published: 720 frames that one thread decodes and scales
while the inference waits. Decoding is in every time; loading the model is in none. Run as
``python -m benchmarks.video_concurrency --model MODEL --clips DIR [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fixtures.long_clip import ClipRecipe, make_clip
from cpuserve.errors import CpuserveError
from cpuserve.measuring.results import write_result
from cpuserve.serving.decode import Pixels
from cpuserve.settings import load
from cpuserve.video.decoding import frames
from cpuserve.video.frame_model import FrameModel, open_frame_model
from cpuserve.video.scale import Scale

__all__ = ["main"]

_PRECISION = "f32"
_SUFFIXES = (".avi", ".mp4")
_TARGETS = {"total": 2.4, "concurrency": 1.7}
_WAYS = {
    "opencv_area": "OpenCV, INTER_AREA, one core",
    "opencv_linear": "OpenCV, INTER_LINEAR, one core",
    "opencv_all_cores": "OpenCV, INTER_AREA, frame by frame, all cores",
    "one_core": "swscale, frame by frame, one core",
    "all_cores": "cpuserve video infer, all cores",
}
_PINNED = ("opencv_area", "opencv_linear", "one_core")


def main() -> None:
    """Time every way by turns, and print or write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a classifier: NAME of the repository, or its file")
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    parser.add_argument("--clips", type=Path, required=True, help="directory of videos whose frames are used")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="72 small frames and one round: a trial")
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(_time_one(given.way, given.clips, given.model, given.model_repository)))  # noqa: T201
        return
    recipe = ClipRecipe(frames=72, width=320, height=240, gop=24) if given.quick else ClipRecipe()
    found = _measure(
        given.clips, recipe, given.model, given.model_repository, 1 if given.quick else given.rounds
    )
    _show(found)
    if given.out:
        words = ["python", "-m", "benchmarks.video_concurrency", *sys.argv[1:]]
        write_result(given.out, words, found)


def _measure(clips: Path, recipe: ClipRecipe, model: str, repository: Path, rounds: int) -> dict[str, Any]:
    sources = [
        file for file in sorted(clips.iterdir()) if file.suffix in (".mp4", ".avi") and "odd" not in file.name
    ]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, sources, recipe)
        size = clip.stat().st_size
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
        for _ in range(rounds):
            for way in _WAYS:
                runs[way].append(_in_a_process(way, clip, model, repository))
    rows = {way: _row(way, of_way) for way, of_way in runs.items()}
    top = {way: of_way[0]["top"] for way, of_way in runs.items()}
    if top["one_core"] != top["all_cores"]:
        raise CpuserveError("the frames have other classes when they are decoded on several cores")
    same = {way: _agreement(top[way], top["all_cores"]) for way in _WAYS}
    seconds = {way: row["seconds"] for way, row in rows.items()}
    speed_ups = {
        "total": seconds["opencv_area"] / seconds["all_cores"],
        "total_linear": seconds["opencv_linear"] / seconds["all_cores"],
        "total_all_cores": seconds["opencv_all_cores"] / seconds["all_cores"],
        "scaler": seconds["opencv_area"] / seconds["one_core"],
        "concurrency": seconds["one_core"] / seconds["all_cores"],
    }
    return {
        "model": Path(model).name,
        "precision": _PRECISION,
        "cpus": len(os.sched_getaffinity(0)),
        "clip": {**vars(recipe), "bytes": size, "of": [file.name for file in sources]},
        "rounds": rounds,
        "ways": [{**row, "same_class": same[way]} for way, row in rows.items()],
        "speed_ups": {name: round(value, 3) for name, value in speed_ups.items()},
        "targets": _TARGETS,
    }


def _row(way: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = [run["seconds"] for run in runs]
    return {
        "way": way,
        "words": _WAYS[way],
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "cpu_ms_per_frame": statistics.median(1000 * run["cpu_s"] / run["frames"] for run in runs),
        "frames": runs[0]["frames"],
    }


def _agreement(some: Sequence[str], others: Sequence[str]) -> float:
    return sum(one == other for one, other in zip(some, others, strict=True)) / len(others)


def _in_a_process(way: str, clip: Path, model: str, repository: Path) -> dict[str, Any]:
    """What `_time_one` gives in a process of its own, on one core if the way has one."""
    words = ["--way", way, "--clips", str(clip), "--model", model, "--model-repository", str(repository)]
    command = [sys.executable, "-m", "benchmarks.video_concurrency", *words]
    if way in _PINNED:
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CpuserveError(f"{_WAYS[way]} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _time_one(way: str, clip: Path, model: str, repository: Path) -> dict[str, Any]:
    if way == "all_cores":
        return _infer(clip, model, repository)
    settings = load({"model_repository": str(repository), "precision": _PRECISION})
    with open_frame_model(model, settings) as opened:
        opened.answer(np.zeros((opened.scale.height, opened.scale.width, 3), np.uint8), 1, 1)
        pictures = _SOURCES[way]
        began, cpu = time.perf_counter(), time.process_time()
        top = [_class(opened, pixels, *size) for pixels, size in pictures(clip, opened.scale)]
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu_s": cpu_s, "frames": len(top), "top": top}


def _infer(clip: Path, model: str, repository: Path) -> dict[str, Any]:
    """`cpuserve video infer`, whose own time leaves out what loading the model takes."""
    out = clip.with_name("answers.jsonl")
    words = ["video", "infer", str(clip), "--model", model, "--model-repository", str(repository)]
    words += ["--precision", _PRECISION, "-o", str(out), "--overwrite", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "cpuserve", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CpuserveError(f"cpuserve video infer failed: {done.stderr[-2000:]}")
    summary = json.loads(done.stdout)
    top = [json.loads(line)["predictions"][0]["label"] for line in out.read_text().splitlines()]
    cpu_ms = summary["cpu_ms_per_frame"]["total"]
    return {"seconds": summary["seconds"], "cpu_s": cpu_ms * len(top) / 1000, "frames": len(top), "top": top}


def _class(model: FrameModel, pixels: Pixels, width: int, height: int) -> str:
    return str(model.answer(pixels, width, height)["predictions"][0]["label"])


def _by_opencv(interpolation: int) -> Callable[[Path, Scale], Iterator[tuple[Pixels, tuple[int, int]]]]:
    def pictures(clip: Path, scale: Scale) -> Iterator[tuple[Pixels, tuple[int, int]]]:
        video = cv2.VideoCapture(str(clip))
        while True:
            read, picture = video.read()
            if not read:
                video.release()
                return
            height, width = picture.shape[:2]
            source, target = scale.windows(width, height)
            part = picture[source.top : source.top + source.height, source.left : source.left + source.width]
            small = cv2.resize(part, (target.width, target.height), interpolation=interpolation)
            whole = np.full((scale.height, scale.width, 3), scale.pad_value, np.uint8)
            whole[target.top : target.top + target.height, target.left : target.left + target.width] = small
            yield whole if scale.colour == "BGR" else whole[:, :, ::-1].copy(), (width, height)

    return pictures


def _by_swscale(clip: Path, scale: Scale) -> Iterator[tuple[Pixels, tuple[int, int]]]:
    for frame in frames(clip):
        yield frame.scaled(scale), (frame.width, frame.height)


_SOURCES = {
    "opencv_area": _by_opencv(cv2.INTER_AREA),
    "opencv_linear": _by_opencv(cv2.INTER_LINEAR),
    "opencv_all_cores": _by_opencv(cv2.INTER_AREA),
    "one_core": _by_swscale,
}


def _show(found: dict[str, Any]) -> None:
    table = Table("way", "s", "least to most", "CPU-ms a frame", "same class")
    for row in found["ways"]:
        spread = f"{row['least']:.2f} to {row['most']:.2f}"
        figures = (f"{row['cpu_ms_per_frame']:.2f}", f"{row['same_class']:.1%}")
        table.add_row(row["words"], f"{row['seconds']:.2f}", spread, *figures)
    console = Console()
    console.print(table)
    for name, value in found["speed_ups"].items():
        wanted = f" (at least {_TARGETS[name]})" if name in _TARGETS else ""
        console.print(f"{name}: {value:.2f} times{wanted}")


if __name__ == "__main__":
    main()
