"""The top of the page: what was measured, in a few numbers, and the findings; it draws no chart."""

from __future__ import annotations

from cpuserve.profiling.finding import ProfileFinding, percent
from cpuserve.profiling.latency import ENOUGH
from cpuserve.profiling.sections.view import View, escape, ms, section

__all__ = ["findings", "headline"]


def headline(view: View) -> str:
    """Model, machine and the numbers that count."""
    recording, account = view.recording, view.summary
    latency, capacity = account.latency, account.utilisation
    load = recording.load
    p50, p99 = load.get("p50_ms") or latency.p50_ms, load.get("p99_ms") or latency.p99_ms
    who = "by the clients' clock" if load.get("p50_ms") else "by the server's clock"
    accounted = account.accounted_share
    cores = account.cpu.total / (account.window.seconds or 1)
    top = capacity.resources[0]
    limit = "the load" if capacity.limit == "load" else capacity.limit
    tiles = [
        ("p50", ms(p50), "ms", who),
        ("p99", ms(p99), "ms", f"{latency.requests} requests"),
        (
            "throughput",
            f"{capacity.rate:.0f}" if capacity.rate >= 10 else f"{capacity.rate:.1f}",
            "/s",
            _rows(view),
        ),
        (
            "accounted for",
            f"{accounted:.1%}"[:-1],
            "%",
            "of the latency" if accounted >= ENOUGH else "of the latency: see what is missing",
        ),
        ("CPU", f"{cores:.2f}", f"of {capacity.count('CPUs')}", "cores, the server's processes"),
        ("limit", escape(limit), "", f"{escape(top.name)} {percent(top.busy_share)} busy"),
    ]
    drawn = "".join(
        f'<div class="tile{" word" if not unit else ""}"><b>{name}</b><strong>{value}<small>{unit}</small>'
        f"</strong><span>{note}</span></div>"
        for name, value, unit, note in tiles
    )
    return (
        f"<header><h1>{escape(recording.model)}</h1><p>{escape(recording.date[:16].replace('T', ' '))} "
        "&middot; "
        f"{escape(recording.machine)} &middot; watched for {recording.seconds:.1f} s</p>"
        f'<div class="tiles">{drawn}</div></header>'
    )


def _rows(view: View) -> str:
    capacity = view.summary.utilisation
    if capacity.images_per_s > 1.01 * capacity.rate:
        return f"requests; {capacity.images_per_s:.0f} images/s"
    return "requests, one image each" if capacity.rate else "requests"


def findings(view: View) -> str:
    """What to change, the gravest first."""
    if not view.findings:
        return section("Findings", "<p>Nothing stands out: no rule found anything to change.</p>")
    return section("Findings", f'<ol class="findings">{"".join(map(_finding, view.findings))}</ol>')


def _finding(one: ProfileFinding) -> str:
    title, _, detail = one.text.partition(": ")
    factor = (
        f'<div class="factor"><strong>{one.expected_factor:.1f}x</strong><span>expected</span></div>'
        if one.expected_factor
        else ""
    )
    said = f"<p>{escape(detail)}</p>" if detail else ""
    return (
        f'<li class="{one.severity}"><div><h3><i>{one.severity}</i> {escape(_capital(title))}</h3>{said}'
        f'<p class="change"><code>{escape(one.setting)}</code> {escape(_capital(one.change))}.</p>'
        f"</div>{factor}</li>"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
