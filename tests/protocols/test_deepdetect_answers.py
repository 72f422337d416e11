"""Every kind of answer in DeepDetect's words."""

from __future__ import annotations

import pytest

from cpuserve.protocols.deepdetect import _classes

CAT = {"class_id": 1, "label": "cat", "probability": 0.75}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"predictions": [CAT]}, {"cat": "cat", "prob": 0.75}),
        ({"multilabel": True, "predictions": [CAT]}, {"cat": "cat", "prob": 0.75}),
        ({"text": "cat", "probability": 0.75}, {"cat": "cat", "prob": 0.75}),
        ({"classes": [{"class_id": 1, "label": "cat", "area": 0.75}]}, {"cat": "cat", "prob": 0.75}),
        (
            {"detections": [CAT | {"box": [1, 2, 3, 4]}]},
            {"cat": "cat", "prob": 0.75, "bbox": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}},
        ),
    ],
)
def test_an_answer_is_classes(answer, found):
    assert _classes(answer, {}) == {"classes": [found | {"last": True}]}
    assert _classes(answer, {"confidence_threshold": 0.8}) == {"classes": []}
