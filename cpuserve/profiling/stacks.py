"""Reads sampled Python stacks: the busiest functions, a flame graph, and files for other tools."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cpuserve.profiling.recording import Stacks
from cpuserve.reports.drawing import Drawing
from cpuserve.reports.flame_graph import flame_graph
from cpuserve.serving.stages import IDLE_FUNCTIONS, in_files, stage_of

__all__ = [
    "HotFunction",
    "StackGraph",
    "busy_stacks",
    "function_of",
    "hottest",
    "speedscope",
    "stack_graph",
    "write_stacks",
]

_LINE = re.compile(r":\d+\)$")
_ROOT = re.compile(r"^(process \d+|thread \(|MainThread|Thread-)")
_IDLE = re.compile(
    "|".join(rf"^([\w.<>]+\.)?({'|'.join(names)}) .*({in_files([file])})" for file, names in IDLE_FUNCTIONS)
)


@dataclass(frozen=True)
class HotFunction:
    """A function and its share of the samples.

    Attributes:
        function: as ``name (file.py)``.
        self_share: share of the samples in which it was innermost.
        total_share: share of the samples in which it was anywhere in the stack.
    """

    function: str
    self_share: float
    total_share: float


def function_of(frame: str) -> str:
    """A frame without its line: ``name (file.py)``."""
    return _LINE.sub(")", frame)


def busy_stacks(stacks: Stacks) -> Iterator[tuple[list[str], int]]:
    """(frames, samples) of stacks that did not wait, outermost first, without process and thread."""
    for folded, count in stacks.folded.items():
        frames = [frame for frame in folded.split(";") if frame and not _ROOT.match(frame)]
        if frames and not _IDLE.match(frames[-1]):
            yield frames, count


def hottest(stacks: Stacks | None) -> list[HotFunction]:
    """Functions by the samples in which they were innermost, most first."""
    if stacks is None:
        return []
    own: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    total = 0
    for frames, count in busy_stacks(stacks):
        functions = [function_of(frame) for frame in frames]
        own[functions[-1]] += count
        inside.update(dict.fromkeys(set(functions), count))
        total += count
    return [HotFunction(name, count / total, inside[name] / total) for name, count in own.most_common()]


class StackGraph(NamedTuple):
    """A flame graph of the threads that were at work.

    Attributes:
        drawing: by function, coloured by stage.
        samples: how many are in it.
    """

    drawing: Drawing
    samples: int


def stack_graph(stacks: Stacks) -> StackGraph | None:
    """Draw all stacks that did not wait, merged by function; None where there are none."""
    found = [([function_of(frame) for frame in frames], count) for frames, count in busy_stacks(stacks)]
    drawing = flame_graph(found, _kind_of)
    return None if drawing is None else StackGraph(drawing, sum(count for _, count in found))


def _kind_of(frame: str, above: str) -> str:
    """The stage of a frame; what a user's own tail calls belongs to the stage that called the tail."""
    own = stage_of(frame)
    return own if own and not (own == "serialise" and above not in ("other", "serialise")) else above


def write_stacks(stacks: Stacks, name: str, folder: Path) -> None:
    """Write ``stacks.folded``, ``stacks.speedscope.json`` and, of threads at work, ``flamegraph.svg``."""
    lines = (f"{stack} {count}\n" for stack, count in sorted(stacks.folded.items()))
    (folder / "stacks.folded").write_text("".join(lines), encoding="utf-8")
    document = json.dumps(speedscope(stacks, name))
    (folder / "stacks.speedscope.json").write_text(document, encoding="utf-8")
    graph = stack_graph(stacks)
    if graph is not None:
        (folder / "flamegraph.svg").write_text(graph.drawing.file_text(), encoding="utf-8")


def speedscope(stacks: Stacks, name: str) -> dict[str, Any]:
    """The stacks as a sampled profile (https://www.speedscope.app/file-format-schema.json), in seconds."""
    numbers: dict[str, int] = {}
    samples = [
        [numbers.setdefault(frame, len(numbers)) for frame in stack.split(";")] for stack in stacks.folded
    ]
    weights = [count / stacks.rate for count in stacks.folded.values()]
    profile = {
        "type": "sampled",
        "name": name,
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": frame} for frame in numbers]},
        "profiles": [profile],
        "name": name,
        "activeProfileIndex": 0,
        "exporter": "cpuserve profile",
    }
