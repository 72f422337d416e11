"""Mean average precision is the number that COCO's own evaluation gives."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cpuserve.authoring.average_precision import Detection, mean_average_precision
from cpuserve.authoring.labelled_pictures import Box

Pictures = Sequence[tuple[Sequence[Detection], Sequence[Box]]]


def as_coco(number: int, one: Detection | Box) -> dict[str, Any]:
    x1, y1, x2, y2 = one.corners
    sides = [x1, y1, x2 - x1, y2 - y1]
    return {"image_id": number, "category_id": one.class_id, "bbox": sides, "area": sides[2] * sides[3]}


def reference(pictures: Pictures) -> float:
    """What pycocotools says, which is -1 where there is no object."""
    truth, found = COCO(), COCO()
    boxes = [(number, box) for number, (_, there) in enumerate(pictures, 1) for box in there]
    detections = [(number, one) for number, (ours, _) in enumerate(pictures, 1) for one in ours]
    classes = {box.class_id for _, box in boxes} | {one.class_id for _, one in detections}
    common = {
        "images": [{"id": number} for number in range(1, len(pictures) + 1)],
        "categories": [{"id": class_id} for class_id in sorted(classes)],
    }
    annotations = [
        as_coco(number, box) | {"id": index, "iscrowd": int(box.crowd)}
        for index, (number, box) in enumerate(boxes, 1)
    ]
    results = [
        as_coco(number, one) | {"id": index, "iscrowd": 0, "score": one.score}
        for index, (number, one) in enumerate(detections, 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for coco, rows in ((truth, annotations), (found, results)):
            coco.dataset = {**common, "annotations": rows}
            coco.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def four(corners: Any) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, corners)
    return x1, y1, x2, y2


def random_pictures(seed: int, *, most: int = 12, crowds: float = 0.15) -> Pictures:
    """Objects of three classes, detections near them with few different scores, and stray ones."""
    dice = np.random.default_rng(seed)

    def corners() -> Any:
        side = dice.choice([6, 25, 80, 300], 2) * dice.uniform(0.7, 1, 2)
        start = dice.uniform(0, 400, 2)
        return np.concatenate([start, start + side]).round()

    pictures = []
    for _ in range(8):
        truth, found = [], []
        for _ in range(dice.integers(0, most)):
            place, class_id = corners(), int(dice.integers(3))
            truth.append(Box(four(place), class_id, crowd=bool(dice.random() < crowds)))
            for _ in range(dice.integers(0, 3)):
                side = np.tile(place[2:] - place[:2], 2)
                moved = (place + dice.normal(0, 0.08, 4) * side).round()
                moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
                said = class_id if dice.random() < 0.9 else int(dice.integers(3))
                found.append(Detection(four(moved), said, float(dice.integers(1, 9)) / 8))
        for _ in range(dice.integers(0, 6)):
            found.append(Detection(four(corners()), int(dice.integers(3)), float(dice.random())))
        pictures.append((found, truth))
    return pictures


@pytest.mark.parametrize("seed", range(20))
def test_random_boxes(seed):
    pictures = random_pictures(seed)
    expected = reference(pictures)
    assert 0.1 < expected < 0.95
    assert mean_average_precision(pictures) == pytest.approx(expected, abs=1e-12)


def test_only_the_best_hundred_of_a_class_in_a_picture_count():
    pictures = random_pictures(1, most=200, crowds=0)
    assert max(len(found) for found, _ in pictures) > 150
    assert mean_average_precision(pictures) == pytest.approx(reference(pictures), abs=1e-12)


def test_a_hundred_boxes_of_one_class_leave_those_of_another():
    stray = [Detection((0, float(y), 5, y + 5.0), 1, 0.9) for y in range(120)]
    pictures = [
        ([*stray, Detection((0, 0, 10, 10), 0, 0.5)], [Box((0, 0, 10, 10), 0), Box((90, 90, 99, 99), 1)])
    ]
    assert reference(pictures) == pytest.approx(0.5)
    assert mean_average_precision(pictures) == pytest.approx(0.5)


def test_boxes_that_overlap_a_detection_equally():
    """The same IoU with two objects: which of them is taken decides what is left for the next detection."""
    truth = [Box((0, 0, 10, 10), 0), Box((4, 0, 14, 10), 0)]
    for second in ((0, 0, 10, 10), (4, 0, 14, 10)):
        found = [Detection((2, 0, 12, 10), 0, 0.9), Detection(four(second), 0, 0.8)]
        assert mean_average_precision([(found, truth)]) == pytest.approx(reference([(found, truth)]))


def test_pictures_without_objects_or_with_crowds_only():
    crowd = [Box((0, 0, 50, 50), 0, crowd=True)]
    pictures = [([Detection((0, 0, 9, 9), 0, 0.9)], crowd), ([], [])]
    assert reference(pictures) == -1
    assert mean_average_precision(pictures) == 0


def test_the_answers_of_one_detector_held_against_those_of_another(expected):
    """Real boxes of real photos: one network's are the truth, the other's the detections."""
    answers = expected["detect"]
    names = sorted(
        {box[0] for photos in answers.values() for said in photos.values() for box in said["boxes"]}
    )

    def boxes(model: str, photo: str) -> list[Any]:
        return [
            (four(corners), names.index(name), score)
            for name, score, corners in answers[model][photo]["boxes"]
        ]

    for ours, theirs in (
        ("yolox_nano_416.onnx", "nanodet_m_416.onnx"),
        ("FastestDet.onnx", "yolox_nano_416.onnx"),
    ):
        photos = sorted(answers[ours].keys() & answers[theirs].keys())
        pictures = [
            ([Detection(*box) for box in boxes(ours, p)], [Box(*box[:2]) for box in boxes(theirs, p)])
            for p in photos
        ]
        found = mean_average_precision(pictures)
        assert 0.1 < found < 0.95
        assert found == pytest.approx(reference(pictures), abs=1e-12)
