"""What every section of the page is given, and how it writes numbers and marks; it draws nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from cpuserve.profiling.finding import ProfileFinding
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.summary import Summary

__all__ = ["WIDTH", "View", "escape", "legend", "ms", "section", "table"]

WIDTH = 1120
"""Units across a drawing; the page scales it."""


@dataclass(frozen=True)
class View:
    """A recording with all that is said of it.

    Attributes:
        recording: what was seen.
        summary: its sums.
        findings: the gravest first.
    """

    recording: Recording
    summary: Summary
    findings: Sequence[ProfileFinding]


def section(title: str, body: str, note: str = "") -> str:
    """A section with its heading; nothing at all without a body."""
    if not body:
        return ""
    said = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table of HTML cells; the first ``left`` columns are text, the others numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if number < left else ' class=n'}>{cell}</{tag}>" for number, cell in enumerate(row)
        )

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Marks with their meaning: (class of the mark, text)."""
    return (
        '<p class="legend">'
        + "".join(f'<span><i class="{name}"></i>{escape(text)}</span>' for name, text in entries)
        + "</p>"
    )


def ms(value: float) -> str:
    """Milliseconds with three figures: ``0.123``, ``1.23``, ``12.3``, ``123``."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"
