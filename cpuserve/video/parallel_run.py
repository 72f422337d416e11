"""One file that several processes decode, segment by segment, with its frames put in order."""

from __future__ import annotations

import logging
import selectors
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cpuserve.errors import VideoError
from cpuserve.machine.placement import Seat
from cpuserve.video.decoder_messages import Begin, Failure, Job, Result
from cpuserve.video.decoder_server import DecoderChild, DecoderServer
from cpuserve.video.frame_stage import DecodedFrame
from cpuserve.video.held_interrupt import heard
from cpuserve.video.segment_decoder import SegmentEnd
from cpuserve.video.segments import Segment

__all__ = ["ParallelRun"]

_AHEAD = 2  # jobs that a process has, so that it need not wait for the next one
_MOST_RECOUNTS = 3

_log = logging.getLogger("cpuserve")


@dataclass
class _Part:
    """A job, and what has come of it so far."""

    job: Job
    results: deque[tuple[Result, DecoderChild]] = field(default_factory=deque)
    end: SegmentEnd | None = None
    error: Exception | None = None


class ParallelRun:
    """Gives the frames of one file in the order of their numbers.

    Segments are given out in the order of the file and decoded at the same time. Where packets do not tell
    how many frames a segment has, its successors are decoded by the number that they should have, and again
    by the right one where it was another. Where a segment cannot be decoded apart from what is before it,
    the rest of the file is decoded by one process from the beginning.

    Args:
        server: starts the processes.
        begin: what they are told first; the seat is each one's own.
        seats: where they run, one for each process.
    """

    def __init__(self, server: DecoderServer, begin: Begin, seats: Sequence[Seat | None]) -> None:
        self._server = server
        self._begin = begin
        self._seats = seats
        self._video = begin.video
        self._children: dict[DecoderChild, deque[_Part]] = {}
        self._selector = selectors.DefaultSelector()
        self._parts: list[_Part] = []
        self._waiting: deque[_Part] = deque()
        self._by_number: dict[int, _Part] = {}
        self._jobs = 0
        self._last: int | None = None

    def frames(self) -> Iterator[DecodedFrame]:
        """All wanted frames.

        Raises:
            VideoError: a process crashed, or the file is damaged; all frames before that place were given.
        """
        self._start([self._job(segment, segment, segment.start) for segment in self._segments()])
        place = recounts = 0
        undecodable: list[int] = []
        while place < len(self._parts):
            part = self._parts[place]
            yield from self._results(part)
            end, job = part.end, part.job
            if end is None:
                break
            undecodable += end.undecodable
            place += 1
            behind = job.base + end.frames
            following = self._parts[place].job if place < len(self._parts) else None
            if not end.apart and not self._is_whole(job):
                start = max(job.start, job.first.start) if self._video.ordered else behind
                self._start([self._whole(start)])
                place = 0
            elif not self._video.ordered and following is not None and following.base != behind:
                recounts += 1
                shift = behind - following.base
                rest = [replace(later.job, base=later.job.base + shift) for later in self._parts[place:]]
                self._start(rest if recounts <= _MOST_RECOUNTS else [self._whole(behind)])
                place = 0
        self._tell(undecodable)

    def close(self) -> None:
        """Give back idle processes, and end the others. Pictures that are kept stay valid."""
        for child in list(self._children):
            self._drop(child)
        self._selector.close()

    def _segments(self) -> list[Segment]:
        """The segments that are decoded. Where frames have to be counted, all before a wanted one are."""
        choice = self._begin.choice
        if self._video.ordered:
            wanted = choice.last_between
            return [one for one in self._video.segments if wanted(one.start, one.stop) is not None]
        return [one for one in self._video.segments if one.start < choice.stop]

    def _job(self, first: Segment, last: Segment, base: int, start: int = 0) -> Job:
        return Job(0, first, last, base, start)

    def _whole(self, start: int) -> Job:
        segments = self._video.segments
        return self._job(segments[0], segments[-1], 0, start)

    def _is_whole(self, job: Job) -> bool:
        return job.first.index == 0 and job.last is self._video.segments[-1]

    def _start(self, jobs: Sequence[Job]) -> None:
        """Begin with other jobs. What was decoded for those before is dropped."""
        for child in list(self._children):
            self._drop(child)
        self._parts = []
        self._by_number = {}
        for job in jobs:
            self._jobs += 1
            self._parts.append(_Part(replace(job, number=self._jobs)))
            self._by_number[self._jobs] = self._parts[-1]
        self._waiting = deque(self._parts)
        count = min(len(self._seats), len(self._parts))
        for seat in self._seats[:count]:
            child = self._server.decoder(seat)
            self._children[child] = deque()
            self._selector.register(child, selectors.EVENT_READ, child)
            child.send(replace(self._begin, seat=seat, most_bytes=self._begin.most_bytes // count))
        for _ in range(_AHEAD):
            for child in self._children:
                self._give(child)

    def _give(self, child: DecoderChild) -> None:
        if self._waiting and len(self._children[child]) < _AHEAD:
            part = self._waiting.popleft()
            self._children[child].append(part)
            child.send(part.job)

    def _results(self, part: _Part) -> Iterator[DecodedFrame]:
        """The frames of one part, as they come."""
        while True:
            while part.results:
                result, child = part.results.popleft()
                self._last = result.number
                pictures, free = None, None
                if result.slot >= 0:
                    pictures, free = child.views.pictures(result.placed), partial(child.free, result.slot)
                frame = DecodedFrame(result.number, result.pts, result.time_s, result.value, pictures, free)
                yield frame
                frame.pass_on()
            if part.error is not None:
                raise part.error
            if part.end is not None:
                return
            with heard():
                ready = self._selector.select()
            for key, _ in ready:
                self._hear(key.data)

    def _hear(self, child: DecoderChild) -> None:
        parts = self._children[child]
        try:
            number, message = child.hear()
        except EOFError:
            at = child.views.told()
            error = VideoError(
                f"{self._video.path}: the process that decodes it {child.ending()} at frame {at}"
            )
            for part in parts:
                part.error = error
            self._drop(child, crashed=True)
            return
        part = self._by_number[number]
        if isinstance(message, Result):
            part.results.append((message, child))
            return
        parts.remove(part)
        if isinstance(message, Failure):
            part.error = message.told(str(self._video.path))
        else:
            part.end = message
        self._give(child)

    def _drop(self, child: DecoderChild, *, crashed: bool = False) -> None:
        busy = self._children.pop(child)
        self._selector.unregister(child)
        if busy or crashed:
            child.close()
        else:
            child.give_back()

    def _tell(self, undecodable: list[int]) -> None:
        """Log which frames could not be decoded, and raise where the file breaks off."""
        path, damage = self._video.path, self._video.packets.damage
        number = self._video.frames - 1 if self._video.ordered else self._last
        if undecodable and self._last is None:
            raise VideoError(f"{path}: none of its frames could be decoded")
        if undecodable:
            _log.warning(
                "%s: %d damaged packets gave no frame, the first of them at frame %d",
                path,
                len(undecodable),
                undecodable[0],
            )
        if self._begin.choice.stop < self._video.frames:
            return
        missing, before = self._video.missing
        if missing:
            _log.warning(
                "%s: its times leave out %d frames, the first of them behind frame %d: they were damaged, or "
                "never recorded",
                *(path, missing, before),
            )
        if damage is not None:
            raise VideoError(f"{path}: {damage}; frame {number} is the last one")
