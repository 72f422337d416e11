"""The search for the largest number of streams, on machines that are made up."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from cpuserve.video.stream_search import find_most


@dataclass(frozen=True)
class Result:
    passed: bool
    busy: float


def machine(carries, share=None, flaky=()):
    """A machine that carries so many streams; a number in ``flaky`` first answers as said there."""
    spoiled = list(flaky)

    def trial(streams):
        assert streams >= 1
        busy = min(1.0, streams * (share if share is not None else 1 / max(1, carries)))
        for place, (number, passed) in enumerate(spoiled):
            if number == streams:
                del spoiled[place]
                return Result(passed, busy)
        return Result(streams <= carries, busy)

    return trial


@pytest.mark.parametrize("carries", [0, 1, 2, 3, 7, 8, 9, 40, 99, 100, 500])
@pytest.mark.parametrize("share", [None, 0.0, 0.001, 1.0])
def test_the_bound_is_found_and_confirmed_on_both_sides(carries, share):
    found = find_most(machine(carries, share), 100)
    assert found.streams == min(carries, 100)
    assert found.bounded == (carries < 100)
    counts = [count for count, _ in found.trials]
    if found.streams:
        assert counts.count(found.streams) == 2
        assert found.last(found.streams).passed
    if found.bounded:
        assert counts.count(found.streams + 1) == 2
        assert not found.last(found.streams + 1).passed
    assert max(counts) <= 100
    assert len(counts) <= 22


def test_a_good_guess_saves_trials():
    assert len(find_most(machine(60), 1000).trials) < len(find_most(machine(60, 1.0), 1000).trials)


@pytest.mark.parametrize("flaky", [*itertools.product([True, False], repeat=3)])
def test_one_trial_that_was_disturbed_changes_nothing(flaky):
    """A number near the bound answers once otherwise than it does."""
    for number, passed in ((10, flaky[0]), (11, flaky[1]), (9, flaky[2])):
        found = find_most(machine(10, flaky=[(number, passed)]), 100)
        assert found.streams == 10
        assert found.last(10).passed
        assert not found.last(11).passed


def test_without_a_trial_there_is_no_result():
    found = find_most(machine(3), 10)
    assert found.last(9) is None
