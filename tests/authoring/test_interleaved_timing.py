"""Alternating: every call has its turn in every round, and ratios are of pairs."""

from __future__ import annotations

import pytest

from cpuserve.authoring.interleaved_timing import Timing, alternate, ratio


def test_calls_take_turns_and_every_other_round_is_reversed():
    order: list[str] = []
    rounds: list[int] = []
    times = alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=3,
        seconds=0,
        seen=rounds.append,
    )
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert rounds == [1, 2, 3]
    assert {name: len(timing.windows_ms) for name, timing in times.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_of_pairs():
    slow, fast = Timing((10.0, 40.0, 12.0)), Timing((5.0, 20.0, 4.0))
    assert (slow.median_ms, slow.noise) == (12.0, pytest.approx(2.5))
    assert ratio(slow, fast) == 2.0
