"""FastestDet's and NanoDet's outputs by hand; real ones are in tests/e2e/test_detectors.py."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cpuserve.models.card import Card
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import TensorsOnly, postprocessor
from cpuserve.serving.preprocess import Resizer
from tests.serving.postprocess.rows import logit, ports, row

RESIZER = Resizer(64, 32)


def answer(card, *outputs):
    post = postprocessor(card, ports(*outputs), RESIZER)
    assert not isinstance(post, TensorsOnly), post
    return post.answer(row(*outputs), None, PictureSize(640, 320))["detections"]


def test_fastestdet_by_hand():
    raw = np.zeros((1, 5 + 3, 4, 8), np.float32)
    # objectness 0.81, box centred in the middle of cell (2, 5), half the input wide and a quarter high
    raw[0, :5, 2, 5] = 0.81, np.arctanh(0.5), np.arctanh(0.5), logit(0.5), logit(0.25)
    raw[0, 5:, 2, 5] = 0.1, 0.9, 0.0
    raw[0, :5, 2, 6] = raw[0, :5, 2, 5]  # its double in the next cell, worth less
    raw[0, 1, 2, 6] = np.arctanh(-0.4)
    raw[0, 6, 2, 6] = 0.8
    (found,) = answer(Card(model_type="fastestdet", labels=("a", "b", "c")), raw)
    assert (found["class_id"], found["label"]) == (1, "b")
    assert found["probability"] == pytest.approx(0.81**0.6 * 0.9**0.4, abs=1e-5)
    middle, size = (640 * 5.5 / 8, 320 * 2.5 / 4), (320, 80)
    assert found["box"] == [
        *(middle[i] - size[i] / 2 for i in range(2)),
        *(middle[i] + size[i] / 2 for i in range(2)),
    ]
    strict = Card(model_type="FastestDet", confidence_threshold=0.9)
    assert answer(strict, raw) == []


def nanodet(swapped=False):
    """Two levels, strides 16 and 32: a box in cell 5 of the first, 1.5 strides to the left, 0.5 else."""
    classes = [np.zeros((1, 8, 3), np.float32), np.zeros((1, 2, 3), np.float32)]
    boxes = [np.full((1, 8, 4 * 8), -50, np.float32), np.full((1, 2, 4 * 8), -50, np.float32)]
    classes[0][0, 5] = 0, 0.25, 0.75
    bins = boxes[0][0, 5].reshape(4, 8)
    bins[0, [1, 2]] = 7  # half and half: 1.5 is expected
    bins[1:, 0] = bins[1:, 1] = 7
    return [*boxes, *classes] if swapped else [*classes, *boxes]


@pytest.mark.parametrize("swapped", [False, True])
def test_nanodet_by_hand(swapped):
    (found,) = answer(Card(model_type="NanoDet", labels=("a", "b", "c")), *nanodet(swapped))
    assert (found["label"], found["probability"]) == ("c", 0.75)
    x, y = 1 * 16 + 7.5, 1 * 16 + 7.5  # the middle of cell 5: the second of the second row
    assert found["box"] == [(x - 24) * 10 if x > 24 else 0, (y - 8) * 10, (x + 8) * 10, (y + 8) * 10]
    if not swapped:
        assert answer(Card(model_type="NanoDet"), *nanodet()) == [{**found, "label": "2"}]


@pytest.mark.parametrize(
    ("kind", "outputs", "words"),
    [
        ("FastestDet", nanodet(), "one output .* this has"),
        ("FastestDet", [np.zeros((1, 5, 4, 8), np.float32)], "one output"),
        ("NanoDet", [np.zeros((1, 85, 4, 8), np.float32)], "two outputs a stride"),
        ("NanoDet", nanodet()[:3], "two outputs a stride"),
        ("NanoDet", [output[:, :7] for output in nanodet()], "two outputs a stride"),
        ("NanoDet", [nanodet()[0], nanodet()[2][:, :, :30]], r"4 \* bins"),
    ],
)
def test_other_outputs_are_named(kind, outputs, words):
    post = postprocessor(Card(model_type=kind), ports(*outputs), RESIZER)
    assert isinstance(post, TensorsOnly)
    assert re.search(words, post.reason)


def test_nanodet_with_another_number_of_labels_is_refused():
    post = postprocessor(Card(model_type="NanoDet", labels=("one", "two")), ports(*nanodet()), RESIZER)
    assert isinstance(post, TensorsOnly)
    assert "[N, cells, 2]" in post.reason
