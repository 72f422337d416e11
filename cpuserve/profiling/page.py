"""Writes a profile's page: one HTML file that loads nothing else."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from cpuserve import __version__
from cpuserve.profiling import charts
from cpuserve.profiling.cpu_time import KINDS
from cpuserve.profiling.finding import ProfileFinding, percent
from cpuserve.profiling.findings import find
from cpuserve.profiling.recording import LayerTime, Recording
from cpuserve.profiling.stacks import stack_graph
from cpuserve.profiling.summary import Summary, summarise
from cpuserve.profiling.thread_times import ThreadTimes
from cpuserve.reports.page import render

__all__ = ["PAGE", "write_page"]

PAGE = "index.html"
"""Its name in the directory of a profile."""

_KINDS = {
    "decode": "decode and resize",
    "inference": "inference",
    "python": "Python (post-processing, HTTP)",
    "kernel": "kernel",
    "spin": "idle spinning",
    "other": "arbiter and administration",
}
_RAN = 0.01  # of the time on a CPU: threads below it are counted, not drawn
_LAYERS, _TYPES = 15, 6  # that are shown
_ROLES = ("serve", "openvino")


def write_page(
    recording: Recording,
    folder: Path,
    summary: Summary | None = None,
    found: list[ProfileFinding] | None = None,
) -> Path:
    """Write the page of a recording.

    Args:
        recording: what was seen.
        folder: of the profile; made if needed.
        summary: its sums, where the caller has them already.
        found: its findings, likewise.

    Returns:
        The file.
    """
    summary = summary or summarise(recording)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / PAGE
    file.write_text(_page(recording, summary, found), encoding="utf-8")
    return file


def _page(recording: Recording, summary: Summary, found: list[ProfileFinding] | None) -> str:
    latency, cpu = summary.latency, summary.cpu
    threads = _shown(summary)
    missing = [*recording.missing, *([latency.missing] if latency.missing else [])]
    return render(
        "cpuserve.profiling",
        "profile.html",
        title=f"{recording.model}, profile of {recording.date[:10]}",
        script="flame.js",
        version=__version__,
        recording=recording,
        summary=summary,
        tiles=_tiles(recording, summary),
        findings=find(recording, summary) if found is None else found,
        latency_chart=charts.latency_by_stage(latency) if latency.measured_ms else None,
        cpu_chart=charts.cpu_bar(cpu) if cpu.total else None,
        kinds=[
            (kind, _KINDS[kind], percent(cpu.share(kind)), getattr(cpu, kind) / (cpu.seconds or 1.0))
            for kind in KINDS
            if cpu.share(kind) > 0.0005
        ],
        threads=charts.threads_over_time(threads, recording.batches, summary.window) if threads else None,
        hidden=len(summary.threads) - len(threads),
        moment=charts.moment(recording, summary),
        layers=_layers(recording.layers),
        flame=stack_graph(recording.stacks) if recording.stacks else None,
        facts=_facts(recording),
        seats=_seats(recording),
        missing=missing,
        percent=percent,
    )


def _tiles(recording: Recording, summary: Summary) -> list[tuple[str, str, str, str]]:
    """The numbers on top: name, value, unit and a note each."""
    latency, use, load = summary.latency, summary.utilisation, recording.load
    p50, p99 = load.get("p50_ms") or latency.p50_ms, load.get("p99_ms") or latency.p99_ms
    rows = "requests, one image each" if use.rate else "requests"
    if use.images_per_s > 1.01 * use.rate:
        rows = f"requests; {use.images_per_s:.0f} images/s"
    rate = f"{use.rate:.0f}" if use.rate >= 10 else f"{use.rate:.1f}"
    cores = summary.cpu.total / (summary.window.seconds or 1)
    who = "by the clients' clock" if load.get("p50_ms") else "by the server's clock"
    whole = "of the latency: see what is missing" if latency.missing else "of the latency"
    top = use.resources[0]
    limit = "the load" if use.limit == "load" else use.limit
    return [
        ("p50", charts.milliseconds(p50), "ms", who),
        ("p99", charts.milliseconds(p99), "ms", f"{latency.requests} requests"),
        ("throughput", rate, "/s", rows),
        ("accounted for", f"{100 * summary.accounted_share:.1f}", "%", whole),
        ("CPU", f"{cores:.2f}", f"of {use.count('CPUs')}", "cores, the server's processes"),
        ("limit", limit, "", f"{top.name} {percent(top.busy_share)} busy"),
    ]


def _shown(summary: Summary) -> list[ThreadTimes]:
    """The threads that ran, those of a process together, the arbiter's last."""

    def order(one: ThreadTimes) -> tuple[bool, int, int, int]:
        role = one.track.role
        place = _ROLES.index(role) if role in _ROLES else len(_ROLES)
        return role == "arbiter", one.track.pid, place, one.track.tid

    ran = [one for one in summary.threads if one.track.role == "serve" or one.cpu_share > _RAN]
    return sorted(ran, key=order)


def _layers(layers: list[LayerTime]) -> dict[str, Any] | None:
    """The slowest layers, the time of all, and the types of operations that take most of it."""
    total = sum(layer.mean_us for layer in layers)
    if not total:
        return None
    by_type: dict[str, float] = defaultdict(float)
    for layer in layers:
        by_type[layer.type] += layer.mean_us
    types = sorted(by_type.items(), key=lambda item: -item[1])[:_TYPES]
    return {
        "count": len(layers),
        "batch": layers[0].batch,
        "total_us": total,
        "slowest": sorted(layers, key=lambda layer: -layer.mean_us)[:_LAYERS],
        "types": [(name, spent / total) for name, spent in types if spent / total >= 0.01],
    }


def _facts(recording: Recording) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings, load and the like, as tables of names and values; empty ones are left out."""
    tables: dict[str, dict[str, Any]] = {
        "Settings": recording.settings,
        "Load": recording.load,
        "Throttling": recording.throttling,
        "Cost of watching": recording.overhead,
    }
    return [
        (title, [(name, _words(value)) for name, value in content.items()])
        for title, content in tables.items()
        if content
    ]


def _seats(recording: Recording) -> list[tuple[str, tuple[Any, ...]]]:
    """The rows of the table of seats: class and cells."""
    pids = {worker["seat"]: worker["pid"] for worker in recording.placement.get("workers") or ()}
    return [
        ("", (seat["index"], pids.get(seat["index"], ""), seat["cpus"], seat["threads"]))
        for seat in recording.placement.get("seats") or ()
    ]


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
