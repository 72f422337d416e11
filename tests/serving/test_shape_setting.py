"""The setting ``shape``: sizes, variable sides, ranges and auto, in the words of OpenVINO Model Server."""

from __future__ import annotations

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError, RequestError
from cpuserve.models.repository import ModelFile
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.serving.shape_setting import put_shape, with_open_sides
from cpuserve.settings import load


def parameter(shape, name="x"):
    entry = ops.parameter(ov.PartialShape(shape), np.float32, name=name)
    entry.output(0).set_names({name})
    return entry


def means(shape=(1, 3, 8, 8)):
    """The mean of each plane behind a convolution: its planes are fixed, its sides are not."""
    x = parameter(list(shape))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[range(3), range(3)] = 1
    planes = ops.convolution(x, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    mean = ops.reduce_mean(planes, ops.constant(np.array([2, 3])), False)
    mean.output(0).set_names({"mean"})
    return ov.Model([ops.result(mean)], [x])


def two_inputs():
    a, b = parameter([1, 4], "a"), parameter([1, 4], "b")
    return ov.Model([ops.result(ops.concat([a, b], 1))], [a, b])


def shapes(model):
    return [str(port.partial_shape) for port in model.inputs]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("(1,3,16,16)", "[1,3,16,16]"),
        ("[1, 3, 16, 16]", "[1,3,16,16]"),
        ("1,3,16,16", "[1,3,16,16]"),
        ("(1,3,-1,-1)", "[1,3,?,?]"),
        ("(-1,3,16,16)", "[?,3,16,16]"),
        ("(1:8,3,16,200:500)", "[1..8,3,16,200..500]"),
        ('{"x": "(1,3,16,-1)"}', "[1,3,16,?]"),
        ('{"x": [1, 3, 16, -1]}', "[1,3,16,?]"),
    ],
)
def test_sizes_ranges_and_variable_sides(text, shape):
    model = means()
    put_shape(model, text)
    assert shapes(model) == [shape]


def test_auto_opens_what_the_graph_lets_vary():
    assert shapes(with_open_sides(means(), "auto")) == ["[?,3,?,?]"]
    assert with_open_sides(means(), "(1,3,8,8)") is None


def test_several_inputs_are_named():
    model = two_inputs()
    words = '{"b": "(1,6)", "a": "auto"}'
    put_shape(model, words)
    assert shapes(model) == ["[1,4]", "[1,6]"]
    assert shapes(with_open_sides(model, words)) == ["[1,?]", "[1,6]"]  # the rows are those of b


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(1,3,0,8)", "no shape such as"),
        ("(1,3,-2,8)", "no shape such as"),
        ("(1,3,8:4,8)", "no shape such as"),
        ("()", "no shape such as"),
        ("(1,4,8,8)", "does not take shape"),
        ('{"y": "(1,3,8,8)"}', "names 'y'; the model's inputs are 'x'"),
        ("{", "is not JSON"),
    ],
)
def test_what_is_no_shape_is_named(text, words):
    with pytest.raises(ModelLoadError, match=words):
        put_shape(means(), text)


def test_a_shape_for_one_of_two_inputs_needs_its_name():
    with pytest.raises(ModelLoadError, match="is for one input; this model has 2"):
        put_shape(two_inputs(), "(1,4)")


def served(folder, shape, model=None):
    ov.save_model(model or means(), folder / "model.xml", compress_to_fp16=False)
    settings = load({"precision": "f32", "shape": shape}, environ={})
    return load_pipeline(openvino_core(), ModelFile("m", 1, folder / "model.xml"), settings, 2)


def ask(pipeline, *shape):
    return pipeline.infer([np.full(shape, 3, np.float32)], Request())[0]


def test_auto_takes_tensors_of_any_size_and_pictures_as_before(tmp_path):
    pipeline = served(tmp_path, "auto")
    assert pipeline.inputs[0].shape == (-1, 3, -1, -1)
    assert ask(pipeline, 2, 3, 5, 9) == pytest.approx(3)
    picture = cv2.imencode(".png", np.full((20, 30, 3), 7, np.uint8))[1].tobytes()
    (found,) = pipeline.infer_pictures([picture], Request())
    assert found == pytest.approx(7)


def test_a_range_refuses_sizes_outside_and_names_the_setting(tmp_path):
    pipeline = served(tmp_path, "(1,3,4:8,-1)")
    assert ask(pipeline, 1, 3, 8, 100) == pytest.approx(3)
    with pytest.raises(RequestError, match=r"input 'x' takes \[1,3,4..8,\?\], not \[1, 3, 9, 8\].*`shape`"):
        ask(pipeline, 1, 3, 9, 8)
    with pytest.raises(RequestError, match=r"takes no pictures.*`shape`"):
        pipeline.infer_pictures([b"x"], Request())


def test_fixed_sides_make_a_model_of_variable_ones_take_pictures_in_batches(tmp_path):
    pipeline = served(tmp_path, "(1,3,4,6)", means((-1, 3, -1, -1)))
    assert pipeline.batch.free
    assert pipeline.pictures is not None
    assert ask(pipeline, 3, 3, 4, 6).shape == (3, 3)
