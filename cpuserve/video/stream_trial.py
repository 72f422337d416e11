"""Runs streams in real time in one seat: each is decoded in full, and some of its frames are inferred."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import block_signals
from cpuserve.settings import Settings
from cpuserve.video.decoding import frames
from cpuserve.video.frame import Frame
from cpuserve.video.frame_model import FrameModel, open_frame_model
from cpuserve.video.scale import Scaler
from cpuserve.video.video_file import VideoFile

__all__ = ["PacedStream", "StreamCounts", "StreamTask", "StreamTrial", "run_streams"]

_WARM_S = 1.5  # before a trial counts: streams open their files, and first frames are slower
_IN_FLIGHT = 1 << 16  # each stream has one frame under way, and none may wait for another's


@dataclass(frozen=True)
class StreamTrial:
    """What one seat does in a trial.

    Attributes:
        places: numbers of the streams that run here, among all of the machine.
        total: streams of the machine.
        seconds: that count.
        fps: frames a second of each stream that are inferred.
    """

    places: tuple[int, ...]
    total: int
    seconds: float
    fps: float


@dataclass
class StreamCounts:
    """What the streams of one seat did in the seconds that count.

    Attributes:
        decoded: frames.
        inferred: frames that were answered.
        dropped: frames whose turn came while the one before was still under way.
        lateness_s: of each answered frame, from when it came until its answer was there.
        cpu_ns: CPU time by part: ``decode``, ``scale``, and ``inference``, with all that is around it.
        peak_bytes: most memory of the process.
        error: why a stream ended.
    """

    decoded: int = 0
    inferred: int = 0
    dropped: int = 0
    lateness_s: list[float] = field(default_factory=list)
    cpu_ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("decode", "scale", "inference"), 0))
    peak_bytes: int = 0
    error: str = ""


@dataclass(frozen=True)
class StreamTask:
    """Opens a model in a seat and runs the trials that it is given.

    Attributes:
        model: as of `cpuserve.video.frame_model.open_frame_model`.
        settings: in force.
        video: that each stream plays, again and again.
        scaler: of swscale.
    """

    model: str | Path
    settings: Settings
    video: VideoFile
    scaler: Scaler = "bilinear"

    def run(self, words: Connection, threads: int) -> None:
        """Run trials until there are no more."""
        given = {"threads": threads, "scaler": self.scaler, "in_flight": _IN_FLIGHT}
        with open_frame_model(self.model, self.settings, **given) as model:  # type: ignore[arg-type]
            words.send((model.name, model.version, model.checksum))
            while True:
                trial: StreamTrial = words.recv()
                words.send(run_streams(model, self.video, trial))


class PacedStream:
    """One stream: takes a frame when it would come from a camera, and submits those whose turn it is.

    Args:
        model: answers.
        play: gives the frames; it is called again when they end.
        rate: frames a second that come.
        fps: frames a second that are inferred.
        begin: when the first frame comes, by the clock.
        clock: seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        model: FrameModel,
        play: Callable[[], Iterator[Frame]],
        *,
        rate: float,
        fps: float,
        begin: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._model = model
        self._play = play
        self._rate = rate
        self._fps = min(fps, rate)
        self._begin = begin
        self._clock = clock
        self._sleep = sleep
        self._under_way: Future[Any] | None = None

    def run(self, counts_from: float, until: float) -> StreamCounts:
        """Play from the beginning until a time; what comes before ``counts_from`` is not counted.

        Raises:
            CpuserveError: the video cannot be read, or the model fails.
        """
        counts, place = StreamCounts(), 0
        while True:
            with closing(self._play()) as playing:  # type: ignore[type-var]
                before = place
                while True:
                    due = self._begin + place / self._rate
                    if due >= until:
                        self._end()
                        return counts
                    if (early := due - self._clock()) > 0:
                        self._sleep(early)
                    began = time.thread_time_ns()
                    frame = next(playing, None)
                    if frame is None:
                        break
                    counted = counts if due >= counts_from else StreamCounts()
                    counted.decoded += 1
                    counted.cpu_ns["decode"] += time.thread_time_ns() - began
                    if int((place + 1) * self._fps / self._rate) > int(place * self._fps / self._rate):
                        self._infer(frame, due, counted)
                    place += 1
            if place == before:
                raise CpuserveError("the video has no frame that can be decoded")

    def _infer(self, frame: Frame, due: float, counts: StreamCounts) -> None:
        if self._under_way is not None and not self._under_way.done():
            counts.dropped += 1
            return
        self._end()
        began = time.thread_time_ns()
        pixels = frame.scaled(self._model.scale).copy()
        counts.cpu_ns["scale"] += time.thread_time_ns() - began
        self._under_way = self._model.submit(pixels, frame.width, frame.height)
        self._under_way.add_done_callback(partial(self._answered, due, counts))

    def _answered(self, due: float, counts: StreamCounts, _future: Future[Any]) -> None:
        counts.inferred += 1
        counts.lateness_s.append(self._clock() - due)

    def _end(self) -> None:
        """Wait for the frame that is under way, and raise what it raised."""
        if self._under_way is not None:
            self._under_way.result()


def run_streams(model: FrameModel, video: VideoFile, trial: StreamTrial) -> StreamCounts:
    """Run the streams of one seat and count what they did."""
    begin = time.monotonic()
    counts_from = begin + _WARM_S + 1 / trial.fps
    until = counts_from + trial.seconds
    found: list[StreamCounts] = []
    errors: list[str] = []

    def play(place: int) -> None:
        block_signals()
        # spread over the time between two inferred frames, as cameras are that nobody started together
        first = begin + place / trial.total / trial.fps
        stream = PacedStream(model, partial(frames, video), rate=video.frame_rate, fps=trial.fps, begin=first)
        try:
            found.append(stream.run(counts_from, until))
        except CpuserveError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=play, args=(place,), name=f"stream-{place}") for place in trial.places]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, counts_from - time.monotonic()))
    before = _cpu_ns()
    time.sleep(max(0.0, until - time.monotonic()))
    spent = _cpu_ns() - before
    for thread in threads:
        thread.join()
    whole = StreamCounts(error=errors[0] if errors else "")
    for counts in found:
        whole.decoded += counts.decoded
        whole.inferred += counts.inferred
        whole.dropped += counts.dropped
        whole.lateness_s += counts.lateness_s
        for part in ("decode", "scale"):
            whole.cpu_ns[part] += counts.cpu_ns[part]
    whole.cpu_ns["inference"] = max(0, spent - whole.cpu_ns["decode"] - whole.cpu_ns["scale"])
    whole.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return whole


def _cpu_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round((used.ru_utime + used.ru_stime) * 1e9)
