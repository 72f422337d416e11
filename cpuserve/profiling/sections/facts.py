"""Shows settings, placement, what watching cost and what could not be seen; it judges nothing."""

from __future__ import annotations

import json
from typing import Any

from cpuserve.profiling.sections.view import View, escape, section, table

__all__ = ["missing", "settings"]


def settings(view: View) -> str:
    """Settings of the server, the seats, the load and the cost of watching, side by side."""
    recording = view.recording
    seats = recording.placement.get("seats") or []
    pids = {worker["seat"]: worker["pid"] for worker in recording.placement.get("workers") or ()}
    blocks = [
        _block("Settings", recording.settings),
        _table(
            "Seats",
            ["seat", "process", "CPUs", "threads"],
            [
                [
                    str(seat["index"]),
                    str(pids.get(seat["index"], "")),
                    escape(str(seat["cpus"])),
                    str(seat["threads"]),
                ]
                for seat in seats
            ],
        ),
        _block("Load", recording.load),
        _block("Throttling", recording.throttling),
        _block("Cost of watching", recording.overhead),
    ]
    found = [block for block in blocks if block]
    return section("Settings and placement", f'<div class="columns">{"".join(found)}</div>' if found else "")


def _block(title: str, content: dict[str, Any]) -> str:
    return _table(
        title, [], [[escape(name), f"<code>{escape(_said(value))}</code>"] for name, value in content.items()]
    )


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    return f"<div><h3>{escape(title)}</h3>{table(head, rows, left=9)}</div>" if rows else ""


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def missing(view: View) -> str:
    """What could not be seen, each with the line that would let it be seen."""
    said = [*view.recording.missing]
    if view.summary.latency.missing:
        said.append(view.summary.latency.missing)
    lines = "".join(f"<li>{escape(line)}</li>" for line in said)
    return section(
        "What is missing",
        f"<ul>{lines}</ul>" if lines else "<p>Nothing: every observer saw what it looks at.</p>",
    )
