"""Draws a recording: latency by stage, CPU time by kind, threads over time, and some requests enlarged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from cpuserve.profiling.cpu_time import KINDS, CpuTime
from cpuserve.profiling.finding import percent
from cpuserve.profiling.latency import Latency
from cpuserve.profiling.recording import BatchSpan, Recording
from cpuserve.profiling.summary import Summary
from cpuserve.profiling.thread_times import ThreadTimes, TimeSpan, slices
from cpuserve.reports.drawing import Drawing
from cpuserve.serving.stages import STAGES

__all__ = ["cpu_bar", "latency_by_stage", "milliseconds", "moment", "threads_over_time"]

_WIDTH = 1120
_ROW, _HIGH = 24, 18  # of a thread: from one to the next, and of what is drawn
_LEFT, _RIGHT = 190, 260  # beside a thread's row
_COLUMNS = (("on CPU", 12), ("ready", 66), ("ran on", 112), ("moves", 164), ("lost", 216))
_PARTS = 224  # of the time, for each thread
_REQUESTS = 14  # of mean length, in the enlarged moment
_WAITS = ("queue", "batch_wait")
_MEANINGS = {stage.name: stage.meaning for stage in STAGES}


def milliseconds(value: float) -> str:
    """Three figures: ``0.123``, ``1.23``, ``12.3``, ``123``."""
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def latency_by_stage(latency: Latency) -> Drawing:
    """The mean request, a row a stage: each bar begins where the one above it ends."""
    row, left, right = 26, 230, 210
    measured = latency.measured_ms
    bars = []  # name, meaning, milliseconds, class, more words
    for stage in latency.stages:
        more = f" \N{MIDDLE DOT} p99 {milliseconds(stage.p99_ms)}"
        bars.append((stage.name, _MEANINGS[stage.name], stage.mean_ms, stage.name, more))
    total = sum(stage.mean_ms for stage in latency.stages)
    if measured - total > 0.001 * measured:
        bars.append(("in no stage", "", measured - total, "nostage", ""))
    drawing = Drawing(_WIDTH, (len(bars) + 1) * row + 6, "latency by stage")
    scale = (_WIDTH - left - right) / max(measured, total)
    who = "clients" if latency.client_ms is not None else "server"
    at = 0.0
    for number, (name, meaning, spent, kind, more) in enumerate(
        [*bars, ("measured", f"mean, by the {who}", measured, "whole", "")]
    ):
        y, x, width = number * row, left + (0.0 if kind == "whole" else at), max(spent * scale, 1)
        share = "" if kind == "whole" else f" \N{MIDDLE DOT} {spent / measured:.1%}"
        drawing.text(0, y + 17, name, "strong")
        drawing.text(86, y + 17, meaning, "soft")
        drawing.add("rect", kind, x=x, y=y + 4, width=width, height=18, rx=2)
        drawing.text(x + width + 8, y + 17, f"{milliseconds(spent)} ms{share}{more}")
        at += spent * scale
    return drawing


def cpu_bar(cpu: CpuTime) -> Drawing:
    """All CPU time as one bar, divided by kind."""
    drawing = Drawing(_WIDTH, 34, "CPU time by kind")
    at = 0.0
    for kind in KINDS:
        width = cpu.share(kind) * _WIDTH
        if width:
            drawing.add("rect", f"k-{kind}", x=at, y=0, width=width, height=34)
        if width > 44:
            drawing.text(at + width / 2, 22, percent(cpu.share(kind)), "on")
        at += width
    return drawing


def threads_over_time(
    shown: Sequence[ThreadTimes], batches: Sequence[BatchSpan], window: TimeSpan
) -> Drawing:
    """A row a thread, and above those of a process a row for its batches.

    Args:
        shown: the threads, those of a process together.
        batches: of all processes.
        window: the time from the left edge to the right one.
    """
    by_pid: dict[int, list[BatchSpan]] = defaultdict(list)
    for batch in batches:
        by_pid[batch.pid].append(batch)
    rows: list[tuple[float, int | ThreadTimes | list[BatchSpan]]] = []
    y, pid = 18, -1
    for thread in shown:
        if thread.track.pid != pid:
            pid = thread.track.pid
            y += 8 if rows else 0
            rows.append((y, pid))
            y += _ROW - 3
            if by_pid[pid]:
                rows.append((y, by_pid[pid]))
                y += _ROW
        rows.append((y, thread))
        y += _ROW
    drawing = Drawing(_WIDTH, y + 20, "threads over time")
    for name, x in _COLUMNS:
        drawing.text(_WIDTH - _RIGHT + x, 11, name, "soft")
    for top, row in rows:
        if isinstance(row, ThreadTimes):
            _thread(drawing, top, row, window)
        elif isinstance(row, list):
            _batches(drawing, top, row, window)
        else:
            drawing.text(0, top + 14, f"process {row}", "strong")
    _times(drawing, y, (_LEFT, _WIDTH - _RIGHT), [f"{window.seconds * part / 5:.1f} s" for part in range(6)])
    return drawing


def _thread(drawing: Drawing, y: float, thread: ThreadTimes, window: TimeSpan) -> None:
    """Its shares of time on a CPU and ready without one, and its counters."""
    track = thread.track
    name = track.name if track.name != "cpuserve" else ""
    switches = f"{track.voluntary} voluntary and {track.involuntary} involuntary switches"
    box = drawing.add("g", tip=f"{track.role} thread {track.tid} {name}: {switches}")
    label = drawing.text(10, y + 14, f"{track.role} ", inside=box)
    drawing.add("tspan", "soft", inside=label, text=f"{track.tid} {name}")
    parts = slices(track, window, _PARTS)
    drawing.add("rect", "t-idle", inside=box, x=_LEFT, y=y, width=_WIDTH - _LEFT - _RIGHT, height=_HIGH)
    drawing.add("path", "t-ready", inside=box, d=_steps([cpu + wait for cpu, wait in parts], y))
    drawing.add("path", "t-busy", inside=box, d=_steps([cpu for cpu, _ in parts], y))
    cpus = sorted(Counter(sample[3] for sample in track.samples))
    numbers = (
        f"{thread.cpu_share:.0%}",
        f"{thread.wait_s / thread.seconds if thread.seconds else 0:.0%}",
        ",".join(map(str, cpus)) if len(cpus) < 4 else f"{len(cpus)} CPUs",
        str(track.migrations),
        str(track.involuntary),
    )
    for words, (_, x) in zip(numbers, _COLUMNS, strict=True):
        drawing.text(_WIDTH - _RIGHT + x, y + 14, words, inside=box)


def _batches(drawing: Drawing, y: float, batches: Sequence[BatchSpan], window: TimeSpan) -> None:
    """How many batches of a process ran at once."""
    length = window.end_ns - window.begin_ns
    step = length / _PARTS
    ran = [0.0] * _PARTS
    for batch in batches:
        first = max(0, int((batch.begin_ns - window.begin_ns) / step))
        last = min(_PARTS - 1, int((batch.end_ns - window.begin_ns) / step))
        for part in range(first, last + 1):
            begin = window.begin_ns + part * step
            ran[part] += max(0.0, min(batch.end_ns, begin + step) - max(batch.begin_ns, begin)) / step
    most = max(1.0, *ran)
    box = drawing.add("g", tip="time inside OpenVINO, all batches of this process")
    label = drawing.text(10, y + 14, "streams ", inside=box)
    drawing.add("tspan", "soft", inside=label, text="batches")
    drawing.add("rect", "t-idle", inside=box, x=_LEFT, y=y, width=_WIDTH - _LEFT - _RIGHT, height=_HIGH)
    drawing.add("path", "t-batch", inside=box, d=_steps([one / most for one in ran], y))
    mean = sum(batch.end_ns - batch.begin_ns for batch in batches) / length
    drawing.text(_WIDTH - _RIGHT + 12, y + 14, f"{mean:.2f} at once, on average", inside=box)


def _steps(shares: Sequence[float], y: float) -> str:
    """A path of steps from left to right, as high as the shares."""
    step = (_WIDTH - _LEFT - _RIGHT) / len(shares)
    base = y + _HIGH
    path = [f"M{_LEFT} {base}"]
    for number, share in enumerate(shares, 1):
        path.append(f"V{base - _HIGH * min(1.0, share):.1f}H{_LEFT + step * number:.1f}")
    return "".join(path) + f"V{base}Z"


def _times(drawing: Drawing, y: float, ends: tuple[float, float], words: Sequence[str]) -> None:
    """Times below a drawing, at equal distances."""
    last = len(words) - 1
    for number, text in enumerate(words):
        x = ends[0] + (ends[1] - ends[0]) * number / last
        anchor = "start" if not number else "end" if number == last else "middle"
        drawing.text(x, y + 14, text, "soft", anchor=anchor)


def moment(recording: Recording, summary: Summary) -> tuple[Drawing, list[tuple[str, str]]] | None:
    """Some requests in the middle of the run, a row a thread, and the legend of their stages.

    None where no request was seen then.
    """
    window = summary.window
    service = summary.latency.mean_ms - summary.latency.stage(*_WAITS)
    length = round(min(_REQUESTS * service * 1e6, window.end_ns - window.begin_ns))
    begin = (window.begin_ns + window.end_ns - length) // 2
    end = begin + length
    here = [one for one in recording.requests if one.arrived_ns < end and one.ended_ns > begin]
    threads = sorted({(one.pid, one.tid) for one in here})
    if not threads or service <= 0:
        return None
    left = 120
    scale = (_WIDTH - left) / length
    drawing = Drawing(_WIDTH, len(threads) * _ROW + 22, "stages in time")
    for number, (pid, tid) in enumerate(threads):
        y = number * _ROW + 2
        label = drawing.text(0, y + 14, f"{pid} ")
        drawing.add("tspan", "soft", inside=label, text=str(tid))
        drawing.add("rect", "t-idle", x=left, y=y, width=_WIDTH - left, height=_HIGH)
        for one in here:
            for name, first, last in one.stages:
                a, b = max(first, begin), min(last, end)
                if (one.pid, one.tid) != (pid, tid) or name == "queue" or b <= a:
                    continue
                tip = f"{name} {(last - first) / 1e6:.2f} ms, request {one.id}"
                x, width = left + (a - begin) * scale, max((b - a) * scale, 0.4)
                drawing.add("rect", name, tip=tip, x=x, y=y, width=width, height=_HIGH)
    marks = [f"{length * part / 4e6:.1f} ms" for part in range(5)]
    _times(drawing, len(threads) * _ROW + 2, (left, _WIDTH), marks)
    used = {name for one in here for name, _, _ in one.stages} - {"queue"}
    return drawing, [(stage.name, stage.name) for stage in STAGES if stage.name in used]
