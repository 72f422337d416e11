"""Draws each thread's busy and waiting time over the run, and a moment of it enlarged; it judges nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from cpuserve.profiling.recording import BatchSpan
from cpuserve.profiling.sections.view import WIDTH, View, escape, legend, section
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan, slices
from cpuserve.serving.stages import STAGE_NAMES

__all__ = ["bars", "moment"]

_PARTS = 224
_LEFT, _RIGHT, _ROW, _HIGH = 190, 260, 24, 18
_COLUMNS = (12, 66, 112, 164, 216)  # beside the bars
_SHOWN = 0.01  # of the time on a CPU: threads below it are counted, not drawn
_REQUESTS = 14  # of mean length, in the enlarged moment
_WAITS = ("queue", "batch_wait")


def bars(view: View) -> str:
    """A row a thread, a row a worker's streams: brown on a CPU, red ready without one, light waiting."""
    window = view.summary.window
    shown = [busy for busy in view.summary.threads if busy.track.role == "serve" or busy.cpu_share > _SHOWN]
    shown.sort(key=lambda busy: (busy.track.role == "arbiter", busy.track.pid, _order(busy), busy.track.tid))
    if not shown:
        return ""
    rows: list[str] = []
    y, pid = 18, None
    by_pid: dict[int, list[BatchSpan]] = defaultdict(list)
    for batch in view.recording.batches:
        by_pid[batch.pid].append(batch)
    for busy in shown:
        if busy.track.pid != pid:
            pid = busy.track.pid
            y += 8 if rows else 0
            rows.append(f'<text x="0" y="{y + 14}" class="strong">process {pid}</text>')
            y += _ROW - 3
            if by_pid[pid]:
                rows.append(_streams(y, by_pid[pid], window))
                y += _ROW
        rows.append(_thread(y, busy, window))
        y += _ROW
    hidden = len(view.summary.threads) - len(shown)
    rows.append(_axis(y, window))
    body = _svg(y + 20, "threads over time", _titles() + "".join(rows))
    marks = legend(
        [
            ("t-busy", "on a CPU"),
            ("t-ready", "ready to run, but without a CPU"),
            ("t-idle", "waiting: for work, for a stream, for the network"),
            ("t-batch", "a batch on an inference stream"),
        ]
    )
    more = (
        "Moves are changes of the CPU between two samples; lost is how often the kernel took the CPU away."
        + (f" {hidden} threads that hardly ran are not shown." if hidden > 1 else "")
    )
    return section("Threads, busy and waiting", marks + body, more)


def _svg(height: float, label: str, drawn: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{drawn}</svg>'


def _order(busy: ThreadTimes) -> int:
    roles = ("serve", "openvino")
    return roles.index(busy.track.role) if busy.track.role in roles else len(roles)


def _titles() -> str:
    x = WIDTH - _RIGHT
    heads = zip(_COLUMNS, ("on CPU", "ready", "ran on", "moves", "lost"), strict=True)
    return "".join(f'<text class="soft" x="{x + at}" y="11">{text}</text>' for at, text in heads)


def _thread(y: float, busy: ThreadTimes, window: TimeSpan) -> str:
    track = busy.track
    parts = slices(track, window, _PARTS)
    cpus = Counter(sample[3] for sample in track.samples)
    where = ",".join(str(cpu) for cpu, _ in sorted(cpus.items())) if len(cpus) < 4 else f"{len(cpus)} CPUs"
    numbers = (
        f"{busy.cpu_share:.0%}",
        f"{busy.wait_s / busy.seconds if busy.seconds else 0:.0%}",
        where,
        str(track.migrations),
        str(track.involuntary),
    )
    right = WIDTH - _RIGHT
    cells = "".join(
        f'<text x="{right + at}" y="{y + 14}">{text}</text>'
        for at, text in zip(_COLUMNS, numbers, strict=True)
    )
    name = track.name if track.name != "cpuserve" else ""
    title = (
        f"{track.role} thread {track.tid} {name}: {track.voluntary} voluntary and {track.involuntary} "
        "involuntary switches"
    )
    both = [cpu + wait for cpu, wait in parts]
    return (
        f'<g><title>{escape(title)}</title><text x="10" y="{y + 14}">{escape(track.role)} '
        f'<tspan class="soft">{track.tid} {escape(name)}</tspan></text>'
        f'<rect class="t-idle" x="{_LEFT}" y="{y}" width="{_wide()}" height="{_HIGH}"/>'
        f'<path class="t-ready" d="{_area(both, y)}"/>'
        f'<path class="t-busy" d="{_area([cpu for cpu, _ in parts], y)}"/>{cells}</g>'
    )


def _streams(y: float, batches: Sequence[BatchSpan], window: TimeSpan) -> str:
    """The share of time in which at least one batch ran."""
    step = (window.end_ns - window.begin_ns) / _PARTS
    ran = [0.0] * _PARTS
    for batch in batches:
        first = max(0, int((batch.begin_ns - window.begin_ns) / step))
        last = min(_PARTS - 1, int((batch.end_ns - window.begin_ns) / step))
        for part in range(first, last + 1):
            begin = window.begin_ns + part * step
            ran[part] += max(0.0, min(batch.end_ns, begin + step) - max(batch.begin_ns, begin)) / step
    most = max(1.0, *ran)
    busy = sum(batch.end_ns - batch.begin_ns for batch in batches) / (window.end_ns - window.begin_ns)
    return (
        f"<g><title>time inside OpenVINO, all batches of this process</title>"
        f'<text x="10" y="{y + 14}">streams <tspan class="soft">batches</tspan></text>'
        f'<rect class="t-idle" x="{_LEFT}" y="{y}" width="{_wide()}" height="{_HIGH}"/>'
        f'<path class="t-batch" d="{_area([one / most for one in ran], y)}"/>'
        f'<text x="{WIDTH - _RIGHT + 12}" y="{y + 14}">{busy:.2f} at once, on average</text></g>'
    )


def _wide() -> int:
    return WIDTH - _LEFT - _RIGHT


def _area(shares: Sequence[float], y: float) -> str:
    """Steps from left to right, as high as the shares."""
    step = _wide() / len(shares)
    base = y + _HIGH
    path = [f"M{_LEFT} {base}"]
    for number, share in enumerate(shares):
        top = base - _HIGH * min(1.0, share)
        path.append(f"V{top:.1f}H{_LEFT + step * (number + 1):.1f}")
    return "".join(path) + f"V{base}Z"


def _axis(y: float, window: TimeSpan) -> str:
    marks = []
    for number in range(6):
        x = _LEFT + _wide() * number / 5
        anchor = "start" if not number else "end" if number == 5 else "middle"
        marks.append(
            f'<text class="soft" x="{x:.0f}" y="{y + 14}" text-anchor="{anchor}">'
            f"{window.seconds * number / 5:.1f} s</text>"
        )
    return "".join(marks)


def moment(view: View) -> str:
    """A few requests in the middle of the run, a row a thread, coloured by stage."""
    requests = view.recording.requests
    window = view.summary.window
    service = view.summary.latency.mean_ms - view.summary.latency.stage(*_WAITS)
    if not requests or service <= 0:
        return ""
    length = round(min(_REQUESTS * service * 1e6, window.end_ns - window.begin_ns))
    begin = (window.begin_ns + window.end_ns - length) // 2
    end = begin + length
    here = [one for one in requests if one.arrived_ns < end and one.ended_ns > begin]
    threads = sorted({(one.pid, one.tid) for one in here})
    if not threads:
        return ""
    left, scale = 120, (WIDTH - 120) / length
    rows = []
    for number, (pid, tid) in enumerate(threads):
        y = number * _ROW + 2
        rows.append(
            f'<text x="0" y="{y + 14}">{pid} <tspan class="soft">{tid}</tspan></text>'
            f'<rect class="t-idle" x="{left}" y="{y}" width="{WIDTH - left}" height="{_HIGH}"/>'
        )
        for one in here:
            if (one.pid, one.tid) != (pid, tid):
                continue
            for name, first, last in one.stages:
                a, b = max(first, begin), min(last, end)
                if name == "queue" or b <= a:
                    continue
                rows.append(
                    f'<rect class="{name}" x="{left + (a - begin) * scale:.1f}" y="{y}" '
                    f'width="{max((b - a) * scale, 0.4):.1f}" height="{_HIGH}"><title>{name} '
                    f"{(last - first) / 1e6:.2f} ms, request {escape(one.id)}</title></rect>"
                )
    y = len(threads) * _ROW + 2
    axis = "".join(
        f'<text class="soft" x="{left + (WIDTH - left) * part / 4:.0f}" y="{y + 14}" '
        f'text-anchor="{("start", "middle", "middle", "middle", "end")[part]}">'
        f"{length * part / 4e6:.1f} ms</text>"
        for part in range(5)
    )
    body = _svg(y + 20, "stages in time", "".join(rows) + axis)
    used = {name for one in here for name, _, _ in one.stages} - {"queue"}
    return section(
        "A moment, enlarged",
        legend((name, name) for name in STAGE_NAMES if name in used) + body,
        "Each serving thread runs a request to its end; time in light is no request's. The whole run is in "
        "trace.json, "
        "for Perfetto or chrome://tracing.",
    )
