"""Frames are answered in order, and all that were decoded before a damage are given before its error."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from cpuserve.errors import CpuserveError, VideoError
from cpuserve.video.answered_frames import answer_frames
from cpuserve.video.model_input import MODEL, FrameFacts


class LateAnswer(Future[dict[str, int]]):
    """An answer that is there only once somebody waits for it."""

    def done(self):
        return False


class SlowModel:
    """Answers no frame before it has to.

    Args:
        bad: number of a frame that it fails on.
    """

    in_flight = 4

    def __init__(self, bad=None):
        self.bad = bad

    def submit(self, pixels, width, height, *, topk=None):
        number, answer = int(pixels[0, 0, 0]), LateAnswer()
        if number == self.bad:
            answer.set_exception(CpuserveError("no"))
        else:
            answer.set_result({"seen": number})
        return answer


def frame(number):
    pixels = np.full((1, 1, 3), number, np.uint8)
    facts = FrameFacts(1, 1, 0, 0)
    return SimpleNamespace(
        number=number, pts=number, time_s=0.0, value=facts, pictures={MODEL: pixels}, keep=int, release=int
    )


def decoded(count, damage=True):
    yield from map(frame, range(count))
    if damage:
        raise VideoError("damaged")


def collect(frames):
    numbers, error = [], ""
    try:
        for one in frames:
            numbers.append(one.answer["seen"])
    except VideoError as problem:
        error = str(problem)
    return numbers, error


@pytest.mark.parametrize("count", [4, 9])
def test_frames_under_way_come_before_the_damage(count):
    assert collect(answer_frames(SlowModel(), decoded(count), "v")) == ([*range(count)], "damaged")


def test_frames_behind_one_that_fails_are_not_given():
    numbers, error = collect(answer_frames(SlowModel(bad=5), decoded(9), "v"))
    assert numbers == [0, 1, 2, 3, 4]
    assert "frame 5" in error
