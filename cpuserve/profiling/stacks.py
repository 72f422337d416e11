"""Reads folded Python stacks: which functions held the interpreter; it takes no samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cpuserve.profiling.recording import Stacks
from cpuserve.serving.stages import IDLE_FUNCTIONS, in_files

__all__ = ["HotFunction", "busy_stacks", "function_of", "hottest"]

_LINE = re.compile(r":\d+\)$")
_ROOT = re.compile(r"^(process \d+|thread \(|MainThread|Thread-)")
_IDLE = re.compile(
    "|".join(rf"^([\w.<>]+\.)?({'|'.join(names)}) .*({in_files([file])})" for file, names in IDLE_FUNCTIONS)
)


@dataclass(frozen=True)
class HotFunction:
    """A function and its part of the samples.

    Attributes:
        function: as ``name (file.py)``.
        self_share: of the samples, those in which it was innermost.
        total_share: those in which it was anywhere.
    """

    function: str
    self_share: float
    total_share: float


def function_of(frame: str) -> str:
    """A frame without its line: ``name (file.py)``."""
    return _LINE.sub(")", frame)


def busy_stacks(stacks: Stacks) -> Iterator[tuple[list[str], int]]:
    """Stacks that were at work, outermost frame first, without the lines of processes and threads."""
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
