"""Models without a batch over the protocols: their own shapes in metadata, requests and answers."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.models.repository import ModelFile
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.tfs import TensorFlowServing
from cpuserve.protocols.v2 import V2
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import load
from tests.protocols.fakes import ask

FLOAT = np.float32


def parameter(shape, name):
    entry = ops.parameter(ov.PartialShape(shape), FLOAT, name=name)
    entry.output(0).set_names({name})
    return entry


def named(node, name):
    node.output(0).set_names({name})
    return ops.result(node)


def threshold():
    """The mean of each plane less a number, and the number doubled."""
    x, t = parameter([1, 3, 2, 2], "x"), parameter([], "t")
    mean = ops.reduce_mean(x, ops.constant(np.array([2, 3])), False)
    return ov.Model([named(ops.subtract(mean, t), "y"), named(ops.add(t, t), "twice")], [x, t])


def finds():
    """The places of the bright pixels of a picture: k rows of 4, and their number times nothing."""
    x = parameter([1, 3, 4, 4], "x")
    bright = ops.convert(ops.greater(x, FLOAT(200)), "f32")
    places = ops.transpose(ops.non_zero(bright), ops.constant(np.array([1, 0])))
    return ov.Model([named(places, "places")], [x])


class Models:
    """One model, as a worker's pool gives it."""

    def __init__(self, graph, folder):
        ov.save_model(graph, folder / "model.xml", compress_to_fp16=False)
        settings = load({"precision": "f32"}, environ={})
        self.pipeline = load_pipeline(openvino_core(), ModelFile("m", 1, folder / "model.xml"), settings, 1)

    rollouts = SimpleNamespace(texts=lambda _name: {})

    @staticmethod
    def version_policy(_name):
        return VersionPolicy()

    def pick(self, *_words):
        return self.get("m")

    def get(self, _model, _version=None):
        return self.pipeline

    def ready_versions(self, _model):
        return [1]


@pytest.fixture
def scalar(tmp_path):
    return Models(threshold(), tmp_path)


@pytest.fixture
def places(tmp_path):
    return Models(finds(), tmp_path)


X = {"name": "x", "datatype": "FP32", "shape": [1, 3, 2, 2], "data": [1.0] * 12}
T = {"name": "t", "datatype": "FP32", "shape": [], "data": [0.25]}


def test_v2_metadata_and_config_have_the_own_shapes(scalar):
    v2 = V2(scalar)
    found = ask(v2.metadata, "m")[2]
    assert [port["shape"] for port in found["inputs"]] == [[1, 3, 2, 2], []]
    assert [port["shape"] for port in found["outputs"]] == [[1, 3], []]
    config = ask(v2.config, "m")[2]
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    assert [port["dims"] for port in config["input"]] == [[1, 3, 2, 2], []]


def test_v2_answers_scalars(scalar):
    status, _, found = ask(V2(scalar).infer, "m", body={"inputs": [X, T]})
    assert status == 200
    assert [(one["name"], one["shape"], one["data"]) for one in found["outputs"]] == [
        ("y", [1, 3], [0.75] * 3),
        ("twice", [], [0.5]),
    ]


def test_v2_refuses_two_rows_and_a_vector(scalar):
    two = X | {"shape": [2, 3, 2, 2], "data": [1.0] * 24}
    status, _, found = ask(V2(scalar).infer, "m", body={"inputs": [two, T]})
    assert (status, found["error"]) == (400, "input 'x' has shape [1, 3, 2, 2], not [2, 3, 2, 2]")
    status, _, found = ask(V2(scalar).infer, "m", body={"inputs": [X, T | {"shape": [1]}]})
    assert (status, found["error"]) == (400, "input 't' has shape [], not [1]")


def test_v2_has_no_classes_of_a_scalar(scalar):
    wanted = {"name": "twice", "parameters": {"classification": 2}}
    status, _, found = ask(V2(scalar).infer, "m", body={"inputs": [X, T], "outputs": [wanted]})
    assert status == 400
    assert "no rows of classes" in found["error"]


def test_tensorflow_serving_names_columns_and_answers_scalars(scalar):
    tfs = TensorFlowServing(scalar)
    inputs = {"x": np.ones((1, 3, 2, 2)).tolist(), "t": 0.25}
    status, _, found = ask(tfs.predict, "m", body={"inputs": inputs})
    assert (status, found) == (200, {"outputs": {"y": [[0.75] * 3], "twice": 0.5}})
    signature = ask(tfs.metadata, "m")[2]["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["t"]["tensor_shape"] == {"dim": [], "unknown_rank": False}


def test_tensorflow_serving_has_no_rows_of_a_scalar(scalar):
    row = {"x": np.ones((3, 2, 2)).tolist(), "t": 0.25}
    status, _, found = ask(TensorFlowServing(scalar).predict, "m", body={"instances": [row]})
    assert status == 400
    assert "'t'" in found["error"]


@pytest.mark.parametrize("bright", [0, 1, 5])
def test_any_number_of_finds_is_answered_of_a_tensor_and_of_a_picture(places, bright):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels.reshape(-1)[:bright] = 255
    tensor = pixels.transpose(2, 0, 1)[None].astype(FLOAT)
    sent = {"name": "x", "datatype": "FP32", "shape": [1, 3, 4, 4], "data": tensor.ravel().tolist()}
    status, _, of_tensor = ask(V2(places).infer, "m", body={"inputs": [sent]})
    assert (status, of_tensor["outputs"][0]["shape"]) == (200, [bright, 4])
    data = cv2.imencode(".png", pixels)[1].tobytes()  # BGR, as a model without a card takes it
    words = {"inference_header_content_length": "0"}
    status, _, answer = ask(V2(places).infer, "m", body=data, **words)
    assert status == 200
    assert f'"shape":[{bright},4]'.encode() in answer


def test_several_pictures_whose_finds_have_no_rows_are_refused(places):
    picture = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()

    text = base64.b64encode(picture).decode()
    sent = {"name": "x", "datatype": "BYTES", "shape": [2], "data": [text, text]}
    status, _, found = ask(V2(places).infer, "m", body={"inputs": [sent]})
    assert status == 400
    assert "no batch: output 'places' has shape [-1, 4] for one picture, and 2 were sent" in found["error"]
