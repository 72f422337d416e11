"""The guard refuses models that answer otherwise, whatever their raw outputs look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.accuracy_guard import Measured, Verdict, drop_interval, judge, why_not_validated
from cpuserve.authoring.metrics import AccuracyMetric, CustomMetric, MeanAveragePrecision, Top1
from cpuserve.authoring.nncf_quantizer import QuantizeOptions
from cpuserve.authoring.quantize import QuantizeOrder, QuantizeReport, quantize
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.answer_agreement import AnswerAgreement, AnswerReader, ServedAnswers, VectorReader
from cpuserve.serving.engine import Port
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import Classifier, Detector, Keypoints, Segmenter, TensorsOnly
from cpuserve.serving.postprocess.heads import FastestDet
from cpuserve.serving.postprocess.keypoints import Points
from cpuserve.serving.preprocess import Resizer
from cpuserve.serving.request import Request
from cpuserve.settings import Settings

Array = npt.NDArray[Any]
PICTURES = 40
FRAMES = [PictureSize(64, 64)] * PICTURES
RESIZER = Resizer(64, 64, "standard", "LINEAR", 0)
RANDOM = np.random.default_rng(3)


def verdict(
    reader: AnswerReader, before: Sequence[Array], after: Sequence[Array], max_drop: float = 0.05
) -> Verdict:
    metric = AnswerAgreement(reader)
    for output in before:
        metric.learn([output])
    mine, theirs = measured(metric, before), measured(metric, after)
    assert why_not_validated(metric, mine.value, max_drop) == ""
    return judge(metric, mine, theirs, max_drop, ("zero", "one", "two", "three"))


def measured(metric: AccuracyMetric, outputs: Sequence[Array]) -> Measured:
    kept = [metric.keep([output], index) for index, output in enumerate(outputs)]
    return Measured(kept, metric.value(kept))


def row(values: Sequence[float] | Array) -> Array:
    return np.array(values, np.float32)


def each(change: Callable[[Array], Array]) -> Callable[[Sequence[Array]], list[Array]]:
    return lambda outputs: [change(output.copy()) for output in outputs]


BROKEN = {
    "zeros": each(np.zeros_like),
    "ones": each(np.ones_like),
    "nan": each(lambda output: np.full_like(output, np.nan)),
    "infinite": each(lambda output: np.full_like(output, np.inf)),
    "constant": lambda outputs: [outputs[0]] * len(outputs),
    "another picture's": lambda outputs: [*outputs[1:], outputs[0]],
    "negative": each(lambda output: -output),
}


def scores() -> list[Array]:
    """Logits of four classes; each is the best in turn."""
    found = RANDOM.normal(size=(PICTURES, 4)).astype(np.float32)
    found[np.arange(PICTURES), np.arange(PICTURES) % 4] += 4
    return list(found)


def classes() -> ServedAnswers:
    return ServedAnswers(Classifier(("zero", "one", "two", "three"), softmax=True), FRAMES)


@pytest.mark.parametrize("how", [*BROKEN, "reversed", "lost"])
def test_a_classifier_that_answers_otherwise_is_refused(how):
    def lost(outputs: Sequence[Array]) -> list[Array]:
        return [output - row([0, 0, 0, 30]) for output in outputs]

    broken = BROKEN | {"reversed": each(lambda output: output[::-1]), "lost": lost}
    float_scores = scores()
    assert not verdict(classes(), float_scores, broken[how](float_scores)).accepted


def test_a_classifier_that_wavers_where_the_float_model_does_is_accepted():
    float_scores = scores()
    noisy = [output + RANDOM.normal(size=4).astype(np.float32) * 0.1 for output in float_scores]
    found = verdict(classes(), float_scores, noisy)
    assert found.accepted
    assert (found.evidence.compared_with, found.evidence.answers) == ("the float model's own classes", 40)
    assert "40 pictures do not prove it: the drop may be up to 0.0" in found.reason


def test_a_rare_class_that_is_lost_is_seen():
    """95 in 100 pictures are of class 0: a model that always says so is right on them."""
    float_scores = [row([5, 0]) for _ in range(95)] + [row([0, 5]) for _ in range(5)]
    reader = ServedAnswers(Classifier(("zero", "one"), softmax=True), [PictureSize(64, 64)] * 100)
    found = verdict(reader, float_scores, [row([5, 0])] * 100, max_drop=0.1)
    assert not found.accepted
    assert "of 'one', only 0% agrees" in found.reason


def detector() -> ServedAnswers:
    port = Port(("out",), np.dtype(np.float32), (9, 8, 8))
    return ServedAnswers(Detector(FastestDet([port], 64, 64, confidence=0.5, iou=0.5), (), RESIZER), FRAMES)


def found_boxes() -> list[Array]:
    """One or two boxes of a quarter of the picture, in other cells and of other classes each time."""
    outputs = []
    for index in range(PICTURES):
        output = np.zeros((9, 8, 8), np.float32)
        output[3:5] = -1.1
        for cell in range(1 + index % 2):
            row, column = (index + 4 * cell) % 8, (3 * index + cell) % 8
            output[0, row, column] = 0.9
            output[5 + (index + cell) % 4, row, column] = 0.8
        outputs.append(output)
    return outputs


@pytest.mark.parametrize("how", [*BROKEN, "reversed", "shifted", "faint", "certain", "doubled"])
def test_a_detector_that_answers_otherwise_is_refused(how):
    def shifted(output: Array) -> Array:
        output[1:3] += 0.97  # by most of a cell of 8 pixels, in boxes of 16
        return output

    def reversed_classes(output: Array) -> Array:
        output[5:] = output[5:][::-1].copy()
        return output

    def scaled(output: Array, by: float) -> Array:
        output[[0, 5, 6, 7, 8]] *= by
        return output

    def certain(output: Array) -> Array:
        output[5] = output[0] = 1
        return output

    def doubled(output: Array) -> Array:
        return np.maximum(output, np.roll(output, 4, axis=1))

    broken = BROKEN | {
        "reversed": each(reversed_classes),
        "shifted": each(shifted),
        "faint": each(lambda output: scaled(output, 0.5)),
        "certain": each(certain),
        "doubled": each(doubled),
    }
    float_boxes = found_boxes()
    assert not verdict(detector(), float_boxes, broken[how](float_boxes)).accepted


def test_a_detector_that_moves_a_little_is_accepted():
    float_boxes = found_boxes()
    near = [output * np.float32(1.02) + np.float32(0.002) for output in float_boxes]
    found = verdict(detector(), float_boxes, near)
    assert found.accepted
    assert (found.evidence.answers, found.evidence.missed, found.evidence.invented) == (60, 0, 0)


def class_scores() -> list[Array]:
    """Scores of three classes by pixel: a large background, a middling class 1, a small class 2."""
    outputs = []
    for index in range(PICTURES):
        output = np.zeros((3, 64, 64), np.float32)
        output[0] = 1
        output[1, 8 : 24 + index % 8, 8:24] = 2
        output[2, 40:52, 40 : 52 - index % 4] = 2
        outputs.append(output)
    return outputs


ALIKE = {"constant", "another picture's"}  # the masks of all pictures are nearly the same


def masks() -> ServedAnswers:
    return ServedAnswers(Segmenter((), 0, RESIZER), FRAMES)


@pytest.mark.parametrize("how", [*sorted(BROKEN.keys() - ALIKE), "reversed", "swamped", "all but the last"])
def test_a_segmentation_that_answers_otherwise_is_refused(how):
    def without(output: Array, *gone: int) -> Array:
        output[list(gone)] = -1
        return output

    broken = BROKEN | {
        "reversed": each(lambda output: output[::-1]),
        "swamped": each(lambda output: without(output, 1, 2)),
        "all but the last": each(lambda output: without(output, 2)),
    }
    float_scores = class_scores()
    assert not verdict(masks(), float_scores, broken[how](float_scores), max_drop=0.3).accepted


def test_an_inverted_mask_is_refused_and_a_blurred_edge_is_not():
    float_ids = [output.argmax(0) > 0 for output in class_scores()]
    ids = [found.astype(np.int64) for found in float_ids]
    reader = ServedAnswers(Segmenter((), None, RESIZER), FRAMES)
    assert not verdict(reader, ids, [1 - found for found in ids], max_drop=0.5).accepted
    edge = [np.maximum(found, np.roll(found, 1, axis=0)) for found in ids]
    assert verdict(reader, ids, edge, max_drop=0.1).accepted


def keypoints() -> ServedAnswers:
    def head(outputs: Sequence[Array]) -> Points:
        return Points(outputs[0][:, :2], outputs[0][:, 2])

    return ServedAnswers(Keypoints(head, (), RESIZER), FRAMES)


def points() -> list[Array]:
    outputs = []
    for index in range(PICTURES):
        places = RANDOM.uniform(5, 59, (6, 2)) + index % 3
        outputs.append(np.concatenate([places, np.full((6, 1), 0.9)], axis=1).astype(np.float32))
    return outputs


@pytest.mark.parametrize("how", [*BROKEN, "swapped", "left and right", "shifted", "unsure"])
def test_keypoints_elsewhere_are_refused(how):
    def left_and_right(output: Array) -> Array:
        return output[[0, 2, 1, 3, 4, 5]]

    broken = BROKEN | {
        "swapped": each(lambda output: output[::-1]),
        "left and right": each(left_and_right),
        "shifted": each(lambda output: output + row([12, 12, 0])),
        "unsure": each(lambda output: output * row([1, 1, 0.1])),
    }
    float_points = points()
    assert not verdict(keypoints(), float_points, broken[how](float_points)).accepted


def test_keypoints_that_move_a_little_are_accepted():
    float_points = points()
    near = [output + row([0.4, -0.4, 0]) for output in float_points]
    assert verdict(keypoints(), float_points, near).accepted


def embeddings() -> list[Array]:
    """Vectors that share far more than they differ by, as those of many networks do."""
    return list((3 + RANDOM.normal(size=(PICTURES, 32))).astype(np.float32))


@pytest.mark.parametrize("how", [*BROKEN, "collapsed"])
def test_embeddings_that_tell_pictures_apart_otherwise_are_refused(how):
    def collapsed(outputs: Sequence[Array]) -> list[Array]:
        return [np.asarray(np.mean(outputs, axis=0, dtype=np.float32))] * len(outputs)

    float_vectors = embeddings()
    broken = (BROKEN | {"collapsed": collapsed})[how](float_vectors)
    assert not verdict(VectorReader(), float_vectors, broken).accepted


def test_embeddings_of_another_length_are_accepted():
    float_vectors = embeddings()
    near = [2 * vector + RANDOM.normal(size=32).astype(np.float32) * 0.1 for vector in float_vectors]
    assert verdict(VectorReader(), float_vectors, near).accepted


@pytest.mark.parametrize(
    ("reader", "outputs", "reason"),
    [
        (ServedAnswers(TensorsOnly("it is a table"), FRAMES), [np.ones(4, np.float32)] * 3, "tensors only"),
        (detector(), [np.zeros((9, 8, 8), np.float32)] * 3, "gives no boxes on the 3 pictures"),
        (classes(), [row([4, 0, 0, 0])] * 3, "gives the same classes on all 3 pictures"),
        (classes(), [np.zeros(4, np.float32)] * 3, "gives no classes"),
        (classes(), [np.full(4, np.nan, np.float32)] * 3, "gives no answers"),
        (masks(), [np.zeros((3, 64, 64), np.float32)] * 3, "gives the same masks"),
        (VectorReader(), [np.ones(4, np.float32)] * 3, "gives the same embeddings"),
        (VectorReader(), [np.zeros(4, np.float32)] * 3, "gives no embeddings"),
    ],
)
def test_answers_that_any_model_could_give_validate_nothing(reader, outputs, reason):
    metric = AnswerAgreement(reader)
    for output in outputs:
        metric.learn([output])
    assert reason in why_not_validated(metric, 1.0, 0.01)


def test_a_float_model_that_is_wrong_itself_validates_nothing():
    metric = Top1([frozenset((0,)), frozenset((1,))])
    assert "the float model itself reaches top1 0.0000" in why_not_validated(metric, 0.0, 0.01)
    assert why_not_validated(metric, 0.5, 0.01) == ""
    boxes = MeanAveragePrecision([[], []], lambda *_: [])
    assert "have no boxes" in why_not_validated(boxes, 0.0, 0.01)
    own = CustomMetric("of:mine", lambda outputs, files: 0.0, [])
    assert why_not_validated(own, 0.0, 0.01) == ""


def interval(metric: AccuracyMetric, before: Sequence[Any], after: Sequence[Any]) -> tuple[float, float]:
    low, high = drop_interval(metric, before, after)
    assert low is not None
    assert high is not None
    return low, high


def test_the_interval_narrows_with_the_pictures_and_is_never_a_point():
    metric = Top1([])
    for count, expected in ((9, 0.299), (100, 0.037), (1000, 0.0038)):
        low, high = interval(metric, [True] * count, [True] * count)
        assert (low, high) == (pytest.approx(0, abs=1e-9), pytest.approx(expected, rel=0.02))
    worse = interval(metric, [True] * 100, [True] * 90 + [False] * 10)
    assert worse == (pytest.approx(0.055, abs=0.001), pytest.approx(0.174, abs=0.001))
    better = interval(metric, [True] * 90 + [False] * 10, [True] * 100)
    assert better == (-worse[1], -worse[0])


def test_a_drop_of_nan_is_refused():
    found = judge(Top1([]), Measured([True], 1.0), Measured([False], float("nan")), 0.5, ())
    assert not found.accepted


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Grey pictures with light squares; a detector by brightness finds some cells in each."""
    (tmp_path / "photos").mkdir()
    for number in range(6):
        pixels = np.full((320, 320, 3), 40, np.uint8)
        for cell in range(3 + number):
            row, column = 16 * (2 * cell + 1), 16 * ((3 * cell + number) % 20)
            pixels[row : row + 16, column : column + 16] = 200 + 8 * number
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), pixels)
    return tmp_path / "photos"


def yolo_tail(repository: Repository) -> None:
    """YOLOv8's last layers: one output holds sides up to hundreds of pixels, and scores up to 1.

    One scale for both leaves the scores no steps: quantised, all of them are 0.
    """
    cells = np.stack(np.meshgrid(np.arange(20) * 16 + 8, np.arange(20) * 16 + 8)).reshape(1, 2, 400)
    grid = np.concatenate([cells, np.zeros((1, 3, 400))], 1).astype(np.float32)
    weights = np.zeros((5, 3, 16, 16), np.float32)
    weights[2:4], weights[4, 0] = 800 / 768, 1 / 256
    data = ops.parameter([-1, 3, 320, 320], np.float32, name="images")
    found = ops.convolution(data, weights, [16, 16], [0, 0], [0, 0], [1, 1])
    rows = ops.reshape(found, np.array([-1, 5, 400]), special_zero=False)
    model = ov.Model([ops.result(ops.add(rows, grid))], [data], "yolo_tail")
    model.input(0).set_names({"images"})
    model.output(0).set_names({"output0"})
    Card(model_type="YOLOv8", labels=("light",), scale_values=(255.0,), reverse_input_channels=True).write(
        model
    )
    with repository.publish("yolo_tail", 1) as folder:
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def quantised(tmp_path: Path, photos: Path, metric: str = "", **options: Any) -> QuantizeReport:
    repository = Repository(tmp_path / "models")
    if "yolo_tail" not in repository.names():
        yolo_tail(repository)
    order = QuantizeOrder("yolo_tail_int8", photos, None, metric, 300)
    made = QuantizeOptions(**options)
    file = repository.find("yolo_tail", 1)
    return quantize(repository, file, Settings(), order, made, lambda _: None)


def test_an_int8_detector_that_finds_nothing_is_not_published(tmp_path, photos):
    found = quantised(tmp_path, photos, accuracy_control=False)
    report = found.report
    assert (found.published, report["decision"], report["accuracy"]) == (None, "refused", 0.0)
    assert report["compared_with"] == "the float model's own boxes"
    assert report["answers"] == report["missed"] > 6
    assert (report["invented"], report["high"]) == (0, 1.0)


def test_accuracy_control_publishes_such_a_detector_only_where_it_finds_the_same(tmp_path, photos):
    found = quantised(tmp_path, photos)
    assert found.report["accuracy_ptq"] == 0
    if found.published is None:
        assert found.report["quantized_operations"] == 0
        assert "had to put every operation back to floats" in found.report["reason"]
        return
    repository, core = Repository(tmp_path / "models"), openvino_core()
    files = [repository.find("yolo_tail"), found.published]
    before, after = (load_pipeline(core, file, Settings(precision="f32"), 1) for file in files)
    for photo in photos.iterdir():
        boxes = [one.predict(photo.read_bytes(), Request())["detections"] for one in (before, after)]
        assert len(boxes[0]) == len(boxes[1]) > 0


def test_what_cannot_be_compared_is_published_on_demand_only_and_says_so(tmp_path, photos):
    for picture in photos.iterdir():
        cv2.imwrite(str(picture), np.full((320, 320, 3), 9, np.uint8))
    refused = quantised(tmp_path, photos)
    assert (refused.published, refused.report["decision"]) == (None, "not validated")
    assert "the float model gives no boxes on the 6 pictures" in refused.report["reason"]
    allowed = quantised(tmp_path, photos, allow_unvalidated=True)
    assert allowed.published is not None
    assert (allowed.report["decision"], allowed.report["accuracy"]) == ("not validated", None)
