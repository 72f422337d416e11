"""Searches for the largest number of streams that works, and confirms it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = ["StreamBound", "StreamResult", "find_most"]

_FULL = 0.95  # share of the CPUs that is aimed at
_GROWTH = 8  # most, from one trial to the next
_AGREE = 2  # trials that settle a number of streams


class StreamResult(Protocol):
    """What a trial of some streams found."""

    @property
    def passed(self) -> bool:
        """Whether all frames were answered in time."""

    @property
    def busy(self) -> float:
        """Share of the CPUs that the streams used, 0..1."""


_Result = TypeVar("_Result", bound=StreamResult)


@dataclass
class StreamBound(Generic[_Result]):
    """The largest number of streams that works.

    Attributes:
        streams: it; 0 where not even one works.
        trials: all trials, in their order, with the number of streams.
        bounded: whether one stream more was shown not to work; else the search ended at its limit.
    """

    streams: int = 0
    trials: list[tuple[int, _Result]] = field(default_factory=list)
    bounded: bool = True

    def last(self, streams: int) -> _Result | None:
        """The latest trial with so many streams, of those that agree with the bound."""
        wanted = streams <= self.streams
        agreeing = (result for count, result in self.trials if count == streams and result.passed == wanted)
        return next(reversed([*agreeing]), None)


def find_most(trial: Callable[[int], _Result], most: int) -> StreamBound[_Result]:
    """Find the largest number of streams that works, by halving what is left.

    The first trials aim at where the CPUs would be full, by what the streams before used. Then the number
    that was found and one more are tried again; where two trials of a number disagree, a third decides.

    Args:
        trial: runs so many streams.
        most: where to end the search.
    """
    found: StreamBound[_Result] = StreamBound()

    def run(streams: int) -> _Result:
        result = trial(streams)
        found.trials.append((streams, result))
        return result

    def works(streams: int) -> bool:
        passed = [result.passed for count, result in found.trials if count == streams]
        while max(passed.count(True), passed.count(False)) < _AGREE:
            passed.append(run(streams).passed)
        return passed.count(True) >= _AGREE

    low, high, streams = 0, most + 1, 1
    while high - low > 1:
        result = run(streams)
        if result.passed:
            low = streams
        else:
            high = streams
        if high <= most:
            streams = (low + high) // 2
        else:
            full = int(low * _FULL / max(result.busy, 1e-3))
            streams = min(max(full, low + 1 + low // 2), low * _GROWTH, most)
    while low and not works(low):
        low -= 1
    while low < most and works(low + 1):
        low += 1
    found.streams, found.bounded = low, low < most
    return found
