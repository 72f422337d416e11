"""Draws sampled stacks as a flame graph with the callers on top.

After Gregg, The Flame Graph (Communications of the ACM 59(6), 2016): width is the share of the samples, the
order from left to right is alphabetic and has no meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cpuserve.reports.drawing import Drawing

__all__ = ["flame_graph"]

_WIDTH, _ROW = 1120, 19
_LEAST = 0.0015  # of all samples: narrower frames are left out
_LETTER = 6.3  # units


@dataclass
class _Frame:
    name: str
    count: int = 0
    inner: dict[str, _Frame] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 1 + max((frame.depth for frame in self.inner.values()), default=0)


def flame_graph(
    stacks: Iterable[tuple[Sequence[str], int]], kind_of: Callable[[str, str], str]
) -> Drawing | None:
    """Merge stacks by frame and draw them; None of no samples.

    Args:
        stacks: (frames from the outermost to the innermost, number of samples).
        kind_of: gives a frame's class in the style sheet, by its name and the class of its caller.
    """
    root = _Frame("all")
    for frames, count in stacks:
        root.count += count
        at = root
        for name in frames:
            at = at.inner.setdefault(name, _Frame(name))
            at.count += count
    if not root.count:
        return None
    drawing = Drawing(_WIDTH, root.depth * _ROW, "flame graph", "flame")
    _draw(drawing, root, root.count, 0.0, 0, "other", kind_of)
    return drawing


def _draw(
    drawing: Drawing,
    frame: _Frame,
    total: int,
    x: float,
    depth: int,
    kind: str,
    kind_of: Callable[[str, str], str],
) -> None:
    """Draw a frame and those that it called; ``x`` is its left edge as a share of the width."""
    share = frame.count / total
    width = share * _WIDTH
    box = drawing.add(
        "g",
        tip=f"{frame.name}: {frame.count} samples, {share:.1%}",
        data_x=f"{x:.5f}",
        data_w=f"{share:.5f}",
        data_d=depth,
        data_n=frame.name,
    )
    left, top = x * _WIDTH, depth * _ROW
    drawing.add("rect", kind, inside=box, x=left, y=top, width=max(width - 0.5, 0.3), height=_ROW - 1)
    room = int((width - 8) / _LETTER)
    words = (
        frame.name if len(frame.name) <= room else frame.name[: max(0, room - 1)] + "\N{HORIZONTAL ELLIPSIS}"
    )
    drawing.text(left + 4, top + 13, words if room >= 3 else "", inside=box)
    for name in sorted(frame.inner):
        inner = frame.inner[name]
        if inner.count / total >= _LEAST:
            _draw(drawing, inner, total, x, depth + 1, kind_of(name, kind), kind_of)
        x += inner.count / total
