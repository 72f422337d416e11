"""Draws where the CPU time goes, and how busy threads, streams and CPUs are; it adds up nothing."""

from __future__ import annotations

from cpuserve.profiling.cpu_time import KINDS
from cpuserve.profiling.finding import percent
from cpuserve.profiling.sections.view import WIDTH, View, escape, section

__all__ = ["split"]

_MEANS = {
    "decode": "decode and resize",
    "inference": "inference",
    "python": "Python (post-processing, HTTP)",
    "kernel": "kernel",
    "spin": "idle spinning",
    "other": "arbiter and administration",
}


def split(view: View) -> str:
    """One bar of all CPU time, one meter a resource."""
    cpu = view.summary.cpu
    if not cpu.total:
        return ""
    parts, at = [], 0.0
    for kind in KINDS:
        width = cpu.share(kind) * WIDTH
        if width:
            label = percent(cpu.share(kind)) if width > 44 else ""
            parts.append(
                f'<rect class="k-{kind}" x="{at:.1f}" y="0" width="{width:.1f}" height="34"/>'
                f'<text class="on" x="{at + width / 2:.1f}" y="22">{label}</text>'
            )
        at += width
    bar = f'<svg viewBox="0 0 {WIDTH} 34" role="img" aria-label="CPU time by kind">{"".join(parts)}</svg>'
    seconds = cpu.seconds or 1.0
    marks = "".join(
        f'<span><i class="k-{kind}"></i>{escape(_MEANS[kind])} <b>{percent(cpu.share(kind))}</b> '
        f"{getattr(cpu, kind) / seconds:.2f} cores</span>"
        for kind in KINDS
        if cpu.share(kind) > 0.0005
    )
    meters = "".join(
        f'<div class="meter"><span>{one.count} {escape(_plural(one.name, one.count))}</span><div'
        f' class="track">'
        f'<div style="width:{one.busy_share:.1%}"></div></div><b>{percent(one.busy_share)}</b>'
        f"<span>{f'all busy at {one.ceiling_per_s:.0f} requests/s' if one.ceiling_per_s else ''}</span></div>"
        for one in view.summary.utilisation.resources
    )
    note = f"{cpu.total:.1f} CPU seconds in {seconds:.1f} s, {cpu.total / seconds:.2f} cores on average."
    return section("Where the CPU time goes", f'{bar}<p class="legend">{marks}</p>', note) + section(
        "What is busy",
        f'<div class="meters">{meters}</div>',
        "A thread is busy while it works on a request, also where it has lost its CPU meanwhile. The "
        "busiest limits the "
        "throughput.",
    )


def _plural(name: str, count: int) -> str:
    return name[:-1] if count == 1 else name
