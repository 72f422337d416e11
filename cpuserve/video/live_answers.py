"""Answers the frames of a live source as they come, and gives each answer as soon as it is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue

from cpuserve.errors import CpuserveError
from cpuserve.machine.process_controls import block_signals
from cpuserve.video.answered_frames import AnsweredFrame, SubmittedFrame, answered, submit_frame
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.held_interrupt import heard
from cpuserve.video.live import LiveSource

__all__ = ["answer_live"]


def answer_live(
    model: AnsweringModel, source: LiveSource, name: str, *, topk: int | None = None
) -> Iterator[AnsweredFrame]:
    """Answer frames until the source ends. While the model is busy, the source drops its oldest frames.

    Args:
        model: answers; it bounds how many frames are under way.
        source: its frames were made by a `ModelInput`; it is closed in the end.
        name: of the source, for messages.
        topk: number of classes wanted; None for the model's own.

    Yields:
        The frames in the order they came in.

    Raises:
        VideoError: the source was given up, or the model fails on a frame.
    """
    waiting: SimpleQueue[SubmittedFrame | CpuserveError | None] = SimpleQueue()

    def read() -> None:
        block_signals()
        try:
            for frame in source:
                waiting.put(submit_frame(model, frame, topk))
        except CpuserveError as error:
            waiting.put(error)
        finally:
            waiting.put(None)

    # a thread of its own: an answer must not wait for the frame behind it, which may come much later
    reader = threading.Thread(target=read, name="live-frames")
    reader.start()
    try:
        while True:
            with heard():
                item = waiting.get()
            if item is None:
                return
            if isinstance(item, CpuserveError):
                raise item
            yield answered(item, name)
    finally:
        source.close()
        reader.join()
