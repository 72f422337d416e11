"""Each metric against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpuserve.authoring.average_precision import Detection, mean_average_precision
from cpuserve.authoring.labelled_pictures import Box
from cpuserve.authoring.metrics import (
    AccuracyMetric,
    Areas,
    CustomMetric,
    MeanAveragePrecision,
    MeanIou,
    Top1,
    load_function,
)
from cpuserve.errors import UsageError


def value(metric: AccuracyMetric, *pictures: list[np.ndarray]) -> float:
    return metric.value([metric.keep(outputs, index) for index, outputs in enumerate(pictures)])


def test_top1_takes_any_of_the_right_classes():
    metric = Top1([frozenset((1,)), frozenset((0, 2)), frozenset((2,))])
    rows = np.array([[0.1, 0.9, 0.0], [0.2, 0.1, 0.7], [0.5, 0.3, 0.2]])
    assert value(metric, *([row] for row in rows)) == pytest.approx(2 / 3)


def test_equal_scores_are_right_by_chance_only():
    metric = Top1([frozenset((0,)), frozenset((1,)), frozenset((0, 3))])
    for same in (np.zeros(4), np.ones(4)):
        assert value(metric, [same], [same], [same]) == pytest.approx((0.25 + 0.25 + 0.5) / 3)
    broken = [np.full(4, np.nan)]
    assert value(metric, broken, broken, broken) == 0


def test_miou_is_counted_over_all_pictures_and_skips_255():
    first = np.array([[0, 0], [1, 1]])
    second = np.array([[1, 1], [1, 1]])
    metric = MeanIou([np.array([[0, 1], [1, 255]], np.uint8), np.array([[1, 1], [1, 0]], np.uint8)])
    # class 0: found (0,0) (0,1) | there (0,0) and one of the second: 1 of 3; class 1: 1 + 3 of 5
    assert value(metric, [first], [second]) == pytest.approx((1 / 3 + 4 / 6) / 2)


def test_miou_of_scores_smaller_than_the_mask():
    scores = np.zeros((4, 4, 3), np.float32)
    scores[:, :2, 1] = 1  # left half class 1, right half class 0
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 1
    assert value(MeanIou([mask]), [scores]) == 1
    mask[:, 0] = 0  # not at the centre of a cell
    assert value(MeanIou([mask]), [scores]) == 1
    mask[:, :2] = 0
    assert value(MeanIou([mask]), [scores]) == pytest.approx((8 / 12 + 4 / 8) / 2)


def test_areas_are_those_of_the_worst_picture():
    metric = Areas()
    metric.learn([np.array([[0, 0, 0], [1, 1, 1]])])
    metric.learn([np.array([[0, 0, 0], [1, 1, 1]])])
    turned, grown = np.array([[0, 0, 1], [0, 1, 1]]), np.array([[0, 0, 1], [1, 1, 1]])
    assert value(metric, [turned], [grown]) == pytest.approx(1 - 1 / 6)
    assert value(metric, [turned], [turned]) == 1
    assert (metric.answers, metric.why_not()) == (4, "")


def test_an_inverted_mask_has_no_area_in_its_place():
    metric, mask = Areas(), np.array([[0, 0], [1, 1]])
    metric.learn([mask])
    assert value(metric, [1 - mask]) == 0.5
    assert value(metric, [mask]) == 1


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (Top1([frozenset((1,)), frozenset((0, 1))]), "all pictures have the same class"),
        (MeanIou([np.array([[4, 4, 255]], np.uint8)]), "all masks show one class only"),
        (MeanAveragePrecision([[], []], lambda *_: []), "the validation pictures have no boxes"),
    ],
)
def test_labels_that_one_answer_would_satisfy_judge_nothing(metric, reason):
    assert reason in metric.why_not()


def test_areas_of_one_class_judge_nothing():
    metric = Areas()
    metric.learn([np.zeros((4, 4), np.int64)])
    metric.learn([np.zeros((4, 4), np.int64)])
    assert "all pixels of all pictures the same class" in metric.why_not()


def one(score: float, x: float = 0, *, class_id: int = 0, width: float = 10) -> Detection:
    return Detection((x, 0, x + width, 10), class_id, score)


OBJECT = Box((0, 0, 10, 10), 0)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([one(0.9)], [OBJECT], 1.0),
        ([], [OBJECT], 0.0),
        ([one(0.9)], [], 0.0),
        ([one(0.9, class_id=1)], [OBJECT], 0.0),
        # IoU 0.8: right at 0.50 to 0.80, which are 7 of 10 thresholds
        ([one(0.9, width=8)], [OBJECT], 0.7),
        # a second box on the same object is wrong, but all recall was reached before it
        ([one(0.9), one(0.8)], [OBJECT], 1.0),
        # a wrong one with a higher score: precision 1/2 at every recall
        ([one(0.9, 50), one(0.8)], [OBJECT], 0.5),
        # one of two objects: precision 1 at recalls 0.00 to 0.50, which are 51 of 101
        ([one(0.9)], [OBJECT, Box((50, 0, 60, 10), 0)], 51 / 101),
        # what lies in a crowd counts neither way
        ([one(0.9), one(0.95, 22, width=5)], [OBJECT, Box((20, 0, 60, 10), 0, crowd=True)], 1.0),
    ],
)
def test_average_precision(found, truth, expected):
    assert mean_average_precision([(found, truth)]) == pytest.approx(expected)


def test_average_precision_ranks_over_all_pictures_and_means_over_classes():
    pictures = [
        ([one(0.9, 50)], []),
        ([one(0.8)], [OBJECT]),
        ([one(0.7, class_id=3)], [Box((0, 0, 10, 10), 3)]),
    ]
    assert mean_average_precision(pictures) == pytest.approx((0.5 + 1) / 2)
    metric = MeanAveragePrecision([truth for _, truth in pictures], lambda _, index: pictures[index][0])
    assert value(metric, [], [], []) == pytest.approx(0.75)


def test_a_function_of_the_users_gets_outputs_and_files(tmp_path, monkeypatch):
    (tmp_path / "own_metric.py").write_text(
        "def brightest(outputs, files):\n"
        "    best = sum(float(rows[0].max()) for rows in outputs)\n"
        "    return best + len([f for f in files if f.suffix == '.jpg'])\n"
        "def text(outputs, files):\n    return 'good'\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    files = [Path("a.jpg"), Path("b.png")]
    metric = CustomMetric("own_metric:brightest", load_function("own_metric:brightest"), files)
    assert (metric.name, value(metric, [np.array([1.0, 5.0])], [np.array([2.0])])) == (
        "own_metric:brightest",
        8.0,
    )
    with pytest.raises(UsageError, match=r"returned 'good'; it must return a finite number"):
        value(CustomMetric("own_metric:text", load_function("own_metric:text"), files), [np.zeros(1)])
    for name, words in {
        "own_metric:absent": "no attribute 'absent'",
        "no_such_module:f": "No module named",
        ":f": "MODULE:FUNCTION",
        "own_metric:number": "is int, not a function",
    }.items():
        with pytest.raises(UsageError, match=words):
            load_function(name)
