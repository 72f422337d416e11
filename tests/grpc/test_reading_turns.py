"""Only so many messages are received at one time, and nobody is kept out by those that never end."""

from __future__ import annotations

import asyncio

import pytest
from grpc import aio

from cpuserve.errors import BodiesTooLarge, DeadlineExceeded, RequestError
from cpuserve.grpc.reading_turns import ReadingTurns


class Context:
    """A call whose message comes when ``there`` is set; counts the calls that are being read."""

    reading = 0

    def __init__(self, message=b"x"):
        self.there, self.message = asyncio.Event(), message

    async def read(self):
        Context.reading += 1
        try:
            await self.there.wait()
        finally:
            Context.reading -= 1
        return self.message


@pytest.fixture(autouse=True)
def nothing_is_read():
    yield
    assert Context.reading == 0


async def reader(turns, client="a", timeout_s=30.0):
    context = Context()
    task = asyncio.create_task(turns.read(context, client, timeout_s))
    await asyncio.sleep(0)
    return context, task


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def test_no_more_than_the_limit_are_read_and_those_that_wait_are_next():
    async def run():
        turns = ReadingTurns(2, 60)
        readers = [await reader(turns) for _ in range(5)]
        await settle()
        assert Context.reading == 2
        for context, task in readers:
            context.there.set()
            assert await task == b"x"
            await settle()
            assert Context.reading <= 2

    asyncio.run(run())


def test_a_message_that_takes_too_long_goes_while_others_wait_and_stays_while_none_does():
    async def run():
        turns = ReadingTurns(1, 0.05)
        _, first = await reader(turns)
        await asyncio.sleep(0.1)
        assert not first.done()
        quick, second = await reader(turns, "b")
        quick.there.set()
        assert await second == b"x"
        with pytest.raises(BodiesTooLarge, match="1 messages are received at one time"):
            await first

    asyncio.run(run())


def test_who_has_the_fewest_turns_is_next_and_who_has_the_most_gives_one():
    async def run():
        turns = ReadingTurns(3, 0.05)
        polite, kept = await reader(turns, "polite")
        crowd = [await reader(turns, "crowd") for _ in range(50)]
        quick, task = await reader(turns, "other")
        quick.there.set()
        assert await task == b"x"  # ahead of the 48 that came before it
        polite.there.set()
        assert await kept == b"x"
        assert sum(one.done() for _, one in crowd) < 10
        for _, one in crowd:
            one.cancel()
        await asyncio.gather(*(one for _, one in crowd), return_exceptions=True)
        again, task = await reader(turns)
        again.there.set()
        assert await task == b"x"

    asyncio.run(run())


def test_time_is_limited_with_a_turn_and_without():
    async def run():
        turns = ReadingTurns(1, 60)
        _, first = await reader(turns, timeout_s=0.05)
        _, second = await reader(turns, timeout_s=0.02)
        with pytest.raises(BodiesTooLarge):
            await second
        with pytest.raises(DeadlineExceeded, match="request_timeout_s"):
            await first

    asyncio.run(run())


def test_cancelled_calls_give_their_turn_back_whenever_they_are():
    async def run():
        turns = ReadingTurns(1, 60)
        _, first = await reader(turns)
        _, second = await reader(turns)
        third_context, third = await reader(turns)
        first.cancel()
        await asyncio.sleep(0)  # the second one has its turn by now, and does not know
        second.cancel()
        third_context.there.set()
        assert await third == b"x"
        assert turns._count == 0
        assert not turns._waiting

    asyncio.run(run())


def test_no_message_is_refused():
    async def run():
        context = Context(aio.EOF)
        context.there.set()
        with pytest.raises(RequestError, match="there is no message"):
            await ReadingTurns(1, 60).read(context, "a", 30)

    asyncio.run(run())
