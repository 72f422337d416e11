"""Looks at windows: they tell exactly which windows are positive, and ask no more than is needed."""

import dataclasses

import numpy as np
import pytest

from cpuserve.video.cascade_choice import Choice, DecidedBy, replay
from cpuserve.video.cascade_search import WindowRows, part_of, search
from cpuserve.video.guarantee import Budgets
from cpuserve.video.window_looks import LOOKS, WindowScores
from cpuserve.video.windows import window_labels
from tests.video.made_scores import made_table


def slowly(table, choice):
    """Labels and stages, one window and one frame after the other."""
    scores = table.specialised[choice.cnn] if choice.cnn else np.full(len(table), 0.5)
    label, segment = np.array(table.label), np.cumsum(table.first)
    stages, decided = np.zeros(len(table), int), {}
    seen = [row for row in range(len(table)) if table.number[row] % 30 in choice.looks]
    scopes = dict.fromkeys((table.video[row], table.number[row] // 30, segment[row]) for row in seen)
    for scope in scopes:
        rows = [row for row in seen if (table.video[row], table.number[row] // 30, segment[row]) == scope]
        no = [row for row in rows if choice.cnn and scores[row] < choice.c_low]
        yes = [row for row in rows if choice.cnn and scores[row] > choice.c_high]
        decided |= dict.fromkeys(no, False) | dict.fromkeys(yes, True)
        little = [row for row in rows if choice.cnn and scores[row] < choice.c_half]
        if len(little) >= len(choice.looks) // 2:
            no = sorted({*no, little[len(choice.looks) // 2 - 1]})
            decided |= dict.fromkeys(no, False)
        stages[no + yes] = DecidedBy.SPECIALISED
        denied = bool(no)
        left = [row for row in rows if row not in decided]
        for place, row in enumerate(sorted(left, key=lambda row: scores[row])):
            if denied:
                break
            if place < choice.most_asked:
                decided[row], stages[row] = bool(label[row]), DecidedBy.REFERENCE
                denied = not label[row]
            else:
                decided[row], stages[row] = True, DecidedBy.SPECIALISED
    labels, latest = [], False
    for row in range(len(table)):
        latest = False if row and table.video[row] != table.video[row - 1] else latest
        latest = decided.get(row, latest)
        labels.append(latest)
    return np.array(labels), stages


@pytest.mark.parametrize("looks", LOOKS, ids=len)
@pytest.mark.parametrize(
    ("cnn", "most", "half"),
    [(None, 30, 0), (None, 2, 0), ("small", 30, 0), ("small", 1, 0), ("small", 3, 0), ("small", 3, 0.6)],
)
def test_the_replay_is_that_of_one_frame_after_the_other(looks, cnn, most, half):
    table = made_table(1500, seed=3, segment=250)
    number = np.concatenate([np.arange(900), np.arange(600)])
    table = dataclasses.replace(table, number=number, video=np.repeat([0, 1], [900, 600]).astype(np.int16))
    choice = Choice(looks=looks, cnn=cnn, c_low=0.2, c_high=0.9, most_asked=most, c_half=half)
    found = replay(table, choice)
    labels, stages = slowly(table, choice)
    np.testing.assert_array_equal(found.stages, stages)
    np.testing.assert_array_equal(found.labels, labels)
    assert 0.2 < labels.mean() < 0.8
    assert found.share(DecidedBy.REFERENCE) < len(looks) / 30


@pytest.mark.parametrize("looks", LOOKS, ids=len)
def test_a_window_is_positive_exactly_when_all_its_looks_are(looks):
    label = np.random.default_rng(len(looks)).random(30_000) < 0.9
    table = made_table(label=label)
    found = replay(table, Choice(looks=looks))
    wanted = label.reshape(-1, 30)[:, list(looks)].all(axis=1)
    np.testing.assert_array_equal(window_labels(found.labels), wanted)


@pytest.mark.parametrize("allowed", [(0, 0), (4, 9)])
def test_thresholds_are_those_that_trying_all_scores_finds(allowed):
    table = made_table(700, seed=5, noise=0.12)
    windows, scores = WindowRows.of(table, 1), table.specialised["small"]
    seen = WindowScores(windows.rows, windows.truth, np.array(table.label), LOOKS[1], scores)
    low, high = seen.within(*allowed, 1.0)
    missed, invented, own, asked = seen.decided(low, high, 30)
    assert missed <= allowed[0]
    assert invented <= allowed[1]
    assert 0 < own < 3 / 30
    assert asked < 3 / 30 - own
    tried = [float(one) for one in np.unique(scores)]
    assert low < high
    assert low >= max(one for one in tried if seen.decided(one, 1.0, 30)[0] <= allowed[0])
    assert high <= min(one for one in tried if seen.decided(low, one, 30)[1] <= allowed[1])


@pytest.mark.parametrize("half", [0, 0.7])
@pytest.mark.parametrize("most", [1, 2, 30])
def test_windows_at_one_place_are_decided_as_the_replay_does(most, half):
    table = made_table(3000, seed=6, segment=3000)
    windows, scores = WindowRows.of(table), table.specialised["small"]
    choice = Choice(looks=LOOKS[3], cnn="small", c_low=0.1, c_high=0.9, most_asked=most, c_half=half)
    seen = WindowScores(windows.rows, windows.truth, np.array(table.label), choice.looks, scores)
    missed, invented, own, asked = seen.decided(0.1, 0.9, most, half)
    found = replay(table, choice)
    labels = windows.labels(found.labels)
    assert (missed, invented) == ((windows.truth & ~labels).sum(), (~windows.truth & labels).sum())
    assert own == pytest.approx(found.share(DecidedBy.SPECIALISED))
    assert asked == pytest.approx(found.share(DecidedBy.REFERENCE))


def test_careful_thresholds_get_few_single_frames_wrong():
    """One long run is all that windows tell of the object: they alone would allow any threshold below it."""
    label = np.arange(1200) % 40 < 20
    label[600:640] = True
    table = made_table(label=label, noise=0.05)
    windows, scores = WindowRows.of(table, 1), table.specialised["small"].copy()
    scores[600:640] = 0.99
    scores[10:600:40] = 0.1
    seen = WindowScores(windows.rows, windows.truth, label, LOOKS[1], scores)
    steady = label & np.isin(np.arange(1200) % 20, range(5, 15))
    low, high = seen.within(0, 0, 0.5, (0.02, 0.02))
    assert np.mean(scores[steady] < low) <= 0.02
    assert low < high
    assert low < seen.within(0, 0, 0.5)[0]


def doubtful_frames():
    """A network that is sure of windows but not of frames: some have as little as those of empty windows."""
    label = np.arange(3000) % 300 < 150
    table = made_table(label=label, noise=0.05)
    scores = np.where(label, 0.95, 0.4).astype(np.float32)
    scores[5:3000:300] = scores[100:3000:300] = 0.3
    return dataclasses.replace(table, specialised={"small": scores})


@pytest.mark.parametrize("shrink", [0.1, 0.5, 1.0])
def test_half_of_the_looks_tell_what_the_least_of_them_cannot(shrink):
    table = doubtful_frames()
    windows, scores, label = WindowRows.of(table, 1), table.specialised["small"], np.array(table.label)
    seen = WindowScores(windows.rows, windows.truth, label, LOOKS[3], scores)
    low, high = seen.within(0, 0, shrink)
    half = seen.half(shrink)
    assert low <= np.float32(0.3)
    assert 0.4 < half <= np.float32(0.95)
    alone, both = (seen.decided(low, high, 30, one) for one in (0.0, half))
    assert both[:2] == alone[:2] == (0, 0)
    assert both[3] < 0.75 * alone[3]
    typical, sure = np.log(0.4 / 0.6), np.log(0.95 / 0.05)
    assert np.log(half / (1 - half)) == pytest.approx(typical + shrink * (sure - typical), abs=1e-5)


def test_half_of_the_looks_tell_nothing_where_the_network_does_not_know_the_object():
    table = doubtful_frames()
    windows, label = WindowRows.of(table, 1), np.array(table.label)
    worse = np.where(label, 0.4, 0.6).astype(np.float32)
    for scores, truth in (
        (worse, windows.truth),
        (table.specialised["small"], windows.truth | True),
        (None, windows.truth),
    ):
        assert WindowScores(windows.rows, truth, label, LOOKS[3], scores).half(0.5) == 0


@pytest.mark.parametrize(("runs", "tolerated"), [(10, 0), (58, 0), (100, 1), (200, 4)])
def test_a_careful_threshold_is_above_every_frame_without_the_object_until_there_are_enough(runs, tolerated):
    label = np.arange(60 * runs) % 60 >= 30
    scores = np.where(label, 0.9, 0.1).astype(np.float32)
    peaks = np.linspace(0.99, 0.91, runs).astype(np.float32)
    scores[29 : 60 * runs : 60] = peaks  # the last frame before the object comes
    rows = np.arange(30)[None]
    seen = WindowScores(rows, np.array([False]), label, LOOKS[3], scores)
    assert seen.highest_without(Budgets(0.05, 0.05)) == peaks[tolerated]


def test_the_careful_cascade_is_sure_of_no_frame_without_the_object():
    table = made_table(3000, noise=0.1, choose=0.5)
    label, scores = np.array(table.label), table.specialised["small"].copy()
    last = np.flatnonzero(~label[:-1] & label[1:])  # where windows may forgive it
    scores[last[::4]] = 0.97
    table = dataclasses.replace(table, specialised={"small": scores})
    careful = [
        one
        for one in search(table, Budgets(0.02, 0.02))
        if one.caution <= 1 and one.choice.looks and one.choice.cnn
    ]
    assert careful
    assert all(scores[~label].max() <= one.choice.c_high for one in careful)


def test_a_window_looked_at_as_a_whole_is_the_cheapest_and_keeps_the_budgets_wherever_windows_begin():
    table = made_table(6000, noise=0.1, choose=0.5)
    choosing, proving = part_of(table, "choose"), part_of(table, "test")
    known = {name: cost for name, cost in choosing.costs.items() if not name.startswith("difference")}
    known |= {"decode:nonref": 0.0008, "decode:nonkey": 0.0008}
    choosing = dataclasses.replace(choosing, costs=known, packets=None)
    best = search(choosing, Budgets(0.02, 0.02))[0]
    assert best.choice.looks
    windows = WindowRows.of(proving)
    assert (windows.rows[:, 0] % 30 == 0).all()
    found = replay(proving, best.choice)
    assert np.mean(windows.labels(found.labels) != windows.truth) < 0.05
    assert best.missed <= 0.02 * best.positives
    careful = [one.choice for one in search(choosing, Budgets(0.02, 0.02)) if one.choice.looks]
    assert {len(one.looks) for one in careful} == {2, 3, 4, 6}


def test_windows_of_a_part_begin_where_those_of_the_whole_video_do():
    table = made_table(1000, choose=0.471)
    rows = WindowRows.of(part_of(table, "test")).rows
    assert rows[0, 0] == 9  # frame 480 is the tenth of those from 471 on
    assert len(rows) == (1000 - 480) // 30
