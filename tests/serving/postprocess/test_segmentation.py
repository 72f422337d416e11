"""Class areas and masks, whatever the resize did to the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpuserve.errors import RequestError
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess.segmentation import NOT_SEEN, Segmenter
from cpuserve.serving.preprocess import RESIZE_TYPES, Resizer

LABELS = ("background", "bird")


def test_ids_and_scores_of_either_layout_say_the_same():
    ids = np.array([[0, 1], [1, 1]])
    scores = np.eye(2, dtype=np.float32)[ids]
    answers = [
        Segmenter(LABELS, axis, Resizer(2, 2)).answer([output], None, PictureSize(9, 9))
        for axis, output in (
            (None, ids),
            (None, ids[..., None]),
            (-1, scores),
            (0, scores.transpose(2, 0, 1)),
        )
    ]
    assert answers[0]["classes"] == [
        {"class_id": 1, "label": "bird", "area": 0.75},
        {"class_id": 0, "label": "background", "area": 0.25},
    ]
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("frame", [PictureSize(200, 100), PictureSize(90, 240)])
@pytest.mark.parametrize("resize_type", RESIZE_TYPES)
def test_a_mask_lies_on_what_it_was_made_of(resize_type, frame, stride):
    """The picture is its own mask: what is white in it is class 1, and the padding another class."""
    picture = np.zeros((frame.height, frame.width, 3), np.uint8)
    picture[frame.height // 4 : frame.height // 2, frame.width // 5 :] = 255
    resizer = Resizer(80, 80, resize_type, pad_value=128)
    row = np.empty((80, 80, 3), np.uint8)
    resizer.into(row, picture)
    ids = cv2.resize(row[:, :, 0], (80 // stride, 80 // stride), interpolation=cv2.INTER_AREA)
    ids = (ids > 190).astype(np.int64) + 2 * ((ids > 64) & (ids <= 190))
    segmenter = Segmenter(LABELS, None, resizer)

    mask = segmenter.mask([ids], frame)
    assert mask.shape == (frame.height, frame.width)
    wanted = picture[:, :, 0] // 255
    seen = mask != NOT_SEEN
    assert seen.all() == (resize_type != "crop")
    assert np.mean(mask[seen] == wanted[seen]) > 0.95 - 0.02 * stride
    areas = {row["class_id"]: row["area"] for row in segmenter.answer([ids], None, frame)["classes"]}
    assert areas[1] == pytest.approx(wanted[seen].mean(), abs=0.03 * stride)


def test_what_cannot_be_is_refused():
    segmenter = Segmenter(LABELS, None, Resizer(2, 2))
    with pytest.raises(RequestError, match="class ids 0 to 300 do not fit"):
        segmenter.mask([np.array([[0, 300], [1, 2]])], PictureSize(4, 4))
    with pytest.raises(RequestError, match="topk is -1"):
        segmenter.answer([np.zeros((2, 2), np.int64)], -1, PictureSize(4, 4))
