"""Models that say nothing of themselves, converted and served: right answers, or tensors and why."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto, checker, helper, load, numpy_helper, save

from cpuserve.cli import main
from tests.servers import serving

SIDE = 32
BOXES = [[10 * k, 10 * k, 10 * k + 8, 10 * k + 8] for k in range(3)]


def constant(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model(folder: Path, name: str, nodes, outputs, constants, batch=1) -> Path:
    """An ONNX file with a picture input ``image``; ``outputs`` are names, types and shapes."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    ends = [helper.make_tensor_value_info(*output) for output in outputs]
    graph = helper.make_graph(nodes, name, [image], ends, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(made)
    save(made, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def suppression():
    """Nodes that find box k where row k of channel 0 is bright: ``sel`` [finds, 3], ``scores`` [1, 1, 3]."""
    nodes = [
        helper.make_node("Slice", ["image", "from", "to", "axes"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["scores"], axes=[3], keepdims=0),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["sel"]),
    ]
    constants = [
        *(constant("from", [0, 0], np.int64), constant("to", [1, 3], np.int64)),
        *(constant("axes", [1, 2], np.int64), constant("boxes", [BOXES]), constant("iou", [0.5])),
        *(constant("most", [10], np.int64), constant("least", [0.5])),
    ]
    return nodes, constants


def torchvision(folder):
    """Boxes [k, 4], labels [k] and scores [k] of a suppression inside, without a batch."""
    nodes, constants = suppression()
    nodes += [
        helper.make_node("Gather", ["sel", "two"], ["place"], axis=1),
        helper.make_node("Gather", ["sel", "one"], ["label"], axis=1),
        helper.make_node("Squeeze", ["place", "last"], ["places"]),
        helper.make_node("Squeeze", ["label", "last"], ["labels"]),
        helper.make_node("Squeeze", ["boxes", "first"], ["flat"]),
        helper.make_node("Gather", ["flat", "places"], ["out_boxes"], axis=0),
        helper.make_node("Squeeze", ["scores", "both"], ["all"]),
        helper.make_node("Gather", ["all", "places"], ["out_scores"], axis=0),
    ]
    constants += [constant("two", [2], np.int64), constant("one", [1], np.int64)]
    constants += [constant("last", [1], np.int64), constant("first", [0], np.int64)]
    constants += [constant("both", [0, 1], np.int64)]
    outputs = [
        ("out_boxes", TensorProto.FLOAT, ["k", 4]),
        ("labels", TensorProto.INT64, ["k"]),
        ("out_scores", TensorProto.FLOAT, ["k"]),
    ]
    return model(folder, "torchvision", nodes, outputs, constants)


def raw_suppression(folder):
    nodes, constants = suppression()
    return model(folder, "raw_suppression", nodes, [("sel", TensorProto.INT64, ["k", 3])], constants)


def fixed(folder, name, value, *after, dtype=TensorProto.FLOAT, batch="N"):
    """A model that answers ``value`` [...] for every row, through the operations ``after``."""
    axes = list(range(1, 4))
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=axes, keepdims=1),
        helper.make_node("Reshape", ["mean", "to"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["none"]),
        helper.make_node("Add", ["none", "value"], ["made0"]),
    ]
    nodes += [
        helper.make_node(kind, [f"made{place}"], [f"made{place + 1}"], **given)
        for place, (kind, given) in enumerate(after)
    ]
    nodes.append(helper.make_node("Identity", [f"made{len(after)}"], ["answer"]))
    sides = np.asarray(value).shape
    constants = [constant("to", [-1, *[1] * len(sides)], np.int64)]
    constants += [constant("zero", 0), constant("value", [value])]
    return model(folder, name, nodes, [("answer", dtype, [batch, *sides])], constants, batch)


MASK = np.full((1, SIDE, SIDE), -4.0)
MASK[..., : SIDE // 2] = 4
TABLE = np.zeros((300, 6))
TABLE[0] = 8, 8, 24, 16, 0.75, 1


def finds_of_six(folder):
    """[N, 300, 6] behind a TopK, as YOLOv10 and YOLO26 export it."""
    file = fixed(folder, "finds_of_six", TABLE)
    made = load(file)
    made.graph.initializer.append(constant("most", [300], np.int64))
    last = made.graph.node.pop()
    made.graph.node.append(helper.make_node("TopK", [last.input[0], "most"], ["best", "order"], axis=1))
    made.graph.node.append(helper.make_node("Mul", ["best", "zero"], ["nothing"]))
    made.graph.node.append(helper.make_node("Add", [last.input[0], "nothing"], ["answer"]))
    save(made, file)
    return file


MODELS = {
    "torchvision": (torchvision, ("--labels", "row,other")),
    "raw_suppression": (raw_suppression, ()),
    "mask": (lambda folder: fixed(folder, "mask", MASK, ("Sigmoid", {})), ()),
    "several": (
        lambda folder: fixed(folder, "several", [3.0, -3.0, 1.0], ("Sigmoid", {})),
        ("--labels", "a,b,c"),
    ),
    "embedding": (lambda folder: fixed(folder, "embedding", np.arange(16.0)), ()),
    "logits": (lambda folder: fixed(folder, "logits", [1.0, 3.0, 2.0]), ("--labels", "a,b,c")),
    "depth": (lambda folder: fixed(folder, "depth", 9 * np.ones((1, SIDE, SIDE))), ()),
    "finds_of_six": (finds_of_six, ("--labels", "a,b")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    for name, (build, flags) in MODELS.items():
        more = ("--scale_values", "255", "--no-parity", "--quiet", "--model-repository", str(root))
        with pytest.raises(SystemExit, match="0"):
            main(["convert", str(build(tmp_path_factory.mktemp(name))), "--name", name, *flags, *more])
    options = ("--workers", "1", "--precision", "f32", "--max-batch", "2")
    with serving(tmp_path_factory.mktemp("log") / "log", "--model-repository", str(root), *options) as found:
        yield found
        assert "Traceback" not in found.text()


def picture(*bright: int) -> bytes:
    """A picture of the input's size, some of whose rows are bright."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[list(bright)] = 230
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("bright", [(), (1,), (0, 2), (0, 1, 2)])
def test_as_many_finds_as_the_suppression_leaves(server, bright):
    answer = server.post("/predictions/torchvision", picture(*bright))
    assert answer.status == 200
    found = answer.json()["detections"]
    assert [one["box"] for one in found] == [BOXES[row] for row in bright]
    assert all(one["label"] == "row" and 0.85 < one["probability"] < 0.95 for one in found)


@pytest.mark.parametrize("name", ["raw_suppression", "embedding", "depth"])
def test_what_nothing_speaks_for_is_tensors_only_and_the_url_is_filled_in(server, name):
    refused = server.post(f"/predictions/{name}", picture(1))
    assert refused.status == 400
    words = refused.json()["error"]
    assert f"model {name} answers tensors only: " in words
    url = words.rsplit("at ", 1)[1]
    assert url == f"/v2/models/{name}/infer"
    assert server.request("POST", url, picture(1), {"Inference-Header-Content-Length": "0"}).status == 200


def test_a_mask_has_one_class_and_the_background(server):
    found = server.post("/predictions/mask", picture()).json()["classes"]
    assert {one["class_id"]: one["area"] for one in found} == {0: 0.5, 1: 0.5}
    mask = server.post("/predictions/mask?render=mask", picture()).body
    pixels = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape[:2] == (SIDE, SIDE)
    assert (pixels[:, : SIDE // 2] == pixels[0, 0]).all() and (pixels[0, 0] != pixels[0, -1]).any()


def test_several_labels_may_apply(server):
    answer = server.post("/predictions/several", picture()).json()
    assert answer["multilabel"] is True
    assert [one["label"] for one in answer["predictions"]] == ["a", "c"]
    assert server.post("/predictions/several", picture(), Accept="image/png").status == 200


def test_labels_make_logits_a_classification(server):
    (best, *_) = server.post("/predictions/logits", picture()).json()["predictions"]
    assert (best["label"], best["probability"]) == ("b", pytest.approx(0.665241, abs=1e-5))


def test_finds_of_six_numbers_are_boxes(server):
    (found,) = server.post("/predictions/finds_of_six", picture()).json()["detections"]
    assert (found["label"], found["probability"], found["box"]) == ("b", 0.75, [8, 8, 24, 16])
