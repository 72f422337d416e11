"""What a model answers is judged by evidence, and a model without evidence answers tensors only."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from openvino import opset16

from cpuserve.authoring import measured_outputs
from cpuserve.errors import MissingExtra, UsageError
from cpuserve.models.card import Card
from cpuserve.serving import judgement
from cpuserve.serving.engine import Port
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.serving.postprocess import TensorsOnly, output_evidence, postprocessor
from cpuserve.serving.preprocess import Resizer
from cpuserve.serving.servable_graph import class_count

SIDE = 16


def judged_card(model: ov.Model, card: Card, *, said: bool) -> tuple[Card, str]:
    measured = judgement.measured_evidence
    named = ("model_type", "scores") if said else ()
    return judgement.judged_card(model, card, batched=True, said=named, measured=measured)


DICE = np.random.default_rng(0)


def image() -> Any:
    return ops.parameter(ov.PartialShape([-1, 3, SIDE, SIDE]), np.float32, name="image")


def pooled(data: Any, count: int) -> Any:
    """Scores [N, count] of any size."""
    mean = ops.reduce_mean(data, np.array([2, 3]))
    weights = DICE.normal(size=(3, count)).astype(np.float32) * 3
    return ops.add(ops.matmul(mean, weights, False, False), np.linspace(-2, 2, count, dtype=np.float32))


def mapped(data: Any, channels: int) -> Any:
    """Numbers [N, channels, H, W]."""
    weights = DICE.normal(size=(channels, 3, 1, 1)).astype(np.float32)
    return ops.convolution(data, weights, [1, 1], [0, 0], [0, 0], [1, 1])


def quantised(data: Any, low: float, high: float) -> Any:
    limits = [np.float32(value) for value in (low, high, 0, 255)]
    return ops.convert(ops.fake_quantize(data, *limits, 256), "u8")


def normalised(data: Any) -> Any:
    length = ops.sqrt(ops.reduce_sum(ops.multiply(data, data), np.array([1]), keep_dims=True))
    return ops.divide(data, ops.maximum(length, np.float32(1e-6)))


def own_softmax(data: Any) -> Any:
    """A softmax out of its parts, as some exporters write it."""
    powers = ops.exp(ops.subtract(data, ops.reduce_max(data, np.array([1]), keep_dims=True)))
    return ops.divide(powers, ops.reduce_sum(powers, np.array([1]), keep_dims=True))


def best(data: Any, axis: int) -> Any:
    return ops.squeeze(
        ops.topk(data, np.int64(1), axis, "max", "value", index_element_type="i64").output(1),
        np.array([axis]),
    )


def reshaped(data: Any, *sides: int) -> Any:
    return ops.reshape(data, np.array(sides), special_zero=True)


def graph(build: Any) -> ov.Model:
    data = image()
    made = build(data)
    return ov.Model([ops.result(made)], [data])


def identity(data: Any) -> Any:
    return opset16.identity(data)


def nhwc(data: Any) -> Any:
    return ops.transpose(data, np.array([0, 2, 3, 1]))


KINDS = {
    "softmax": (lambda x: ops.softmax(pooled(x, 5), 1), 0, "Classification"),
    "softmax as 1x1 pixels": (
        lambda x: reshaped(ops.softmax(pooled(x, 5), 1), 0, 5, 1, 1),
        0,
        "Classification",
    ),
    "softmax, transposed": (
        lambda x: nhwc(ops.softmax(reshaped(pooled(x, 5), 0, 5, 1, 1), 1)),
        0,
        "Classification",
    ),
    "softmax in u8": (lambda x: quantised(ops.softmax(pooled(x, 5), 1), 0, 1), 0, "Classification"),
    "softmax of its parts": (lambda x: own_softmax(pooled(x, 5)), 0, "Classification"),
    "softmax in groups": (lambda x: reshaped(ops.softmax(reshaped(pooled(x, 6), 0, 2, 3), 2), 0, 6), 0, ""),
    "softmax behind Identity": (lambda x: identity(ops.softmax(pooled(x, 5), 1)), 0, "Classification"),
    "log softmax": (lambda x: ops.log_softmax(pooled(x, 5), 1), 0, "Classification"),
    "log of a softmax": (lambda x: ops.log(ops.softmax(pooled(x, 5), 1)), 0, "Classification"),
    "one score of a softmax": (
        lambda x: ops.gather(ops.softmax(pooled(x, 2), 1), np.array([1]), np.array(1)),
        0,
        "Classification",
    ),
    "one class of a softmax map": (
        lambda x: ops.gather(ops.softmax(mapped(x, 2), 1), np.array([1]), np.array(1)),
        0,
        "Segmentation",
    ),
    "a smaller class softmax": (
        lambda x: ops.softmax(ops.avg_pool(mapped(x, 4), [4, 4], [0, 0], [0, 0], [4, 4], True), 1),
        0,
        "Segmentation",
    ),
    "softmax in steps": (lambda x: ops.softmax(reshaped(mapped(x, 4), 0, -1, 32), 2), 0, ""),
    "logits with labels": (lambda x: pooled(x, 5), 5, "Classification"),
    "logits in u8 with labels": (lambda x: quantised(pooled(x, 5), -20, 20), 5, "Classification"),
    "ImageNet": (lambda x: pooled(x, 1000), 0, "Classification"),
    "an embedding or a regression": (lambda x: pooled(x, 64), 0, ""),
    "a regression of one number": (lambda x: pooled(x, 1), 0, ""),
    "an embedding of length 1": (lambda x: normalised(pooled(x, 5)), 5, ""),
    "an embedding of length 1, unseen": (
        lambda x: ops.normalize_l2(pooled(x, 5), np.array([1]), 1e-6, "max"),
        5,
        "",
    ),
    "one sigmoid": (lambda x: ops.sigmoid(pooled(x, 1)), 0, "Classification"),
    "sigmoids": (lambda x: ops.sigmoid(pooled(x, 5)), 0, "Classification"),
    "a feature map": (lambda x: mapped(x, 8), 0, ""),
    "a picture": (lambda x: ops.clamp(mapped(x, 3), 0, 1), 0, ""),
    "a picture by sigmoids": (lambda x: ops.sigmoid(mapped(x, 3)), 0, ""),
    "a picture of bytes": (lambda x: quantised(nhwc(mapped(x, 3)), 0, 1), 0, ""),
    "a larger picture": (
        lambda x: ops.depth_to_space(ops.sigmoid(mapped(x, 4)), "blocks_first", 2),
        0,
        "",
    ),
    "a depth map": (lambda x: mapped(x, 1), 0, ""),
    "a depth map by a relu": (lambda x: ops.relu(ops.squeeze(mapped(x, 1), np.array([1]))), 0, ""),
    "a matrix": (lambda x: reshaped(mapped(x, 8), 0, 8, -1), 0, ""),
    "class ids": (lambda x: best(mapped(x, 4), 1), 0, "Segmentation"),
    "class ids in f32": (lambda x: ops.convert(best(mapped(x, 4), 1), "f32"), 0, "Segmentation"),
    "whole numbers": (
        lambda x: ops.convert(ops.squeeze(mapped(x, 1), np.array([1])), "i64"),
        0,
        "Segmentation",
    ),
    "class softmax": (lambda x: ops.softmax(mapped(x, 4), 1), 0, "Segmentation"),
    "class softmax, NHWC": (lambda x: nhwc(ops.softmax(mapped(x, 4), 1)), 0, "Segmentation"),
    "class softmax of its parts": (lambda x: own_softmax(mapped(x, 4)), 0, "Segmentation"),
    "class logits with labels": (lambda x: mapped(x, 4), 4, "Segmentation"),
    "a mask": (lambda x: ops.sigmoid(mapped(x, 1)), 0, "Segmentation"),
    "a mask without a channel": (
        lambda x: ops.squeeze(ops.sigmoid(mapped(x, 1)), np.array([1])),
        0,
        "Segmentation",
    ),
    "whole numbers with a channel": (lambda x: ops.convert(mapped(x, 1), "i64"), 0, "Segmentation"),
    "class ids, resized": (
        lambda x: ops.interpolate(
            ops.convert(reshaped(best(mapped(x, 4), 1), 0, 1, SIDE, SIDE), "f32"),
            np.array([SIDE, SIDE]),
            "nearest",
            "sizes",
            axes=np.array([2, 3]),
        ),
        0,
        "Segmentation",
    ),
    "mask logits with a label": (lambda x: mapped(x, 1), 1, "Segmentation"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_type_is_judged_by_evidence(name):
    build, labels, kind = KINDS[name]
    names = tuple(f"c{place}" for place in range(labels))
    card, words = judged_card(graph(build), Card(labels=names), said=False)
    assert card.model_type == kind, words
    assert card.evidence
    assert words.startswith(f"{kind or 'tensors only'}: ")


def answer(build: Any, card: Card, data: Any, said: bool = False) -> Any:
    """What a converted model answers to a row."""
    model = graph(build)
    card, words = judged_card(model, card, said=said)
    ports = [
        Port((f"output{place}",), port.element_type.to_dtype(), tuple(port.partial_shape.get_max_shape())[1:])
        for place, port in enumerate(model.outputs)
    ]
    post = postprocessor(card, ports, Resizer(SIDE, SIDE), output_evidence(model), model)
    assert not isinstance(post, TensorsOnly), post.reason
    found = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(data)
    return post.answer([np.array(found[port][0]) for port in found], None, PictureSize(SIDE, SIDE)), words


def row() -> Any:
    return DICE.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)


def probabilities(found: Any) -> Any:
    return {row["class_id"]: row["probability"] for row in found["predictions"]}


@pytest.mark.parametrize("wrap", ["", "quantised", "own"])
def test_a_softmax_is_neither_added_twice_nor_left_out(wrap):
    scores = np.array([[1.0, 3.0, 2.0]], np.float32)
    wanted = np.exp(scores[0]) / np.exp(scores[0]).sum()

    def logits(x: Any) -> Any:
        return ops.add(ops.multiply(pooled(x, 3), np.float32(0)), scores)

    def shares(x: Any) -> Any:
        done = own_softmax(logits(x)) if wrap == "own" else ops.softmax(logits(x), 1)
        return quantised(done, 0, 1) if wrap == "quantised" else done

    labelled = Card(labels=("a", "b", "c"))
    for build in (shares, (lambda x: quantised(logits(x), -4, 4)) if wrap == "quantised" else logits):
        found, _ = answer(build, labelled, row())
        assert probabilities(found) == pytest.approx(dict(enumerate(wanted)), abs=0.02)
        assert [one["label"] for one in found["predictions"]] == ["b", "c", "a"]


def test_one_sigmoid_is_the_second_of_two_classes():
    found, _ = answer(
        lambda x: ops.sigmoid(ops.add(ops.multiply(pooled(x, 1), np.float32(0)), np.float32(2))),
        Card(),
        row(),
    )
    assert probabilities(found) == pytest.approx({1: 0.880797, 0: 0.119203}, abs=1e-5)


@pytest.mark.parametrize("kind", ["", "Classification"])
def test_one_score_has_one_or_two_labels(kind):
    def build(x: Any) -> Any:
        return ops.sigmoid(ops.add(ops.multiply(pooled(x, 1), np.float32(0)), np.float32(2)))

    assert class_count(graph(build), kind.lower()) is None
    two, _ = answer(build, Card(model_type=kind, labels=("no", "yes")), row())
    assert [one["label"] for one in two["predictions"]] == ["yes", "no"]
    only, _ = answer(build, Card(model_type=kind, labels=("person",)), row())
    assert [one["label"] for one in only["predictions"]] == ["person"]
    with pytest.raises(UsageError, match="3 labels"):
        judged_card(graph(build), Card(model_type="Classification", labels=("a", "b", "c")), said=True)


def test_sigmoids_are_several_answers_and_a_threshold_chooses():
    def build(x: Any) -> Any:
        return ops.sigmoid(
            ops.add(ops.multiply(pooled(x, 3), np.float32(0)), np.array([3, -3, 1], np.float32))
        )

    found, _ = answer(build, Card(labels=("a", "b", "c")), row())
    assert found["multilabel"] is True
    assert [one["label"] for one in found["predictions"]] == ["a", "c"]
    strict, _ = answer(build, Card(labels=("a", "b", "c"), confidence_threshold=0.9), row())
    assert [one["label"] for one in strict["predictions"]] == ["a"]
    single, _ = answer(build, Card(labels=("a", "b", "c"), multilabel=False), row())
    assert len(single["predictions"]) == 3 and "multilabel" not in single


def test_logits_of_a_multilabel_model_get_a_sigmoid():
    def build(x: Any) -> Any:
        return ops.add(ops.multiply(pooled(x, 3), np.float32(0)), np.array([3, -3, 1], np.float32))

    found, _ = answer(build, Card(labels=("a", "b", "c"), multilabel=True), row())
    assert probabilities(found) == pytest.approx({0: 0.952574, 2: 0.731059}, abs=1e-5)


@pytest.mark.parametrize("kind", ["sigmoid", "logits", "u8"])
def test_a_mask_is_class_one_where_its_probability_is_high(kind):
    mask = np.full((1, 1, SIDE, SIDE), -4, np.float32)
    mask[..., : SIDE // 2] = 4

    def build(x: Any) -> Any:
        numbers = ops.add(ops.multiply(mapped(x, 1), np.float32(0)), mask)
        if kind == "logits":
            return numbers
        return quantised(ops.sigmoid(numbers), 0, 1) if kind == "u8" else ops.sigmoid(numbers)

    card = Card(labels=("wound",) if kind == "logits" else ())
    found, _ = answer(build, card, row())
    names = ("background", "wound") if kind == "logits" else ("0", "1")
    assert {one["class_id"]: one["area"] for one in found["classes"]} == {0: 0.5, 1: 0.5}
    assert {one["class_id"]: one["label"] for one in found["classes"]} == dict(enumerate(names))


@pytest.mark.parametrize(
    ("word", "said"), [("Clasification", "Classification"), ("yolo8", "YOLOv8"), ("zzz", "one of")]
)
def test_an_unknown_model_type_is_refused_with_near_names(word, said):
    with pytest.raises(UsageError, match=f"--model_type {word} is not known; .*{said}"):
        judged_card(graph(KINDS["softmax"][0]), Card(model_type=word), said=True)
    card, words = judged_card(graph(KINDS["softmax"][0]), Card(model_type=word), said=False)
    assert card.model_type == word  # the source's own word stays
    assert words.startswith(f"tensors only: model_type {word!r} is not known")


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        ("softmax", "Segmentation"),
        ("softmax", "SSD"),
        ("a feature map", "Classification"),
        ("a depth map by a relu", "Segmentation"),
        ("class softmax", "YOLOv8"),
    ],
)
def test_a_model_type_that_does_not_fit_is_refused(kind, model_type):
    with pytest.raises(UsageError, match=f"--model_type {model_type} does not fit the outputs: "):
        judged_card(graph(KINDS[kind][0]), Card(model_type=model_type), said=True)


def test_a_model_type_whose_packages_are_missing_is_refused_as_that(monkeypatch):
    monkeypatch.delattr("cpuserve.serving.postprocess.modelapi", raising=False)
    monkeypatch.setitem(sys.modules, "cpuserve.serving.postprocess.modelapi", None)
    pixels = image()
    boxes = ops.constant(np.zeros((1, 8400, 85), np.float32))
    mean = ops.reduce_mean(pixels, [1, 2, 3], keep_dims=False)
    model = ov.Model([boxes + ops.reshape(mean, [-1, 1, 1], special_zero=False)], [pixels])
    with pytest.raises(MissingExtra, match=r"needs Model API .*pip install 'cpuserve\[vision\]'"):
        judged_card(model, Card(model_type="YOLOX"), said=True)


def test_values_are_measured_in_a_child_process_and_without_it_the_graph_counts(monkeypatch):
    model = graph(KINDS["softmax of its parts"][0])
    given = {"limit_s": 60, "option": "--report-timeout"}
    assert measured_outputs.measured_in_child(model, **given) == judgement.measured_evidence(model)
    assert measured_outputs.measured_in_child(model, limit_s=0.001, option="--o") == output_evidence(model)


@pytest.mark.parametrize(
    ("kind", "scores", "axis"),
    [
        ("softmax", "softmax", -1),
        ("class softmax of its parts", "softmax", -3),
        ("a mask", "sigmoid", None),
        ("class ids", "argmax", None),
        ("logits with labels", "", None),
    ],
)
def test_the_card_keeps_what_the_scores_are(kind, scores, axis):
    card, _ = judged_card(graph(KINDS[kind][0]), Card(), said=False)
    assert (card.scores, card.scores_axis) == (scores, axis)


@pytest.mark.parametrize(
    ("name", "areas"),
    [("a mask without a channel", {0: 0.5, 1: 0.5}), ("whole numbers with a channel", {0: 0.5, 2: 0.5})],
)
def test_a_side_of_one_changes_nothing(name, areas):
    left = np.full((1, 1, SIDE, SIDE), -4 if "mask" in name else 0, np.float32)
    left[..., : SIDE // 2] = 4 if "mask" in name else 2

    def build(x: Any) -> Any:
        numbers = ops.add(ops.multiply(mapped(x, 1), np.float32(0)), left)
        return (
            ops.squeeze(ops.sigmoid(numbers), np.array([1]))
            if "mask" in name
            else ops.convert(numbers, "i64")
        )

    found, _ = answer(build, Card(), row())
    assert {one["class_id"]: one["area"] for one in found["classes"]} == areas


@pytest.mark.parametrize(
    "build",
    [lambda x: own_softmax(pooled(x, 5)), lambda x: own_softmax(mapped(x, 5))],
    ids=["[N,C]", "[N,C,H,W]"],
)
def test_a_softmax_of_its_parts_is_seen_in_the_graph_too(build):
    (found,) = output_evidence(graph(build))
    (softmax,) = output_evidence(graph(lambda x: ops.softmax(build(x), 1)))
    assert (found.function, found.axis) == (softmax.function, softmax.axis) == ("softmax", softmax.axis)
    doubled = ops.divide(ops.parameter([1, 5], np.float32), np.float32(2))
    (other,) = output_evidence(ov.Model([ops.result(doubled)], [doubled.input_value(0).get_node()]))
    assert other.function == ""


def test_what_the_user_says_of_scores_counts_more_than_the_graph():
    build = KINDS["softmax"][0]
    card = Card(model_type="Classification", scores="logits")
    assert judged_card(graph(build), card, said=True)[0].scores == "logits"
    assert judged_card(graph(build), card, said=False)[0].scores == "softmax"
