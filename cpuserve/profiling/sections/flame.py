"""Draws sampled stacks as a flame graph, root on top, enlarged by a click; it takes no samples.

After Gregg, The Flame Graph (Communications of the ACM 59(6), 2016): width is the share of the samples, order
is alphabetic and has no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cpuserve.profiling.recording import Stacks
from cpuserve.profiling.sections.view import WIDTH, View, escape, section
from cpuserve.profiling.stacks import busy_stacks, function_of
from cpuserve.serving.stages import stage_of

__all__ = ["flame_graph"]

_ROW = 19
_LEAST = 0.0015  # of all samples: narrower frames are left out
_LETTER = 6.3  # units


@dataclass
class _Frame:
    name: str
    count: int = 0
    inner: dict[str, _Frame] = field(default_factory=dict)


def flame_graph(view: View) -> str:
    """All stacks that were at work, merged by function."""
    stacks = view.recording.stacks
    root = _merged(stacks) if stacks else None
    if stacks is None or root is None or not root.count:
        return ""
    drawn: list[str] = []
    depth = _draw(root, root.count, 0.0, 0, "other", drawn)
    height = (depth + 1) * _ROW
    body = (
        f'<svg id="flame" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="flame graph">'
        f"{''.join(drawn)}</svg>"
    )
    native = (
        " with native frames"
        if stacks.native
        else "; time in C libraries is in the Python function that called"
    )
    note = (
        f"{root.count} samples of threads at work, {stacks.rate} a second for {stacks.seconds:.1f} s "
        f"({escape(stacks.source)}){native}. Width is the share of the samples, the caller is above. Click "
        "a frame to "
        "enlarge it, the top one to go back."
    )
    return section("Flame graph", body, note)


def _merged(stacks: Stacks) -> _Frame:
    root = _Frame("all")
    for frames, count in busy_stacks(stacks):
        root.count += count
        at = root
        for frame in frames:
            name = function_of(frame)
            at = at.inner.setdefault(name, _Frame(name))
            at.count += count
    return root


def _draw(frame: _Frame, total: int, x: float, depth: int, above: str, drawn: list[str]) -> int:
    """Draw a frame and those inside it; returns the greatest depth."""
    share = frame.count / total
    own = stage_of(frame.name)
    # what the tail of a user calls belongs to the stage that called it
    kind = own if own and not (own == "serialise" and above not in ("other", "serialise")) else above
    width = share * WIDTH
    title = escape(f"{frame.name}: {frame.count} samples, {share:.1%}")
    drawn.append(
        f'<g data-x="{x:.5f}" data-w="{share:.5f}" data-d="{depth}" data-n="{escape(frame.name)}">'
        f"<title>{title}</title>"
        f'<rect class="{kind}" x="{x * WIDTH:.1f}" y="{depth * _ROW}" width="{max(width - 0.5, 0.3):.1f}" '
        f'height="{_ROW - 1}"/><text x="{x * WIDTH + 4:.1f}"'
        f' y="{depth * _ROW + 13}">{_label(frame.name, width)}</text></g>'
    )
    deepest = depth
    for name in sorted(frame.inner):
        one = frame.inner[name]
        if one.count / total >= _LEAST:
            deepest = max(deepest, _draw(one, total, x, depth + 1, kind, drawn))
        x += one.count / total
    return deepest


def _label(name: str, width: float) -> str:
    room = int((width - 8) / _LETTER)
    if room < 3:
        return ""
    return escape(name if len(name) <= room else name[: room - 1] + "\N{HORIZONTAL ELLIPSIS}")
