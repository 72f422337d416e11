"""Trials made for tests: figures by a rule, numbered in order."""

from __future__ import annotations

from typing import Any

from cpuserve.tune.trial import Figures, Point, Trial


def figures(images_per_s: float = 100.0, p99_ms: float = 10.0, noise: float = 0.02, **more: Any) -> Figures:
    fields: dict[str, Any] = {"p50_ms": p99_ms / 2, "p95_ms": 0.9 * p99_ms, "cpu_ms": 5.0, "rss_mib": 300.0}
    return Figures(images_per_s=images_per_s, p99_ms=p99_ms, noise=noise, **{**fields, **more})


def trials(
    *rows: tuple[dict[str, Any], Figures | str] | tuple[dict[str, Any], Figures | str, str],
) -> list[Trial]:
    """Of (knobs, figures or error[, reason])."""
    made = []
    for number, row in enumerate(rows):
        found, reason = row[1], row[2] if len(row) > 2 else "search"
        seen = None if isinstance(found, str) else found
        error = found if isinstance(found, str) else ""
        made.append(Trial(number, Point.of(row[0]), reason, seen, error, seconds=5.0))
    return made
