"""Answers from outputs of integers, as quantised models have them when nothing was done to the graph."""

from __future__ import annotations

import numpy as np
import pytest

from cpuserve.serving.feed import Frame
from cpuserve.serving.postprocess import Classifier
from cpuserve.web.wire import classified


@pytest.mark.parametrize(("dtype", "values"), [("uint8", [0, 3, 2, 1]), ("int8", [-128, -125, -126, -127])])
def test_integers_are_ranked_by_their_value(dtype, values):
    scores = np.array(values, dtype)
    for softmax in (False, True):
        found = Classifier((), softmax=softmax, topk=4).answer([scores], None, Frame(1, 1))["predictions"]
        assert [entry["class_id"] for entry in found] == [1, 2, 3, 0]
    assert found[0]["probability"] == pytest.approx(0.643914)
    text = classified(scores[None], 4, ())
    assert [element.split(":")[1] for element in text[0]] == ["1", "2", "3", "0"]
