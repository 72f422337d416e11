"""Writes a profile's page: one HTML file that holds all it needs and asks nobody for anything."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from cpuserve import __version__
from cpuserve.profiling.finding import ProfileFinding
from cpuserve.profiling.findings import find
from cpuserve.profiling.recording import Recording
from cpuserve.profiling.sections.cpu import split
from cpuserve.profiling.sections.facts import missing, settings
from cpuserve.profiling.sections.flame import flame_graph
from cpuserve.profiling.sections.head import findings, headline
from cpuserve.profiling.sections.latency import waterfall
from cpuserve.profiling.sections.layers import hottest_layers
from cpuserve.profiling.sections.threads import bars, moment
from cpuserve.profiling.sections.view import View, escape
from cpuserve.profiling.summary import Summary, summarise

__all__ = ["PAGE", "write_page"]

PAGE = "index.html"
"""Its name in the directory of a profile."""

_SECTIONS = (
    headline,
    findings,
    waterfall,
    split,
    bars,
    moment,
    hottest_layers,
    flame_graph,
    settings,
    missing,
)


def write_page(
    recording: Recording,
    folder: Path,
    sums: Summary | None = None,
    found: list[ProfileFinding] | None = None,
) -> Path:
    """Write the page of a recording.

    Args:
        recording: what was seen.
        folder: of the profile; made if needed.
        sums: its account, where the caller has it already.
        found: its findings, likewise.

    Returns:
        The file.
    """
    sums = sums or summarise(recording)
    view = View(recording, sums, find(recording, sums) if found is None else found)
    parts = files("cpuserve.profiling.sections")
    body = "".join(draw(view) for draw in _SECTIONS)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / PAGE
    file.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(recording.model)}, profile of {escape(recording.date[:10])}</title>"
        f"<style>{(parts / 'page.css').read_text(encoding='utf-8')}</style></head><body><main>{body}"
        f"<footer>cpuserve {__version__}; the figures are in profile.json beside this page</footer></main>"
        f"<script>{(parts / 'page.js').read_text(encoding='utf-8')}</script></body></html>\n",
        encoding="utf-8",
    )
    return file
