"""One stream too many ends an idle one, of the client that has most."""

from __future__ import annotations

import pytest

from cpuserve.errors import QueueFull
from cpuserve.grpc.open_streams import OpenStreams


class Streams:
    """Some streams, by name, of which the first letter is the client's."""

    def __init__(self, most):
        self._open = OpenStreams(most)
        self._ends = {}
        self.ended = []

    def add(self, *names, idle=True):
        for name in names:
            self._ends[name] = lambda name=name: self.ended.append(name)
            self._open.add(self._ends[name], name[0])
            if idle:
                self._open.idle(self._ends[name])

    def at_work(self, name):
        self._open.at_work(self._ends[name])

    def remove(self, name):
        self._open.remove(self._ends[name])


def test_the_one_idle_longest_makes_room():
    streams = Streams(3)
    streams.add("a1", "b1", "c1", "d1")
    assert streams.ended == ["a1"]
    streams.at_work("b1")
    streams.remove("d1")
    streams.add("e1", "f1")
    assert streams.ended == ["a1", "c1"]


def test_whoever_has_most_makes_room():
    streams = Streams(4)
    streams.add("a1", "b1", "b2", "b3", "b4", "b5")
    assert streams.ended == ["b1", "b2"]
    streams.add("a2", "a3")
    assert streams.ended == ["b1", "b2", "b3", "a1"]


def test_idle_streams_of_others_do_not_make_room_for_a_client_whose_own_are_at_work():
    streams = Streams(3)
    streams.add("a1")
    streams.add("b1", "b2", idle=False)
    with pytest.raises(QueueFull, match="3 streams are open in this worker"):
        streams.add("b3")
    assert not streams.ended
