"""The process that forks decoders of video for `DecoderServer`, and what each decoder does.

Run as ``python -m cpuserve.video.decoder_process SOCKET``. It serves the process that started it and ends
when that one has closed its end of the socket, however that came; its decoders end with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from cpuserve.errors import CpuserveError, VideoError
from cpuserve.machine import numa
from cpuserve.video.decoder_messages import Begin, Failure, Job, Prepare, Probe, Renew, Result, Watch
from cpuserve.video.frame_stage import LateStage, PreparedStage
from cpuserve.video.live_decoder import LiveDecoder, StageFailed
from cpuserve.video.picture_slots import PictureSlots, Placed
from cpuserve.video.segment_decoder import SegmentDecoder, SegmentEnd
from cpuserve.video.segments import Segment
from cpuserve.video.video_file import probe

if TYPE_CHECKING:
    from cpuserve.video.frame import Frame

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Fork a decoder for each pair of a socket and a memory file that arrives, and tell how each ended.

    A message without descriptors is the process id of a decoder to end.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the process that asked for it closes the socket
    orders = socket.socket(fileno=int(sys.argv[1]))
    heard, ended = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(ended, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        _serve(orders, heard)
    except (BrokenPipeError, ConnectionResetError):
        return  # the process that asked has ended without having read all


def _serve(orders: socket.socket, heard: int) -> None:
    """Take orders until the socket is closed.

    Args:
        orders: the socket.
        heard: readable when a child has ended.
    """
    living: set[int] = set()
    while True:
        ready, _, _ = select.select([orders.fileno(), heard], [], [])
        if heard in ready:
            os.read(heard, 4096)
            _bury(orders, living)
        if orders.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(orders, 32, 2)
            if not message:
                return
            if not descriptors:
                if (child := int(message)) in living:
                    os.kill(child, signal.SIGKILL)
                continue
            here = os.getpid()
            if (child := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                _run(here, *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            living.add(child)
            orders.send(json.dumps({"forked": child}).encode())


def _bury(orders: socket.socket, living: set[int]) -> None:
    """Take the exit statuses of all children that have ended, and tell them."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        living.discard(child)
        orders.send(json.dumps({"ended": child, "status": os.waitstatus_to_exitcode(status)}).encode())


def _run(parent: int, words: int, memory: int) -> None:
    """Be a decoder, in a forked process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    status = 1
    try:
        if os.getppid() == parent:
            _Decoder(words, memory).serve()
        status = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        status = 0  # nobody asks any more
    except BaseException:  # noqa: BLE001  # the process ends here
        traceback.print_exc()
    finally:
        os._exit(status)


class _Decoder:
    """Does the jobs that arrive over a socket, one after the other."""

    def __init__(self, words: int, memory: int) -> None:
        self._words = Connection(words)
        self._memory = memory
        self._heard: deque[Any] = deque()
        self._poll = select.poll()
        self._poll.register(words, select.POLLIN)
        self._decoder: SegmentDecoder | None = None

    def serve(self) -> None:
        """Answer until the socket is closed.

        Raises:
            EOFError: it was closed.
        """
        while True:
            message = self._heard.popleft() if self._heard else self._words.recv()
            if isinstance(message, Probe):
                self._send(_attempt(partial(probe, message.path, max_pixels=message.max_pixels)))
            elif isinstance(message, Begin):
                self._begin(message)
            elif isinstance(message, Prepare):
                _attempt(partial(self._prepare, message))
            elif isinstance(message, Renew):
                self._renew()
            elif isinstance(message, Job):
                self._do(message)
            elif isinstance(message, Watch):
                self._watch(message)
            else:
                self._slots.free(message)

    def _prepare(self, asked: Prepare) -> None:
        """Load what a stage needs. Where that fails, it is told when there is a file."""
        if asked.seat is not None:
            numa.bind_to_seat(asked.seat)
        sys.path[:] = asked.import_path
        stage = pickle.loads(asked.stage)  # noqa: S301  # of the own parent
        if isinstance(stage, PreparedStage):
            stage.prepare()

    def _renew(self) -> None:
        """Forget the file before, and use other memory: what is in the old one may still be looked at."""
        memory = reduction.recv_handle(self._words)
        os.close(self._memory)
        self._memory = memory
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _begin(self, begin: Begin) -> None:
        if begin.seat is not None:
            numa.bind_to_seat(begin.seat)
        self._slots = PictureSlots(self._memory, begin.most_bytes)
        self._begun = begin
        sys.path[:] = begin.import_path
        self._stage = _attempt(lambda: pickle.loads(begin.stage))  # noqa: S301  # of the own parent
        self._decoder = None

    def _do(self, job: Job) -> None:
        end = SegmentEnd()
        failed = self._stage if isinstance(self._stage, Failure) else None
        if failed is None:
            failed = _attempt(lambda: self._decode(job, end))
        if failed is not None:
            failed = replace(failed, number=self._slots.told())
        self._send((job.number, failed or end))

    def _decode(self, job: Job, end: SegmentEnd) -> None:
        begun = self._begun
        choice = replace(begun.choice, start=max(begun.choice.start, job.start))
        decoder = self._opened()
        segment: Segment | None = None
        frame: Frame | None = None
        for frame in decoder.decode(job.first, job.last, end, job.base, choice):
            self._slots.tell(frame.number)
            if segment is None or (job.first != job.last and frame.number >= segment.stop):
                segment = self._segment_of(frame.number, job)
                self._stage.start(begun.video, segment)
            made = self._stage(frame)
            if made is not None:
                self._take(job.number, frame, made)
        if frame is not None and isinstance(self._stage, LateStage):
            made = self._stage.late()
            if made is not None:
                self._take(job.number, frame, made)

    def _watch(self, watch: Watch) -> None:
        pipe = reduction.recv_handle(self._words) if watch.address == "-" else -1
        slots = self._slots = PictureSlots(self._memory, watch.most_bytes)
        sys.path[:] = watch.import_path
        stage = _attempt(lambda: pickle.loads(watch.stage))  # noqa: S301  # of the own parent
        if not isinstance(stage, Failure):
            live = LiveDecoder(watch, stage, pipe, slots, self._send, self._wait)
            stage = _attempt(live.run)
        if isinstance(stage, Failure):
            stage = replace(stage, number=slots.told())
        self._send(stage)

    def _wait(self, seconds: float) -> None:
        """Take in what arrives within some seconds, until nothing is there."""
        while self._poll.poll(seconds * 1000):
            self._hear()
            seconds = 0

    def _opened(self) -> SegmentDecoder:
        if self._decoder is None:
            begun = self._begun
            self._decoder = SegmentDecoder(begun.video, begun.which, begun.max_pixels, self._slots.tell)
        return self._decoder

    def _segment_of(self, number: int, job: Job) -> Segment:
        """The segment that a frame belongs to, with the numbers that its frames really have."""
        if job.first == job.last:
            shift = 0 if self._begun.video.ordered else job.base - job.first.start
            first = job.first
            return replace(first, start=first.start + shift, stop=first.stop + shift)
        segments = self._begun.video.segments
        return next((one for one in segments if number < one.stop), segments[-1])

    def _take(self, job: int, frame: Frame, made: Any) -> None:
        slot = -1
        placed: Placed = {}
        if made.pictures:
            slot, placed = self._slots.put(made.pictures, self._freed)
        self._wait(0)
        # each result goes at once: a crash at the next frame must not take it along
        self._send((job, Result(frame.number, frame.pts, frame.time_s, made.value, slot, placed)))

    def _freed(self) -> int:
        """Wait for a slot that is freed."""
        while True:
            message = self._words.recv()
            if isinstance(message, int):
                return message
            self._heard.append(message)

    def _hear(self) -> None:
        message = self._words.recv()
        if isinstance(message, int):
            self._slots.free(message)
        else:
            self._heard.append(message)

    def _send(self, message: Any) -> None:
        self._words.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def _attempt(call: Callable[[], Any]) -> Any:
    """What a call gives, or its failure in a form that can be sent."""
    try:
        return call()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001  # told to whoever asked
        where = "" if isinstance(error, CpuserveError) else traceback.format_exc()
        error = error.cause if isinstance(error, StageFailed) else error
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  # made here
        except Exception:  # noqa: BLE001  # an error that cannot be sent is told by its text
            error = VideoError(f"{type(error).__name__}: {error}")
        return Failure(error, where)


if __name__ == "__main__":
    main()
