"""Writes sampled stacks in speedscope's file format, where py-spy has not written them itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cpuserve import __version__
from cpuserve.profiling.recording import Stacks

__all__ = ["SPEEDSCOPE", "write_speedscope"]

SPEEDSCOPE = "speedscope.json"
"""Its name in the directory of a profile."""

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_FRAME = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*?)(:(?P<line>\d+))?\)$")


def write_speedscope(stacks: Stacks, folder: Path, title: str) -> Path:
    """Write the stacks to the directory of a profile.

    Args:
        stacks: what was sampled.
        folder: where to; made if needed.
        title: what speedscope shows above them.

    Returns:
        The file.
    """
    numbers: dict[str, int] = {}
    samples, weights = [], []
    for folded, count in stacks.folded.items():
        frames = [frame for frame in folded.split(";") if frame]
        samples.append([numbers.setdefault(frame, len(numbers)) for frame in frames])
        weights.append(count / stacks.rate)
    content = {
        "$schema": _SCHEMA,
        "exporter": f"cpuserve {__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in numbers]},
        "profiles": [
            {
                "type": "sampled",
                "name": stacks.source,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SPEEDSCOPE
    file.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return file


def _frame(frame: str) -> dict[str, Any]:
    found = _FRAME.match(frame)
    if not found:
        return {"name": frame}
    line = found["line"]
    return {"name": found["name"], "file": found["file"], **({"line": int(line)} if line else {})}
