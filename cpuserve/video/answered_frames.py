"""Sends decoded frames to a model and gives the answers back in the order of the frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from cpuserve.errors import CpuserveError, VideoError
from cpuserve.serving.decode import Pixels
from cpuserve.serving.postprocess import Answer
from cpuserve.video.answering_model import AnsweringModel
from cpuserve.video.decoding import DecodedFrame
from cpuserve.video.frame_model import SeenFrame
from cpuserve.video.held_interrupt import heard_result
from cpuserve.video.model_input import MODEL, WHOLE, FrameFacts

__all__ = ["AnsweredFrame", "SubmittedFrame", "answer_frames", "answered", "submit_frame"]


@dataclass
class AnsweredFrame:
    """A frame and what the model answered.

    Attributes:
        number: its place in the order of presentation, from 0 on.
        pts: its time in units of the file's time base.
        time_s: its time in seconds.
        facts: its size, and what it cost to make.
        answer: as of ``/predictions/MODEL``.
        mask: the class of each pixel, u8 [height, width], of a segmentation if pictures are wanted.
        picture: BGR u8 [height, width, 3] if it is wanted.
    """

    number: int
    pts: int
    time_s: float
    facts: FrameFacts
    answer: Answer
    mask: Pixels | None = None
    picture: Pixels | None = None


@dataclass
class SubmittedFrame:
    """A frame whose answer is under way.

    Attributes:
        frame: it.
        picture: BGR u8 [height, width, 3] if it is wanted.
        future: the answer.
    """

    frame: DecodedFrame
    picture: Pixels | None
    future: Future[Any]


def answer_frames(
    model: AnsweringModel, decoded: Iterable[DecodedFrame], name: str, *, topk: int | None = None
) -> Iterator[AnsweredFrame]:
    """Answer frames that a `ModelInput` made, as many at once as the model takes.

    Args:
        model: answers.
        decoded: the frames; their pictures are given back as soon as the model has read them.
        name: of the video, for messages.
        topk: number of classes wanted; None for the model's own.

    Yields:
        The frames in the order they came in.

    Raises:
        VideoError: the video cannot be read on, or the model fails on a frame. All frames before were given.
    """
    waiting: deque[SubmittedFrame] = deque()
    damage: VideoError | None = None
    frames = iter(decoded)
    while True:
        try:
            frame = next(frames, None)
        except VideoError as error:  # frames that are under way come first
            frame, damage = None, error
        if frame is None:
            break
        waiting.append(submit_frame(model, frame, topk))
        while waiting and (len(waiting) >= model.in_flight or waiting[0].future.done()):
            yield answered(waiting.popleft(), name)
    while waiting:
        yield answered(waiting.popleft(), name)
    if damage is not None:
        raise damage


def submit_frame(model: AnsweringModel, frame: DecodedFrame, topk: int | None) -> SubmittedFrame:
    """Give a frame to a model, which may have to wait; its pictures are given back with the answer."""
    frame.keep()
    whole = frame.pictures.get(WHOLE)
    picture = None if whole is None else whole.copy()
    facts: FrameFacts = frame.value
    submit = model.submit if whole is None else model.submit_seen
    future: Future[Any] = submit(frame.pictures[MODEL], facts.width, facts.height, topk=topk)
    future.add_done_callback(partial(_release, frame))
    return SubmittedFrame(frame, picture, future)


def _release(frame: DecodedFrame, _future: Future[Any]) -> None:
    frame.release()


def answered(waiting: SubmittedFrame, name: str) -> AnsweredFrame:
    """Wait for the answer to a frame.

    Raises:
        VideoError: the model failed on it.
    """
    frame = waiting.frame
    try:
        found = heard_result(waiting.future)
    except CpuserveError as error:
        raise VideoError(f"{name}: frame {frame.number}: {error}") from error
    except RuntimeError as error:  # what OpenVINO raises while it computes
        raise VideoError(f"{name}: the model failed on frame {frame.number}: {error}") from error
    seen = found if isinstance(found, SeenFrame) else SeenFrame(found)
    return AnsweredFrame(
        frame.number, frame.pts, frame.time_s, frame.value, seen.answer, seen.mask, waiting.picture
    )
