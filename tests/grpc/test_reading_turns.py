"""Only so many messages are received at one time, and nobody is kept out by those that never end."""

from __future__ import annotations

import math
import time

import pytest

from cpuserve.errors import BodiesTooLarge, DeadlineExceeded
from cpuserve.grpc import reading_turns as module
from cpuserve.grpc.reading_turns import ReadingTurns


class Message:
    """A call with a message; it is read until `come` or `give_up` is called."""

    def __init__(self, turns, client="a"):
        self.client, self.turns = client, turns
        self.since = self.due = 0.0
        self.reading = self.asked = False
        self.error = None
        turns.begin(self)

    @property
    def being_read(self):
        return self.asked and self.error is None

    def read(self):
        assert not self.asked
        self.asked = True

    def give_up(self, error):
        assert self.error is None
        self.error = error

    def come(self):
        assert self.being_read
        self.turns.end(self)


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is changed."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()
    assert time.monotonic() != now[0]


def test_no_more_than_the_limit_are_read_and_those_that_wait_are_next(clock):
    turns = ReadingTurns(2, 60, 30)
    messages = [Message(turns) for _ in range(5)]
    for number, message in enumerate(messages):
        assert [one.being_read for one in messages] == [other < number + 2 for other in range(5)]
        message.come()


def test_a_message_that_takes_too_long_goes_while_others_wait_and_stays_while_none_does(clock):
    turns = ReadingTurns(1, 1.0, 30)
    first = Message(turns)
    clock[0] += 5
    turns.look()
    assert first.being_read
    quick = Message(turns, "b")
    turns.look()
    assert isinstance(first.error, BodiesTooLarge)
    assert "1 messages are received at one time" in str(first.error)
    quick.come()
    turns.look()
    assert turns.due == math.inf


def test_a_message_has_its_time_also_while_others_wait(clock):
    turns = ReadingTurns(1, 1.0, 30)
    first, _ = Message(turns), Message(turns, "b")
    turns.look()
    assert first.being_read
    assert turns.due == 1001.0
    clock[0] = turns.due
    turns.look()
    assert first.error is not None


def test_who_has_the_fewest_turns_is_next_and_who_has_the_most_gives_one(clock):
    turns = ReadingTurns(3, 1.0, 30)
    polite = Message(turns, "polite")
    crowd = [Message(turns, "crowd") for _ in range(50)]
    quick = Message(turns, "other")
    clock[0] += 1.5
    turns.look()
    assert quick.being_read  # ahead of the 48 that came before it
    assert polite.being_read
    assert sum(one.error is not None for one in crowd) == 1
    polite.come()
    quick.come()
    again = Message(turns)
    while not again.being_read:
        clock[0] = turns.due
        turns.look()
    assert sum(one.error is not None for one in crowd) < 10


def test_time_is_limited_with_a_turn_and_without(clock):
    turns = ReadingTurns(1, 60, 10)
    first, second = Message(turns), Message(turns)
    clock[0] += 9.9
    turns.look()
    assert (first.error, second.error) == (None, None)
    clock[0] += 0.1
    third = Message(turns)
    turns.look()
    assert isinstance(first.error, DeadlineExceeded)
    assert "request_timeout_s" in str(first.error)
    # it was given the turn at that moment, and has no more time either
    assert isinstance(second.error, DeadlineExceeded)
    assert third.being_read


def test_calls_that_end_give_their_turn_back_whenever_they_do(clock):
    turns = ReadingTurns(1, 60, 30)
    first, second, third = (Message(turns) for _ in range(3))
    turns.end(second)  # while it waits
    turns.end(first)
    turns.end(first)
    assert not second.asked
    third.come()
    turns.look()
    assert turns.due == math.inf
    assert (turns._waiting, turns._turns) == ({}, {})
