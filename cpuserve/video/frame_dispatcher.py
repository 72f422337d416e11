"""Hands frames to replicas: to the one with the fewest, and elsewhere when it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.serving.decode import Pixels
from cpuserve.video.common_model import look, nobody, take
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import (
    FrameRefused,
    FrameRequest,
    Payload,
    ReplicaBusy,
    ReplicaFailed,
    ServedModel,
)

__all__ = ["FOLLOW_S", "FrameDispatcher", "Registered", "WaitingFrame"]

Registered = Callable[[Sequence[Replica]], Awaitable[Sequence[Replica]]]
FOLLOW_S = 2.0
"""Between two looks at a registry."""

_log = logging.getLogger("cpuserve.video")
_LOOK_S = 0.05
_BUSY_IN_A_ROW = 3  # refusals for want of room, with no answer between them, that are said once
_MOST_FAILURES = 4  # of one frame, and for each replica one more: it may be what crashes them


@dataclass(eq=False)
class WaitingFrame:
    """A frame that has no answer yet.

    Attributes:
        content: see `FrameRequest.contents`.
        payload: what the content is.
        width: of the frame before it was scaled.
        height: of the frame before it was scaled.
        answer: takes the answer, or a `SeenFrame` where that is asked for.
        seen: whether it is.
        topk: see `FrameRequest.topk`.
        alone: whether it is sent without others, since a request with others was refused.
        failures: why each request with it failed, a text with the replica each.
        since: when it was added, on the clock of `time.monotonic`.
    """

    content: bytes
    payload: Payload
    width: int
    height: int
    answer: Future[Any]
    seen: bool = False
    topk: int | None = None
    alone: bool = False
    failures: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def goes_with(self, other: WaitingFrame) -> bool:
        """Whether both may be in one request."""
        return not (self.alone or other.alone) and self._kind == other._kind

    @property
    def _kind(self) -> tuple[object, ...]:
        return self.width, self.height, self.payload, self.seen, self.topk


class FrameDispatcher:
    """Frames and replicas of one model; all of it runs in one asyncio loop, that of its making.

    Args:
        replicas: the replicas, as `find_model` left them.
        served: their model.
        wait_s: seconds without any usable replica after which frames fail.
        registered: gives the replicas there are now, of which those that are known stay the same; None where
            they do not change.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        served: ServedModel,
        wait_s: float,
        registered: Registered | None = None,
    ) -> None:
        self._replicas, self._served, self._wait_s = [*replicas], served, wait_s
        self._waiting: deque[WaitingFrame] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._alive = time.monotonic()  # when a replica answered last
        self._start(self._watch())
        if registered is not None:
            self._start(self._follow(registered))

    def add(self, frame: WaitingFrame) -> None:
        """Have a frame answered."""
        self._waiting.append(frame)
        if self._closed:
            self._fail_waiting(self._no_more())
        self._hand_out()

    async def close(self) -> None:
        """Let all frames without an answer fail."""
        self._closed = True
        await asyncio.sleep(0)  # a task that is cancelled before its first step would not put its frames back
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail_waiting(self._no_more())

    def _no_more(self) -> CpuserveError:
        return CpuserveError(f"the replicas of {self._served.name} were closed before they answered")

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hand_out(self) -> None:
        """Send waiting frames as long as a replica is free."""
        while self._waiting and not self._closed:
            free = [replica for replica in self._replicas if replica.free]
            if not free:
                return
            replica = min(free, key=lambda one: one.load)
            frames = self._next_frames(min(replica.together(), -(-len(self._waiting) // len(free))))
            alone = not replica.requests
            replica.chosen(len(frames))
            self._start(self._send(replica, frames, alone=alone))

    def _next_frames(self, most: int) -> list[WaitingFrame]:
        frames = [self._waiting.popleft()]
        while self._waiting and len(frames) < most and frames[0].goes_with(self._waiting[0]):
            frames.append(self._waiting.popleft())
        return frames

    async def _send(self, replica: Replica, frames: list[WaitingFrame], *, alone: bool) -> None:
        """Have one replica answer frames; whatever it does, they are answered, waiting again, or refused."""
        first, started = frames[0], time.monotonic()
        request = FrameRequest(
            *([one.content for one in frames], first.payload, first.width, first.height, first.topk),
            mask=first.seen and self._served.has_mask,
        )
        back = frames
        try:
            found = await replica.link.ask(self._served, request)
            took = time.monotonic() - started
            self._alive = time.monotonic()
            replica.answered_frames(len(frames), took, found, alone=alone)
            back = []
            masks: Sequence[Pixels | None] = found.masks or [None] * len(frames)
            for frame, answer, mask in zip(frames, found.answers, masks, strict=True):
                frame.answer.set_result(SeenFrame(answer, mask) if frame.seen else answer)
        except ReplicaBusy as error:
            replica.refusals += 1
            replica.left_out(str(error), error.retry_after_s, up=True)
            if replica.failed_in_a_row == _BUSY_IN_A_ROW:
                _log.warning("replica %s has no room time and again: %s", replica.url, error)
        except ReplicaFailed as error:
            self._failed(replica, frames, error)
            back = [frame for frame in frames if not frame.answer.done()]
        except FrameRefused as error:
            back = self._refused(replica, frames, error)
        finally:  # also where the task is cancelled
            replica.outstanding -= len(frames)
            replica.requests -= 1
            self._waiting.extendleft(reversed(back))
        self._hand_out()

    def _failed(self, replica: Replica, frames: Sequence[WaitingFrame], error: ReplicaFailed) -> None:
        replica.failures += 1
        if replica.up:
            _log.warning("replica %s gets no frames for now: %s", replica.url, error)
        replica.left_out(str(error))
        for frame in frames:
            frame.failures.append(f"{replica.url}: {error}")
            frame.alone = True  # if it is what crashes them, it takes no others with it again
            if len(frame.failures) >= _MOST_FAILURES + len(self._replicas):
                frame.answer.set_exception(
                    ReplicaFailed(
                        f"a frame failed {len(frame.failures)} times: {'; '.join(frame.failures[-3:])}"
                    )
                )

    def _refused(
        self, replica: Replica, frames: list[WaitingFrame], error: FrameRefused
    ) -> list[WaitingFrame]:
        """Frames to be sent again, each alone: one of them spoiled the request, or it was too large."""
        if len(frames) == 1:
            frames[0].answer.set_exception(FrameRefused(f"replica {replica.url} refuses a frame: {error}"))
            return []
        replica.most_together = max(1, len(frames) // 2)
        for frame in frames:
            frame.alone = True
        return frames

    async def _watch(self) -> None:
        """Bring replicas back, and let frames fail that no replica takes for too long."""
        probes: dict[str, asyncio.Task[ServedModel | None]] = {}
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                for replica in self._replicas:
                    probe = probes.get(replica.url)
                    if probe is not None and probe.done():
                        del probes[replica.url]
                        model = probe.result()
                        if model is not None:
                            take(replica, model, self._served)
                    elif probe is None and replica.due:
                        probes[replica.url] = asyncio.get_running_loop().create_task(look(replica, told=True))
                self._check_waiting()
                self._hand_out()
        finally:
            for probe in probes.values():
                probe.cancel()
            await asyncio.gather(*probes.values(), return_exceptions=True)

    async def _follow(self, registered: Registered) -> None:
        """Take in replicas that are new, and leave out those that are no longer there."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            now = await registered(self._replicas)
            for replica in self._replicas:
                if replica not in now and not replica.gone:
                    _log.warning("replica %s is no longer registered", replica.url)
                    replica.gone, replica.reason = True, "it is no longer registered"
            for replica in now:
                if replica not in self._replicas:
                    _log.warning("replica %s is registered", replica.url)
            # one that still has frames is watched until they are answered
            self._replicas = [*now, *(one for one in self._replicas if one not in now and one.requests)]

    def _check_waiting(self) -> None:
        """Let waiting frames fail once no replica has been of use for too long."""
        if not self._waiting or any(replica.requests for replica in self._replicas):
            return
        if any(replica.free for replica in self._replicas):
            return
        since = max(self._alive, min(frame.since for frame in self._waiting))
        if time.monotonic() - since >= self._wait_s:
            self._fail_waiting(nobody(self._replicas, self._served.name, self._wait_s))

    def _fail_waiting(self, error: CpuserveError) -> None:
        while self._waiting:
            frame = self._waiting.popleft()
            frame.answer.set_exception(error)
