"""Stages that tests run in processes of their own."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from cpuserve.video.decoding import StageResult
from cpuserve.video.scale import Scale

SMALL = Scale(96, 64)


def digest(frame) -> str:
    """Of the scaled pixels."""
    return hashlib.sha256(frame.scaled(SMALL).tobytes()).hexdigest()


class Digests:
    """Gives a digest of each frame, its small picture, and the segment that it was told of."""

    def start(self, video, segment):
        self.segment = segment

    def __call__(self, frame):
        assert self.segment.start <= frame.number < self.segment.stop
        return StageResult((digest(frame), self.segment.index), {"small": frame.scaled(SMALL)})


class Numbers:
    """Gives the number of each frame, and whether it is a keyframe."""

    def start(self, video, segment):
        pass

    def __call__(self, frame):
        return StageResult((frame.number, frame.key))


class Odd(Numbers):
    """Leaves frames with even numbers out."""

    def __call__(self, frame):
        return StageResult() if frame.number % 2 else None


class Failing(Numbers):
    """Ends its process at a frame, or raises there."""

    def __init__(self, number, how):
        self.number = number
        self.how = how

    def __call__(self, frame):
        if frame.number == self.number:
            if self.how == "abort":
                os.abort()
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(3)
            raise ValueError("nothing to see")
        return super().__call__(frame)


class Growing(Numbers):
    """Gives pictures that become larger and larger."""

    def __call__(self, frame):
        side = 8 + 40 * (frame.number // 30)
        scale = Scale(side, side, "GRAY")
        return StageResult(digest(frame), {"a": frame.scaled(scale), "b": frame.scaled(SMALL)})


class Slow(Numbers):
    """Says on which frame it is, and takes its time."""

    def __init__(self, place: Path):
        self.place = place

    def __call__(self, frame):
        self.place.write_text(str(os.getpid()))
        time.sleep(0.01)
        return StageResult(os.getpid(), {"small": frame.scaled(SMALL)})


class Processes(Numbers):
    """Gives the id of the process that decodes each frame."""

    def __call__(self, frame):
        return StageResult(os.getpid())


class Prepared(Processes):
    """Leaves a file named after each process that was prepared for it."""

    def __init__(self, folder):
        self.folder = folder

    def prepare(self):
        (self.folder / str(os.getpid())).touch()
