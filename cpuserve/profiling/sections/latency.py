"""Draws where the latency goes: a bar a stage, each begins where the one before ends; it adds up nothing."""

from __future__ import annotations

from cpuserve.profiling.sections.view import WIDTH, View, escape, ms, section
from cpuserve.serving.stages import STAGES

__all__ = ["waterfall"]

_MEANS = {stage.name: stage.meaning for stage in STAGES}
_ROW, _LEFT, _RIGHT = 26, 230, 210


def waterfall(view: View) -> str:
    """One row a stage, the mean request from left to right."""
    latency = view.summary.latency
    measured = latency.measured_ms
    if not measured:
        return ""
    stages = [(stage.name, stage.mean_ms, stage.p99_ms) for stage in latency.stages]
    total = sum(mean for _, mean, _ in stages)
    gap = measured - total
    scale = (WIDTH - _LEFT - _RIGHT) / max(measured, total)
    rows, at = [], 0.0
    for number, (name, mean, p99) in enumerate(stages):
        note = f"{ms(mean)} ms &middot; {mean / measured:.1%} &middot; p99 {ms(p99)}"
        rows.append(_row(number, name, _MEANS[name], at, mean * scale, name, note))
        at += mean * scale
    if gap > 0.001 * measured:
        note = f"{ms(gap)} ms &middot; {gap / measured:.1%}"
        rows.append(_row(len(rows), "in no stage", "", at, gap * scale, "nostage", note))
    who = "clients" if latency.client_ms is not None else "server"
    rows.append(
        _row(
            len(rows), "measured", f"mean, by the {who}", 0.0, measured * scale, "whole", f"{ms(measured)} ms"
        )
    )
    height = len(rows) * _ROW + 6
    body = (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="latency by stage">{"".join(rows)}</svg>'
    )
    said = f'<p class="gap">{escape(latency.missing)}.</p>' if latency.missing else ""
    note = (
        f"The mean of {latency.requests} requests that were answered 200. The stages sum to "
        f"{total / measured:.1%} of what was measured"
        + (f", and to {latency.server_share:.1%} of the server's own time." if latency.client_ms else ".")
    )
    return section("Where the latency goes", body + said, note)


def _row(number: int, name: str, means: str, at: float, width: float, kind: str, note: str) -> str:
    y = number * _ROW
    x = _LEFT + at
    return (
        f'<text x="0" y="{y + 17}" class="strong">{name}</text><text x="86" y="{y + 17}"'
        f' class="soft">{means}</text>'
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 4}" width="{max(width, 1):.1f}" height="18" rx="2"/>'
        f'<text x="{x + max(width, 1) + 8:.1f}" y="{y + 17}">{note}</text>'
    )
