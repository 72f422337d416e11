"""What is promised was proven on other time; what cannot be is refused with the minutes that are missing."""

import dataclasses
import math

import numpy as np
import pytest

from cpuserve.errors import UsageError
from cpuserve.video.cascade_choice import DecidedBy, replay
from cpuserve.video.cascade_search import WindowRows, part_of
from cpuserve.video.chosen_cascade import choose_cascade, plan_parts
from cpuserve.video.guarantee import Budgets
from tests.video.made_scores import made_table, run_lengths

BUDGETS = Budgets(0.05, 0.05)


def test_a_long_labelled_time_gives_a_promise_and_a_cheap_cascade():
    label = run_lengths(np.random.default_rng(0), 100_000, mean=60)
    table = made_table(label=label, noise=0.05, change=6.0)
    found = choose_cascade(table, Budgets(0.1, 0.1))
    promise = found.promise
    assert promise.promised
    assert promise.more_minutes == 0
    assert found.speed_up > 5
    assert found.sampled_s <= found.reference_s
    assert promise.fn.bound <= 0.1 >= promise.fp.bound
    assert promise.words[0].startswith("Promised with confidence 95%: missed at most ")
    costs = [step.candidate.cost_s for step in promise.steps]
    assert costs == sorted(costs, reverse=True)
    assert [step.kept for step in promise.steps[:-1]] == [True] * (len(costs) - 1)
    proving = part_of(table, "test")
    windows = WindowRows.of(proving)
    labels = windows.labels(replay(proving, found.choice).labels)
    assert promise.fn.wrong == np.count_nonzero(windows.truth & ~labels)
    assert promise.fn.windows == np.count_nonzero(windows.truth)
    assert found.shares[DecidedBy.REFERENCE] < 0.1


def test_too_few_changes_are_refused_with_minutes_that_are_then_enough():
    def promised(frames):
        lengths = np.random.default_rng(0).integers(60, 240, frames // 60)
        label = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[:frames]
        return choose_cascade(made_table(label=label, noise=0.02, change=30.0), BUDGETS).promise

    refused = promised(6000)
    assert not refused.promised
    assert 0 < refused.more_minutes < 60
    assert refused.words[0].startswith("Nothing is promised")
    assert refused.words[-1].startswith("Label ")
    assert "more minutes" in refused.words[-1]
    assert promised(6000 + int(1.25 * refused.more_minutes * 60 * 30)).promised
    assert not promised(6000 + int(0.4 * refused.more_minutes * 60 * 30)).promised


def test_errors_that_are_too_many_are_helped_by_no_length():
    table = made_table(30_000, noise=0.01, change=30.0)
    flipped = np.array(table.specialised["small"])
    proving = table.part == 2
    wrong = proving & (np.arange(len(table)) // 300 % 3 == 0)
    flipped[wrong] = 1 - flipped[wrong]
    only = dataclasses.replace(table, specialised={"small": flipped}, differences={}, packets=None)
    only = dataclasses.replace(only, costs={k: v for k, v in table.costs.items() if "difference" not in k})
    promise = choose_cascade(only, BUDGETS).promise
    assert not promise.promised
    assert math.isinf(promise.more_minutes)
    assert "longer labelling will not help" in promise.words[-1]


def test_windows_of_one_long_run_are_no_more_than_one_event():
    """A car that is parked for 40 windows is missed in all of them, or in none."""
    label = np.tile(np.repeat([False, True], 1200), 24)
    promise = choose_cascade(made_table(label=label, noise=0.01, change=30.0), Budgets(0.1, 0.1)).promise
    assert not promise.promised
    for bound in (promise.fn, promise.fp):
        assert (bound.longest, bound.events, bound.windows) == (40, 12, 480)
        assert 0.2 < bound.bound < 0.3
    # 30 runs of each label are enough for a tenth: those that are labelled in addition are divided alike
    assert 24 < promise.more_minutes < 60


def test_one_error_of_a_few_windows_is_no_verdict():
    table = made_table(2400, noise=0.01, change=30.0, seed=5)
    flipped = np.array(table.specialised["small"])
    row = 1200 + int(np.flatnonzero(~table.label[1200:])[0])
    flipped[row : row + 60] = 1.0
    only = dataclasses.replace(table, specialised={"small": flipped}, differences={}, packets=None)
    only = dataclasses.replace(only, costs={k: v for k, v in table.costs.items() if "difference" not in k})
    promise = choose_cascade(only, BUDGETS).promise
    assert promise.fp.wrong > 0.05 * promise.fp.windows
    assert 0 < promise.more_minutes < math.inf
    assert "if at most half of each budget is wrong" in promise.words[-1]


def test_a_time_without_the_object_promises_nothing():
    promise = choose_cascade(made_table(label=np.zeros(9000, bool)), BUDGETS).promise
    assert not promise.promised
    assert promise.words[-1] == "No window with the object was seen: label a time that has some."
    assert promise.counts["test"].positive_events == 0
    assert promise.fn.bound == pytest.approx(1)


def test_frames_without_label_are_refused():
    table = made_table(3000)
    labelled = table.labelled.copy()
    labelled[10:15] = False
    with pytest.raises(UsageError, match="5 frames of the part choose have no label"):
        choose_cascade(dataclasses.replace(table, labelled=labelled), BUDGETS)


def test_a_part_shorter_than_a_window_is_refused():
    with pytest.raises(UsageError, match="the part test has 20 frames in a row, less than a window of 30"):
        choose_cascade(made_table(200, choose=0.9), BUDGETS)


@pytest.mark.parametrize("early", [False, True])
def test_parts_lie_between_their_shares_of_changes_and_of_frames(early):
    quiet, busy = np.zeros(5000, bool), np.tile(np.repeat([True, False], 50), 20)
    label = np.concatenate([busy, quiet] if early else [quiet, busy])
    part = plan_parts(label, (0.4, 0.2, 0.4))
    assert np.all(np.diff(part.astype(int)) >= 0)
    changed = np.flatnonzero(label[1:] != label[:-1]) + 1
    first, _, last = np.bincount(part[changed], minlength=3)
    assert first >= 8  # half of its share of the 40 changes
    assert last >= 8
    frames = np.bincount(part)
    assert frames[0] > 0.1 * len(label)
    borders = np.flatnonzero(np.diff(part.astype(int))) + 1
    assert not set(borders) & set(changed)


def test_parts_without_changes_have_their_share_of_the_frames():
    assert np.bincount(plan_parts(np.zeros(1000, bool), (0.5, 0.25, 0.25))).tolist() == [500, 250, 250]
