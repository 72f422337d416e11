"""Answers the frames of videos in all seats of this machine, each with decoders and a model of its own."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from cpuserve.errors import CpuserveError, VideoError
from cpuserve.machine.placement import Seat
from cpuserve.settings import Settings
from cpuserve.video.answered_frames import AnsweredFrame
from cpuserve.video.decoding import probe_apart
from cpuserve.video.held_interrupt import heard
from cpuserve.video.infer import InferOptions, LiveCounts
from cpuserve.video.seats import SeatProcess
from cpuserve.video.video_file import VideoFile
from cpuserve.video.video_sources import VideoSource

__all__ = ["AnswerTask", "SeatAnswers", "parts_of"]

_PART_FRAMES = 256  # at least, so that starting a part is rare
_AHEAD = 2  # parts a seat may have: one under way, one that waits
_BATCH = 16  # frames a message


@dataclass(frozen=True)
class _VideoPart:
    """Frames of a video that one seat answers."""

    number: int
    source: VideoSource
    video: VideoFile | None
    start: int
    stop: int | None


@dataclass
class _SeatNews:
    """What a seat says of a part.

    Attributes:
        part: its number.
        frames: answered.
        ended: whether these were the last.
        error: why it ended early.
        counts: of live sources.
        cpu_ns: CPU time of the seat's process so far; its decoders are not in it.
    """

    part: int
    frames: list[AnsweredFrame] = field(default_factory=list)
    ended: bool = False
    error: str = ""
    counts: LiveCounts = field(default_factory=LiveCounts)
    cpu_ns: int = 0


@dataclass(frozen=True)
class AnswerTask:
    """Opens a model in a seat and answers the parts that it is given.

    Attributes:
        model: as of `cpuserve.video.frame_model.open_frame_model`.
        settings: in force.
        options: which frames, and how.
    """

    model: str | Path
    settings: Settings
    options: InferOptions

    def run(self, words: Connection, threads: int) -> None:
        """Answer parts until there are no more."""
        from cpuserve.video.frame_model import open_frame_model  # noqa: PLC0415  # OpenVINO in the seat alone
        from cpuserve.video.local_answers import LocalAnswers  # noqa: PLC0415

        scaler = self.options.scaler
        with open_frame_model(self.model, self.settings, threads=threads, scaler=scaler) as model:
            words.send((model.name, model.version, model.checksum))
            answers = LocalAnswers(
                model, self.options, processes=threads, max_pixels=self.settings.max_pixels
            )
            while True:
                part: _VideoPart = words.recv()
                told = _SeatNews(part.number)
                most = 1 if part.source.live else _BATCH
                try:
                    for frame in answers.answer(part.source, part.video, part.start, part.stop):
                        told.frames.append(frame)
                        if len(told.frames) == most:
                            told.counts = answers.live_counts()
                            words.send(told)
                            told = _SeatNews(part.number)
                except VideoError as error:
                    told.error = str(error)
                used = resource.getrusage(resource.RUSAGE_SELF)
                cpu_ns = round((used.ru_utime + used.ru_stime) * 1e9)
                words.send(replace(told, ended=True, counts=answers.live_counts(), cpu_ns=cpu_ns))


class SeatAnswers:
    """Answers frames in several seats. A context manager.

    A video is divided at its segments; the frames come back in order. A seat whose process ends costs the
    video, and is started anew for the next one.

    Attributes:
        name: of the model.
        version: of the model.
        checksum: of its files.

    Args:
        seats: where to work.
        task: what each does.

    Raises:
        CpuserveError: the model cannot be opened.
    """

    def __init__(self, seats: Sequence[Seat], task: AnswerTask) -> None:
        self._seats = seats
        self._task = task
        self._processes: list[SeatProcess] = []
        self._cpu_ns: dict[int, int] = {}
        self._counts = LiveCounts()
        self.name, self.version, self.checksum = self._started()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()
        self._processes = []

    def probe(self, source: VideoSource) -> VideoFile:
        """What the packets of a file say.

        Raises:
            VideoError: it cannot be opened, or has no video.
        """
        return probe_apart(source.path, max_pixels=self._task.settings.max_pixels)

    def answer(self, source: VideoSource, video: VideoFile | None, start: int = 0) -> Iterator[AnsweredFrame]:
        """The answered frames of a video, in order, from number ``start`` on.

        Raises:
            VideoError: the video cannot be read, or not to its end, or a seat's process ended. What came
                before was right.
        """
        if not self._processes:
            self._started()
        parts = parts_of(source, video, start)
        ended = False
        try:
            yield from self._in_order(parts)
            ended = True
        except CpuserveError as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(f"{source.name}: {error}") from error
        finally:
            if not ended:
                self.close()  # what the others still do is of no use

    def live_counts(self) -> LiveCounts:
        """What became of the frames of the live sources so far."""
        return self._counts

    def child_ns(self) -> int:
        """CPU time of the seats' processes; that of their decoders is not in it."""
        return sum(self._cpu_ns.values())

    def processes(self) -> list[int]:
        """The numbers of the seats' processes."""
        return [process.pid for process in self._processes]

    def _started(self) -> tuple[str, int, str]:
        """Start the processes; they load the model at the same time."""
        self._processes = [SeatProcess(seat, self._task) for seat in self._seats]
        try:
            models = [process.hear() for process in self._processes]
        except CpuserveError:
            self.close()
            raise
        found: tuple[str, int, str] = models[0]
        return found

    def _in_order(self, parts: Sequence[_VideoPart]) -> Iterator[AnsweredFrame]:
        work = _VideoWork(self._processes, parts)
        for part in parts:
            news = _SeatNews(part.number)
            while not news.ended:
                news = work.news_of(part.number)
                self._counts = news.counts
                if news.ended:
                    self._cpu_ns |= work.cpu_ns
                yield from news.frames
                if news.error:
                    raise VideoError(news.error)


class _VideoWork:
    """The parts of one video: which are handed out, and what was told of them.

    Attributes:
        cpu_ns: CPU time of each process, by its number.
    """

    def __init__(self, processes: Sequence[SeatProcess], parts: Sequence[_VideoPart]) -> None:
        self.cpu_ns: dict[int, int] = {}
        self._processes = processes
        self._left = deque(parts)
        self._told: dict[int, deque[_SeatNews]] = {part.number: deque() for part in parts}
        self._given: list[set[int]] = [set() for _ in processes]

    def news_of(self, part: int) -> _SeatNews:
        """What is told next of a part; that of others is kept, so that no seat stands still unheard.

        Raises:
            CpuserveError: a process has ended.
        """
        while not self._told[part]:
            self._hand_out(part)
            by_words: dict[Any, int] = {process.words: place for place, process in enumerate(self._processes)}
            with heard():
                ready = wait([*by_words])
            for words in ready:
                place = by_words[words]
                news: _SeatNews = self._processes[place].hear()
                self._told[news.part].append(news)
                if news.ended:
                    self._given[place].discard(news.part)
                    self.cpu_ns[self._processes[place].pid] = news.cpu_ns
        return self._told[part].popleft()

    def _hand_out(self, wanted: int) -> None:
        """Give parts to the seats that have least, as long as not too many answers wait for ``wanted``."""
        most = wanted + 2 * _AHEAD * len(self._processes)
        while self._left and self._left[0].number < most:
            place = min(range(len(self._processes)), key=lambda place: len(self._given[place]))
            if len(self._given[place]) == _AHEAD:
                return
            part = self._left.popleft()
            self._given[place].add(part.number)
            self._processes[place].say(part)


def parts_of(source: VideoSource, video: VideoFile | None, start: int) -> list[_VideoPart]:
    """The parts of a video that seats answer apart from each other: whole segments, none too short.

    Args:
        source: the video.
        video: its segments; None for a live source, which is one part.
        start: number of the first frame that is wanted.
    """
    if video is None:
        return [_VideoPart(0, source, None, start, None)]
    bounds = [start]
    for segment in video.segments:
        if segment.start - bounds[-1] >= _PART_FRAMES and video.frames - segment.start >= _PART_FRAMES:
            bounds.append(segment.start)
    stops = [*bounds[1:], video.frames]
    pairs = enumerate(zip(bounds, stops, strict=True))
    return [_VideoPart(number, source, video, begin, stop) for number, (begin, stop) in pairs if begin < stop]
