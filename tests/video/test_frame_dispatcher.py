"""No frame is left without a word, whenever a dispatcher is closed."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from cpuserve.errors import CpuserveError
from cpuserve.video.frame_dispatcher import FrameDispatcher, WaitingFrame
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import FramesAnswered, ServedModel

MODEL = ServedModel("colours", "1", "abc", "image", 2, 2, "RGB", "stretch", 0)


class HangingLink:
    """A connection to a replica that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def model(self) -> ServedModel:
        return MODEL

    async def ask(self, _model: ServedModel, _request: object) -> FramesAnswered:
        self.asked += 1
        await asyncio.sleep(3600)
        raise AssertionError

    async def close(self) -> None:
        pass


def a_frame() -> WaitingFrame:
    answer: Future[object] = Future()
    answer.set_running_or_notify_cancel()
    return WaitingFrame(b"", "raw", 2, 2, answer)


@pytest.mark.parametrize("steps_between", [0, 1, 2])
def test_frames_handed_out_just_before_it_is_closed_are_told(steps_between):
    link = HangingLink()
    frames = [a_frame() for _ in range(3)]

    async def closed_after_adding() -> None:
        replica = Replica("http://a:1", 2, link=link)
        replica.up = True
        dispatcher = FrameDispatcher([replica], MODEL, 60.0)
        for frame in frames:
            dispatcher.add(frame)
        for _ in range(steps_between):
            await asyncio.sleep(0)
        await dispatcher.close()

    asyncio.run(closed_after_adding())
    assert link.asked == 2  # the third frame waits
    for frame in frames:
        with pytest.raises(CpuserveError, match="were closed before they answered"):
            frame.answer.result(0)


def test_a_frame_added_after_it_is_closed_is_told():
    frame = a_frame()

    async def added_after_closing() -> None:
        dispatcher = FrameDispatcher([Replica("http://a:1", 2, link=HangingLink())], MODEL, 60.0)
        await dispatcher.close()
        dispatcher.add(frame)

    asyncio.run(added_after_closing())
    with pytest.raises(CpuserveError, match="were closed before they answered"):
        frame.answer.result(0)
