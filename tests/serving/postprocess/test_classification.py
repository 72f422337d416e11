"""Answers from outputs of integers, as quantised models have them when nothing was done to the graph."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.protocols.v2_body import classified
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import Classifier


@pytest.mark.parametrize(("dtype", "values"), [("uint8", [0, 3, 2, 1]), ("int8", [-128, -125, -126, -127])])
def test_integers_are_ranked_by_their_value(dtype, values):
    scores = np.array(values, dtype)
    for softmax in (False, True):
        found = Classifier((), softmax=softmax, topk=4).answer([scores], None, PictureSize(1, 1))[
            "predictions"
        ]
        assert [entry["class_id"] for entry in found] == [1, 2, 3, 0]
    assert found[0]["probability"] == pytest.approx(0.643914)
    text = classified(scores[None], 4, ())
    assert [element.split(":")[1] for element in text[0]] == ["1", "2", "3", "0"]


def test_probabilities_have_six_digits_and_equals_come_by_their_number():
    scores = np.random.default_rng(5).random(5000).astype(np.float32) ** 5
    scores[[7, 3, 9]] = 1
    found = Classifier(["a"] * 10).answer([scores], 5000, PictureSize(1, 1))["predictions"]
    assert [entry["class_id"] for entry in found[:3]] == [3, 7, 9]
    assert Classifier(["a"] * 10).answer([scores], None, PictureSize(1, 1))["predictions"] == found[:5]
    for entry in found:
        assert entry["probability"] == round(float(scores[entry["class_id"]]), 6)
    assert [found[0]["label"], found[-1]["label"]] == ["a", str(found[-1]["class_id"])]


def test_scores_that_are_no_numbers_name_no_class_twice():
    scores = np.array([-np.inf, 2, -np.inf, np.nan, 1], np.float32)
    found = Classifier(()).answer([scores], None, PictureSize(1, 1))["predictions"]
    assert sorted(entry["class_id"] for entry in found) == [0, 1, 2, 3, 4]
