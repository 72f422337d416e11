"""Live sources: cameras, streams of the network, growing files and pipes."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from cpuserve.errors import UsageError, VideoError
from cpuserve.video.decoder_messages import LIVE_COUNTS, Failure, Result, Watch
from cpuserve.video.decoder_server import DecoderChild, shared_server
from cpuserve.video.decoding import MEMORY_BYTES, limit_of, pickled_stage
from cpuserve.video.frame_stage import DecodedFrame, FrameStage
from cpuserve.video.held_interrupt import hear_interrupt
from cpuserve.video.segment_decoder import Which
from cpuserve.video.video_sources import shown_address

__all__ = ["LiveSource", "SourceCounts"]

_LOOK_S = 0.2  # from one look for Ctrl-C to the next


@dataclass(frozen=True)
class SourceCounts:
    """What became of the frames of a live source.

    Attributes:
        decoded: frames that came out of the decoder.
        delivered: given to whoever asked for them.
        dropped: decoded, and left out as newer ones came before they were asked for.
        reconnects: how often the source had to be opened again.
        errors: packets that could not be decoded, and decoders that crashed.
    """

    decoded: int = 0
    delivered: int = 0
    dropped: int = 0
    reconnects: int = 0
    errors: int = 0


class LiveSource:
    """The frames of a live source, the newest ones where they come faster than they are asked for.

    Iterating it waits for the next frame. Frames wait in a queue; where it is full, the oldest is dropped
    and counted: numbers count all decoded frames, for which a gap in them is as large as the number of frames
    that were dropped (with ``every`` 1 and a stage that leaves none out). A recording behind an address, one
    with a length, waits for its reader instead: nothing of it is dropped.

    A connection that breaks is opened again after a wait that doubles each time it fails. A decoder that
    crashes is started anew. A growing file ends when nothing was added for ``timeout_s``; a pipe, and an
    address of a recording, where they end.

    Args:
        address: of RTSP, HTTP or any other protocol of FFmpeg, a growing file, a named pipe, a camera
            ``/dev/video0``, or ``-`` for standard input.
        stage: runs in the process that decodes, on every frame.
        queue: most frames that wait.
        which: which frames are decoded, as for `cpuserve.video.decoding.decode`; others have no number.
        every: only frames with a number that this divides.
        options: of FFmpeg's container and protocol, such as ``rtsp_transport``.
        timeout_s: how long nothing may come before a connection counts as broken.
        attempts: how often in a row the source is opened without a frame before it is given up; None is for
            ever.
        waits_s: the first and the longest wait before it is opened again.
        max_pixels: larger pictures are refused; None is the setting's default.
        memory_bytes: most bytes of pictures that wait or are kept.

    Raises:
        UsageError: a wrong argument, or a stage that cannot be pickled.
    """

    def __init__(
        self,
        address: str,
        stage: FrameStage,
        *,
        queue: int = 8,
        which: Which = "all",
        every: int = 1,
        options: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        attempts: int | None = 5,
        waits_s: tuple[float, float] = (0.5, 30.0),
        max_pixels: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if queue < 1 or every < 1:
            raise UsageError(f"queue is {queue} and every {every}: give at least 1")
        self._name = shown_address(address)
        self._watch = Watch(
            address=address,
            stage=pickled_stage(stage),
            import_path=list(sys.path),
            max_pixels=limit_of(max_pixels),
            most_bytes=memory_bytes,
            which=which,
            every=every,
            number=0,
            behind=None,
            options=dict(options or {}),
            timeout_s=timeout_s,
            attempts=attempts,
            waits_s=waits_s,
        )
        self._most = queue
        self._queue: deque[DecodedFrame] = deque()
        self._changed = threading.Condition()
        self._closed = self._over = False
        self._error: Exception | None = None
        self._before = dict.fromkeys(LIVE_COUNTS, 0)
        self._delivered = self._dropped = 0
        self._received = -1
        self._child: DecoderChild | None = self._start()
        self._thread = threading.Thread(target=self._read, name="live-source", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SourceCounts:
        """What became of the frames so far."""
        with self._changed:
            counted = self._counted()
            return SourceCounts(
                decoded=counted["decoded"],
                delivered=self._delivered,
                dropped=self._dropped + counted["dropped"],
                reconnects=counted["reconnects"],
                errors=counted["errors"],
            )

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Frames until the source ends or is closed. Each is released when the next one is asked for.

        Raises:
            VideoError: the source was given up.
        """
        while (frame := self._next()) is not None:
            yield frame
            frame.pass_on()

    def close(self) -> None:
        """End it. Pictures that are kept stay valid."""
        with self._changed:
            self._closed = True
            if self._child is not None:
                self._child.end()
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            while self._queue:
                self._drop_oldest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> DecodedFrame | None:
        with self._changed:
            while not self._queue:
                if self._error is not None:
                    raise self._error
                if self._closed or self._over:
                    return None
                if not self._changed.wait(_LOOK_S):
                    hear_interrupt()
            self._delivered += 1
            self._changed.notify_all()
            return self._queue.popleft()

    def _start(self) -> DecoderChild:
        child = shared_server().fork()
        child.send(self._watch)
        if self._watch.address == "-":
            child.send_descriptor(sys.stdin.fileno())
        return child

    def _read(self) -> None:
        """Take frames from decoders as they come, in a thread of its own, so that none has to wait."""
        crashes, wait_s = 0, self._watch.waits_s[0]
        while (child := self._child) is not None:
            try:
                message = child.hear()
            except (EOFError, OSError):
                crashes += 1
                self._crashed(child, crashes, wait_s)
                wait_s = min(2 * wait_s, self._watch.waits_s[1])
                continue
            if isinstance(message, Result):
                crashes, wait_s = 0, self._watch.waits_s[0]
                self._take(message, child)
            elif isinstance(message, Failure):
                self._end(child, message.told(self._name))
            else:
                reason = message.reason
                self._end(child, None if reason is None else VideoError(f"{self._name}: {reason}"))

    def _crashed(self, child: DecoderChild, crashes: int, wait_s: float) -> None:
        """Start another decoder, unless this one was ended or they crash again and again."""
        ending = child.ending()
        with self._changed:
            lost = child.views.told(LIVE_COUNTS.index("number")) > self._received
            behind = child.views.told(LIVE_COUNTS.index("pts"))
            self._leave(child)
            self._watch = replace(self._watch, number=self._before["decoded"], behind=behind)
            if self._closed:
                return
            self._before["errors"] += 1
            self._dropped += lost  # the frame at which it crashed is counted, and never came
            if self._watch.attempts is not None and crashes >= self._watch.attempts:
                why = f"the process that decodes it {ending}, again and again"
                self._finish(VideoError(f"{self._name}: {why}"))
                return
            self._before["reconnects"] += 1
            if not self._changed.wait_for(lambda: self._closed, wait_s):
                self._child = self._start()

    def _take(self, result: Result, child: DecoderChild) -> None:
        pictures, free = None, None
        if result.slot >= 0:
            pictures, free = child.views.pictures(result.placed), partial(child.free, result.slot)
        frame = DecodedFrame(result.number, result.pts, result.time_s, result.value, pictures, free)
        with self._changed:
            self._received = result.number
            if child.views.told(LIVE_COUNTS.index("recorded")):
                # meanwhile its decoder waits, and by that the server
                self._changed.wait_for(lambda: self._closed or len(self._queue) < self._most)
            if len(self._queue) >= self._most:
                self._drop_oldest()
            self._queue.append(frame)
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        self._queue.popleft().release()
        self._dropped += 1

    def _end(self, child: DecoderChild, error: Exception | None) -> None:
        with self._changed:
            self._leave(child)
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        self._error = error
        self._over = True
        self._changed.notify_all()

    def _leave(self, child: DecoderChild) -> None:
        """Close a decoder, and take over what it has counted."""
        self._before = self._counted()
        self._child = None
        child.close()

    def _counted(self) -> dict[str, int]:
        child = self._child
        told = [0] * len(LIVE_COUNTS) if child is None else map(child.views.told, range(len(LIVE_COUNTS)))
        return {name: self._before[name] + more for name, more in zip(LIVE_COUNTS, told, strict=True)}
