"""Thresholds are the exact ones, candidates keep their budgets, and parts that do not help are left out."""

import dataclasses
import time

import numpy as np
import pytest

from cpuserve.video.cascade_choice import Choice, CopyTree, replay
from cpuserve.video.cascade_search import CAUTIONS, Caution, WindowRows, part_of, search
from cpuserve.video.exact_thresholds import ExactThresholds
from cpuserve.video.guarantee import Budgets
from tests.video.made_scores import made_table

BUDGETS = Budgets(0.1, 0.1)


def errors(table, choice, step=30):
    windows = WindowRows.of(table, step)
    found = windows.labels(replay(table, choice).labels)
    return (
        int(np.count_nonzero(windows.truth & ~found)),
        int(np.count_nonzero(~windows.truth & found)),
    )


@pytest.mark.parametrize("base", [Choice(), Choice(every=5), Choice(detector="global:10", delta=2.0)])
@pytest.mark.parametrize("allowed", [(0, 0), (2, 1), (5, 5)])
def test_thresholds_are_those_that_trying_all_scores_finds(base, allowed):
    table = made_table(1500, noise=0.25, seed=3)
    scores = table.specialised["small"]
    windows = WindowRows.of(table)
    exact = ExactThresholds(
        CopyTree.of(table, base),
        scores,
        np.asarray(table.label),
        windows.rows[windows.truth],
        windows.rows[~windows.truth],
    )
    low, high = exact.within(*allowed, shrink=1.0)

    def tried(low, high):
        return errors(table, dataclasses.replace(base, cnn="small", c_low=low, c_high=high))

    values = [*sorted({float(score) for score in scores}), 1.0]
    best = max((value for value in values if tried(value, 1.0)[0] <= allowed[0]), default=0.0)
    if tried(0.0, 1.0)[0] > allowed[0]:  # copies alone are wrong too often
        assert low == 0.0
        return
    if low < high:
        assert low == best
        above = [value for value in values if value >= low and tried(low, value)[1] <= allowed[1]]
        assert high == min(above, default=1.0)
    else:
        assert low <= best
        assert tried(low, high)[0] <= allowed[0]
        assert tried(low, high)[1] <= allowed[1]


def test_careful_thresholds_get_few_single_frames_wrong():
    """Runs of 20 frames are no positive window: windows alone would allow any threshold."""
    label = np.arange(1200) % 40 < 20
    table = made_table(label=label, noise=0.05)
    windows = WindowRows.of(table)
    assert not windows.truth.any()
    tree, scores = CopyTree.of(table, Choice()), table.specialised["small"]
    exact = ExactThresholds(tree, scores, label, windows.rows[windows.truth], windows.rows[~windows.truth])
    low, high = exact.within(0, 0, 0.5, (0.02, 0.02))
    assert np.mean(scores[~label] > high) <= 0.02
    assert np.mean(scores[label] < low) <= 0.02
    assert exact.within(0, 0, 0.5)[1] < high


def test_candidates_keep_their_budgets_and_come_cheapest_first():
    table = made_table(3000, noise=0.2)
    found = search(table, BUDGETS)
    assert len(found) > 50
    assert [one.cost_s for one in found] == sorted(one.cost_s for one in found)
    for one in [one for one in found if not one.choice.looks][::7]:
        assert (one.missed, one.invented) == errors(table, one.choice, step=1)
        share = CAUTIONS[one.caution].share
        assert one.missed <= share * BUDGETS.fn * one.positives
        assert one.invented <= share * BUDGETS.fp * one.negatives
        assert sum(one.shares) == pytest.approx(1)
    assert found[-1].cost_s > 10 * found[0].cost_s
    for caution, kinds in ((0, {(1, "all")}), (1, {(1, "all"), (2, "all"), (1, "nonref"), (2, "nonref")})):
        careful = [one.choice for one in found if one.caution == caution]
        assert {(one.every, one.which) for one in careful} <= kinds
        assert not any(one.packets for one in careful)


def test_a_detector_that_sees_nothing_and_a_cnn_that_guesses_are_of_no_use():
    table = made_table(6000, change=0.0)
    guessing = np.random.default_rng(0).random(6000).astype(np.float32)
    table = dataclasses.replace(table, specialised={"small": guessing}, packets=None)
    found = search(table, Budgets(0.01, 0.01), [Caution(0.0, 1.0, "no error")])
    cheapest = found[0]
    assert cheapest.shares[-1] > 0.04  # nothing but looking at fewer frames helps


def test_decoding_less_is_tried_only_where_it_is_cheaper():
    table = made_table(3000)
    assert {one.choice.which for one in search(table, BUDGETS)} == {"all", "nonref"}
    costs = {**table.costs, "decode:nonref": table.costs["decode:all"]}
    assert {one.choice.which for one in search(dataclasses.replace(table, costs=costs), BUDGETS)} == {"all"}


def test_packets_are_used_where_they_say_something():
    table = made_table(3000, noise=0.05)
    assert any(one.choice.packets for one in search(table, BUDGETS))
    silent = dataclasses.replace(table, packets=None)
    assert not any(one.choice.packets for one in search(silent, BUDGETS))


def test_without_a_window_of_a_kind_no_threshold_decides_it():
    table = made_table(label=np.zeros(3000, bool))
    assert all(one.choice.c_low == 0 or one.choice.cnn is None for one in search(table, BUDGETS))
    table = made_table(label=np.ones(3000, bool))
    assert all(one.choice.c_high == 1 or one.choice.cnn is None for one in search(table, BUDGETS))


def test_a_part_has_its_rows_alone_and_starts_a_segment():
    table = made_table(1000, choose=0.5)
    part = part_of(table, "test")
    assert part.number.tolist() == list(range(500, 1000))
    assert np.flatnonzero(part.first).tolist() == [0, 100, 400]
    assert {len(scores) for scores in part.differences.values()} == {500}
    assert len(part.packets) == 500


def test_windows_reach_over_no_gap_and_no_clip():
    table = made_table(200, choose=1.0)
    number = np.concatenate([np.arange(95), np.arange(105)])
    two = dataclasses.replace(table, number=number, video=np.repeat([0, 1], [95, 105]).astype(np.int16))
    windows = WindowRows.of(two)
    assert windows.rows[:, 0].tolist() == [0, 30, 60, 95, 125, 155]
    assert windows.stretch.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(WindowRows.of(part_of(table, "test")).rows) == 0
    overlapping = WindowRows.of(two, 10).rows[:, 0].tolist()
    assert overlapping == [0, 10, 20, 30, 40, 50, 60, *range(95, 171, 10)]


def test_windows_begin_where_those_of_a_whole_video_do_unless_the_stretch_is_too_short():
    number = np.concatenate([np.arange(5, 100), np.arange(314, 348), np.arange(352, 377)])
    table = dataclasses.replace(made_table(len(number), choose=1.0), number=number)
    assert number[WindowRows.of(table).rows[:, 0]].tolist() == [30, 60, 314]


def test_hundreds_of_candidates_on_100_000_frames_take_seconds():
    table = made_table(100_000, choose=1.0)
    began = time.process_time()
    found = search(table, Budgets(0.02, 0.02))
    assert len(found) > 300
    assert time.process_time() - began < 60  # about 3 s; a search that grows with the square takes hours
