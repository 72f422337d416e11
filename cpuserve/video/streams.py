"""Finds by running them how many streams this machine carries, and what limits it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import psutil

from cpuserve.errors import UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.placement import Seat
from cpuserve.machine.topology import Topology
from cpuserve.settings import Settings
from cpuserve.video.decoding import probe_apart
from cpuserve.video.scale import Scaler
from cpuserve.video.seats import SeatProcess, plan_video_seats
from cpuserve.video.stream_search import StreamBound
from cpuserve.video.stream_trial import StreamCounts, StreamTask, StreamTrial

__all__ = ["LimitingStage", "StreamMachine", "TrialResult", "limiting_stage", "streams_report"]

_BUSY = 0.85  # share of the CPUs from which on they count as full
_DEARER = 1.4  # times the CPU time of a frame alone, from which on memory and caches count as the limit
_PARTS = ("decode", "scale", "inference")


@dataclass(frozen=True)
class TrialResult:
    """What a trial of some streams found.

    Attributes:
        streams: how many ran.
        seconds: that counted.
        threads: compute threads of all seats.
        limit_s: how late the 99th percentile of the answers may be.
        expected: frames that had to be answered, at least.
        counts: of all seats together.
        other_cores: CPUs that other programs used meanwhile.
    """

    streams: int
    seconds: float
    threads: int
    limit_s: float
    expected: int
    counts: StreamCounts
    other_cores: float = 0.0

    @property
    def p99_s(self) -> float:
        """The 99th percentile of how late answers were, in seconds."""
        return float(np.percentile(self.counts.lateness_s, 99)) if self.counts.lateness_s else 0.0

    @property
    def busy(self) -> float:
        """Share of the seats' compute threads that the streams used, 0..1."""
        return sum(self.counts.cpu_ns.values()) / 1e9 / self.seconds / self.threads

    @property
    def passed(self) -> bool:
        """Whether no frame was dropped or missed, and answers were in time."""
        counts = self.counts
        whole = not counts.error and not counts.dropped and counts.inferred >= self.expected
        return whole and self.p99_s <= self.limit_s

    def cpu_ms(self, part: str) -> float:
        """CPU time of a part: of ``inference`` for each inferred frame, else for each decoded one."""
        frames = self.counts.inferred if part in ("inference", "scale") else self.counts.decoded
        return self.counts.cpu_ns[part] / 1e6 / max(1, frames)

    def as_json(self) -> dict[str, Any]:
        """For reports; CPU times are milliseconds, of decoding a decoded frame, else an inferred one."""
        counts = self.counts
        return {
            "streams": self.streams,
            "passed": self.passed,
            "p99_ms": round(self.p99_s * 1e3, 1),
            "dropped": counts.dropped,
            "decoded": counts.decoded,
            "inferred": counts.inferred,
            "expected": self.expected,
            "busy": round(self.busy, 3),
            "other_cores": round(self.other_cores, 2),
            "cpu_ms": {part: round(self.cpu_ms(part), 3) for part in _PARTS},
            "peak_bytes": counts.peak_bytes,
            "error": counts.error,
        }


class StreamMachine:
    """Runs trials of streams in all seats. A context manager.

    Args:
        path: the video that each stream plays, again and again.
        name: of the source in the report; that of the file unless given.
        model: as of `cpuserve.video.frame_model.open_frame_model`.
        settings: in force.
        fps: frames a second of each stream that are inferred.
        seconds: of a trial that count.
        limit_s: how late the 99th percentile of the answers may be; None is the time between two frames.
        scaler: of swscale.

    Raises:
        VideoError: the video cannot be read.
        UsageError: no frame would be inferred in the time of a trial.
        CpuserveError: the model cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        model: str | Path,
        settings: Settings,
        *,
        fps: float,
        seconds: float,
        limit_s: float | None = None,
        scaler: Scaler = "bilinear",
        name: str = "",
    ) -> None:
        self.video = probe_apart(path, max_pixels=settings.max_pixels)
        self.source = name or self.video.path.name
        self.fps = min(fps, self.video.frame_rate)
        if self.fps * seconds < 1:
            raise UsageError(
                f"at {self.fps:g} frames a second nothing is inferred in --seconds {seconds:g}: "
                f"give at least {math.ceil(1 / self.fps)}"
            )
        self.seconds = seconds
        self.limit_s = limit_s or 1 / self.fps
        self.seats: Sequence[Seat] = plan_video_seats(settings).seats
        task = StreamTask(model, settings, self.video, scaler)
        self._processes = [SeatProcess(seat, task) for seat in self.seats]
        try:
            opened = [process.hear() for process in self._processes]
            self.name, self.version, self.checksum = opened[0]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()

    def run(self, streams: int) -> TrialResult:
        """Run so many streams in real time, dealt to the seats in turn by their threads.

        Raises:
            CpuserveError: a seat's process has ended.
        """
        places = deal(streams, [seat.threads for seat in self.seats])
        load, began = _Load(process.pid for process in self._processes), time.monotonic()
        for process, here in zip(self._processes, places, strict=True):
            process.say(StreamTrial(here, streams, self.seconds, self.fps))
        whole = StreamCounts()
        for process in self._processes:
            counts: StreamCounts = process.hear()
            whole.decoded += counts.decoded
            whole.inferred += counts.inferred
            whole.dropped += counts.dropped
            whole.lateness_s += counts.lateness_s
            whole.peak_bytes += counts.peak_bytes
            whole.error = whole.error or counts.error
            for part, ns in counts.cpu_ns.items():
                whole.cpu_ns[part] += ns
        return TrialResult(
            streams=streams,
            seconds=self.seconds,
            threads=sum(seat.threads for seat in self.seats),
            limit_s=self.limit_s,
            expected=streams * max(1, int(self.seconds * self.fps) - 1),  # the ends may cut one
            counts=whole,
            other_cores=load.other_cores(time.monotonic() - began),
        )


def deal(streams: int, threads: Sequence[int]) -> list[tuple[int, ...]]:
    """The numbers of the streams of each seat: each next one goes where there are fewest a thread."""
    places: list[list[int]] = [[] for _ in threads]
    for stream in range(streams):
        seat = min(range(len(threads)), key=lambda seat: (len(places[seat]) + 1) / threads[seat])
        places[seat].append(stream)
    return [tuple(here) for here in places]


class LimitingStage(NamedTuple):
    """What keeps a machine from one stream more.

    Attributes:
        name: ``decode``, ``scale``, ``inference``, ``memory``, ``latency``, ``other programs`` or ``error``.
        why: a sentence with the evidence.
    """

    name: str
    why: str


def limiting_stage(bound: StreamBound[TrialResult]) -> LimitingStage | None:
    """What limits, by the trial of one stream more; None where the search ended without one."""
    over = bound.last(bound.streams + 1)
    if over is None:
        return None
    if over.counts.error:
        return LimitingStage("error", over.counts.error)
    alone = bound.trials[0][1]
    cores = over.threads
    if over.busy + over.other_cores / cores < _BUSY:
        why = (
            f"a frame's answer takes {over.p99_s * 1e3:.0f} ms (p99), {over.limit_s * 1e3:.0f} ms are allowed"
        )
        return LimitingStage(
            "latency", f"{why}, while the CPUs are {over.busy:.0%} busy: frames that come together wait"
        )
    if over.busy < _BUSY:
        why = (
            f"other programs use {over.other_cores:.1f} of {cores} CPUs, the streams {over.busy * cores:.1f}"
        )
        return LimitingStage("other programs", f"{why}: measure again when they are done")
    ratio = over.cpu_ms("inference") / max(1e-9, alone.cpu_ms("inference"))
    if bound.streams > 1 and ratio >= _DEARER:
        why = f"a frame's inference takes {ratio:.1f} times the CPU time it takes in a single stream"
        return LimitingStage("memory", f"{why}: cores share caches, memory or their clock")
    total = sum(over.counts.cpu_ns.values())
    shares = {part: over.counts.cpu_ns[part] / max(1, total) for part in _PARTS}
    name = max(shares, key=lambda part: shares[part])
    parts = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
    return LimitingStage(name, f"the CPUs are {over.busy:.0%} busy: {parts}")


def streams_report(machine: StreamMachine, bound: StreamBound[TrialResult]) -> dict[str, Any]:
    """The result for ``--json``."""
    limit, video = limiting_stage(bound), machine.video
    others = [result.other_cores for _, result in bound.trials]
    return {
        "streams": bound.streams,
        "bounded": bound.bounded,
        "fps": machine.fps,
        "source": {
            "file": machine.source,
            "width": video.width,
            "height": video.height,
            "codec": video.codec,
            "frame_rate": round(video.frame_rate, 3),
        },
        "model": {"name": machine.name, "version": machine.version, "checksum": machine.checksum},
        "limit_ms": round(machine.limit_s * 1e3, 1),
        "limited_by": None if limit is None else limit._asdict(),
        "other_cores": {"least": round(min(others), 2), "most": round(max(others), 2)},
        "seconds": machine.seconds,
        "seats": [
            {"node": seat.node, "cpus": [*seat.cpus], "threads": seat.threads} for seat in machine.seats
        ],
        "machine": Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short,
        "trials": [result.as_json() for _, result in bound.trials],
    }


class _Load:
    """What other programs use of the CPUs from now on."""

    def __init__(self, pids: Any) -> None:
        self._own = [psutil.Process(pid) for pid in (*pids, None)]
        self._before = self._busy(), self._used()

    def other_cores(self, seconds: float) -> float:
        """CPUs that programs other than ours used since then, on average."""
        busy, used = self._busy() - self._before[0], self._used() - self._before[1]
        return max(0.0, (busy - used) / seconds)

    def _busy(self) -> float:
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))

    def _used(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._own)
