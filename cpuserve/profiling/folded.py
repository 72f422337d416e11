"""Folded stacks as other tools read them: speedscope's JSON and a flame graph in SVG; it takes no samples."""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.profiling.recording import Stacks

__all__ = ["flame_svg", "speedscope", "write_stacks"]

_WIDTH, _ROW, _LETTER = 1200, 17, 7.0
_LEAST = 0.4  # pixels: what is thinner cannot be seen


def write_stacks(stacks: Stacks, name: str, folder: Path) -> None:
    """Write ``stacks.folded``, ``stacks.speedscope.json`` and ``flamegraph.svg``."""
    lines = (f"{stack} {count}\n" for stack, count in sorted(stacks.folded.items()))
    (folder / "stacks.folded").write_text("".join(lines), encoding="utf-8")
    document = json.dumps(speedscope(stacks, name))
    (folder / "stacks.speedscope.json").write_text(document, encoding="utf-8")
    (folder / "flamegraph.svg").write_text(flame_svg(stacks.folded), encoding="utf-8")


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


@dataclass
class _Node:
    count: int = 0
    below: dict[str, _Node] = field(default_factory=dict)


def flame_svg(folded: Mapping[str, int]) -> str:
    """A flame graph (Gregg, The Flame Graph, 2016): width is samples, callers below callees."""
    root = _Node()
    for stack, count in folded.items():
        root.count += count
        node = root
        for frame in stack.split(";"):
            node = node.below.setdefault(frame, _Node())
            node.count += count
    scale = _WIDTH / (root.count or 1)
    boxes = list(_boxes(root, 0.0, 0, scale))
    height = _ROW * (2 + max((depth for _, _, depth, _ in boxes), default=0))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="11">'
    ]
    for name, left, depth, count in boxes:
        width, top = count * scale, height - _ROW * (depth + 1)
        told = html.escape(f"{name}: {count} samples, {count / root.count:.1%}")
        shown = html.escape(name[: int((width - 4) / _LETTER)]) if width > 3 * _LETTER else ""
        lines.append(
            f'<g><title>{told}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW - 1}" '
            f'fill="{_colour(name)}"/><text x="{left + 2:.1f}" y="{top + 12}">{shown}</text></g>'
        )
    return "\n".join([*lines, "</svg>\n"])


def _boxes(node: _Node, left: float, depth: int, scale: float) -> Iterator[tuple[str, float, int, int]]:
    for name, child in sorted(node.below.items()):
        if child.count * scale >= _LEAST:
            yield name, left, depth, child.count
            yield from _boxes(child, left, depth + 1, scale)
        left += child.count * scale


def _colour(name: str) -> str:
    """Warm, and the same for a name on every graph."""
    value = zlib.crc32(name.encode())
    return f"hsl({value % 45 + 5},{70 + value // 64 % 20}%,{62 + value // 4096 % 14}%)"
