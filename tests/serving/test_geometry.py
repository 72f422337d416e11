"""Which ports have a batch is asked of the graph; models without one are served in their own shapes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError, RequestError
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.geometry import batch_axes, batch_of, rows_of
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.request import Request
from cpuserve.serving.shape_check import ShapeCheck
from cpuserve.settings import load

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
FREE, ALONE = True, False


def given(shape, name, kind=np.float32):
    entry = ops.parameter(ov.PartialShape(shape), kind, name=name)
    entry.output(0).set_names({name})
    return entry


def model(inputs, *outputs):
    for place, output in enumerate(outputs):
        output.output(0).set_names({f"out{place}"})
    return ov.Model([ops.result(output) for output in outputs], list(inputs))


def ints(*values):
    return ops.constant(np.array(values, np.int64))


def mean(entry, *axes, keep=False):
    return ops.reduce_mean(entry, ints(*axes), keep)


def plain():
    x = given([1, 3, 4, 4], "x")
    return model([x], mean(x, 2, 3))


def symbolic():
    x, y = given([-1, 4], "x"), given([-1, 4], "y")
    return model([x, y], ops.add(x, y), ops.subtract(x, y))


def scalar():
    x, t = given([1, 3, 4, 4], "x"), given([], "threshold")
    return model([x, t], ops.subtract(mean(x, 2, 3), t))


def vector():
    """A threshold of one number fits rows of any number only by chance."""
    x, t = given([1, 3, 4, 4], "x"), given([1], "threshold")
    return model([x, t], ops.subtract(mean(x, 2, 3), t))


def planes():
    x = given([3, 4, 4], "x")
    return model([x], ops.relu(x))


def loss():
    x = given([-1, 4], "x")
    return model([x], ops.multiply(x, np.float32(2)), mean(x, 0, 1))


def sequence():
    """The steps first, the rows second: a running sum along the steps."""
    x = given([5, 1, 4], "x")
    return model([x], ops.cum_sum(x, ops.constant(np.int64(0))))


def states():
    """Both x and y have the rows first, the states h have the layers first."""
    x, h = given([1, 4], "x"), given([2, 1, 4], "h")
    y = ops.add(x, mean(h, 0))
    return model([x, h], y, ops.add(h, y))


def finds():
    x = given([1, 3, 4], "x")
    places = ops.transpose(ops.non_zero(ops.relu(x)), ints(1, 0))
    return model([x], ops.gather_nd(x, places), places)


def many_rows():
    x = given([-1, 25, 4], "x")
    return model([x], ops.reshape(x, ints(-1, 4), special_zero=False))


def baked():
    x = given([1, 8, 4], "x")
    return model([x], ops.reshape(ops.relu(x), ints(1, 32), special_zero=False))


def baked_four():
    x = given([4, 8], "x")
    return model([x], ops.reshape(ops.relu(x), ints(4, 2, 4), special_zero=False))


def mixed():
    """Attention over the first side, which shape inference takes for a batch."""
    x = given([1, 6], "x")
    return model([x], ops.softmax(ops.add(x, np.float32(1)), axis=0), ops.relu(x))


def normalised():
    """The mean of all rows is taken off each."""
    x = given([-1, 6], "x")
    return model([x], ops.subtract(x, mean(x, 0, keep=True)))


def numbered():
    """Each row tells its place in the batch."""
    x = given([-1, 6], "x")
    count = ops.gather(ops.shape_of(x), ints(0), ints(0))
    place = ops.range(np.int64(0), ops.squeeze(count, ints(0)), np.int64(1), "f32")
    return model([x], ops.add(x, ops.multiply(ops.unsqueeze(place, ints(1)), np.float32(100))))


def divided():
    """The number of rows is a factor."""
    x = given([-1, 6], "x")
    count = ops.convert(ops.gather(ops.shape_of(x), ints(0), ints(0)), "f32")
    return model([x], ops.divide(x, count))


def table():
    x = given([1600, 8], "x")
    return model([x], ops.softmax(x, axis=1))


def of_four_pictures():
    x = given([4, 3, 8, 8], "x")
    return model([x], mean(x, 2, 3))


def any_size():
    x = given([-1, 3, -1, -1], "x")
    return model([x], mean(x, 2, 3))


def anchors():
    """A constant beside the rows."""
    x = given([-1, 4], "x")
    return model([x], ops.relu(x), ops.add(ops.constant(np.ones((16, 4), np.float32)), np.float32(1)))


MODELS = [
    (plain, FREE, (0, 0)),
    (symbolic, FREE, (0, 0, 0, 0)),
    (scalar, ALONE, (0, -1, 0)),
    (vector, ALONE, (0, -1, 0)),
    (planes, ALONE, (-1, -1)),
    (loss, ALONE, (0, 0, -1)),
    (sequence, ALONE, (1, 1)),
    (states, ALONE, (0, 1, 0, 1)),
    (finds, ALONE, (-1, -1, -1)),
    (many_rows, ALONE, (-1, -1)),
    (baked, ALONE, (-1, -1)),
    (baked_four, ALONE, (-1, -1)),
    (mixed, ALONE, (0, 0, 0)),
    (normalised, ALONE, (0, 0)),
    (numbered, ALONE, (0, 0)),
    (divided, ALONE, (0, 0)),
    (table, ALONE, (-1, -1)),
    (of_four_pictures, FREE, None),
    (any_size, ALONE, (0, 0)),
    (anchors, ALONE, (0, 0, -1)),
]


def pipeline(graph, folder, threads=2, **settings):
    ov.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    settings = load({"precision": "f32", **settings}, environ={})
    return load_pipeline(openvino_core(), ModelFile("m", 1, folder / "model.xml"), settings, threads)


def tensors_for(graph, side=2):
    dice = np.random.default_rng(3)
    return [
        dice.uniform(
            -1, 1, [side if one.is_dynamic else one.get_length() for one in port.partial_shape]
        ).astype(port.element_type.to_dtype())
        for port in graph.inputs
    ]


@pytest.mark.parametrize(("make", "free", "axes"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_graph_says_where_its_batch_is(make, free, axes):
    found = batch_of(make(), Card())
    assert found.free is free
    assert bool(found.reason) is not free
    if axes is not None:
        assert batch_axes(make()) == axes


@pytest.mark.parametrize("make", [row[0] for row in MODELS], ids=lambda value: value.__name__)
def test_a_model_answers_as_its_graph_does(make, tmp_path):
    graph = make()
    served = pipeline(graph, tmp_path)
    sent = tensors_for(graph)
    right = openvino_core().compile_model(graph, "CPU", EXACT)(sent)
    found = served.infer(sent, Request())
    for port, array, wanted in zip(served.outputs, found, right.values(), strict=True):
        assert array.shape == wanted.shape
        assert len(port.shape) == wanted.ndim
        assert all(own in (-1, size) for own, size in zip(port.shape, wanted.shape, strict=True))
        assert array == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("make", [mixed, normalised, numbered, divided], ids=lambda value: value.__name__)
def test_rows_that_depend_on_each_other_are_seen(make):
    assert rows_of(make()) == "mixed"
    assert rows_of(plain()) == rows_of(symbolic()) == "independent"


def test_what_the_card_has_recorded_is_not_tried_again():
    assert not batch_of(plain(), Card(rows="mixed")).free
    assert batch_of(divided(), Card(rows="independent")).free
    assert not batch_of(baked(), Card(rows="independent")).free  # but shape inference is always asked


def test_a_shape_that_does_not_fit_is_refused_in_words(tmp_path):
    served = pipeline(scalar(), tmp_path)
    x, threshold = np.ones((1, 3, 4, 4), np.float32), np.float32(0.25)
    assert served.infer([x, np.array(threshold)], Request())[0].tolist() == [[0.75] * 3]
    with pytest.raises(RequestError, match=r"input 'threshold' has shape \[\], not \[1\]"):
        served.infer([x, np.array([threshold])], Request())
    with pytest.raises(RequestError, match=r"input 'x' has shape \[1, 3, 4, 4\], not \[2, 3, 4, 4\]"):
        served.infer([np.ones((2, 3, 4, 4), np.float32), np.array(threshold)], Request())


def test_variable_sides_take_tensors_of_any_size_from_several_threads(tmp_path):
    served = pipeline(any_size(), tmp_path)

    def ask(side):
        rows, height, width = 1 + side % 3, side, 2 * side
        sent = np.full((rows, 3, height, width), side, np.float32)
        sent.flags.writeable = side % 2 == 0
        (found,) = served.infer([sent], Request())
        return found.shape == (rows, 3) and found == pytest.approx(side)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(1, 60)))


def test_sizes_that_a_graph_cannot_compute_with_are_the_clients_error(tmp_path):
    x, y = given([-1, 4], "x"), given([-1, 4], "y")
    served = pipeline(model([x, y], ops.matmul(x, ops.concat([y, y], 0), True, False)), tmp_path)
    with pytest.raises(RequestError, match=r"cannot compute with inputs of x \[3, 4\], y \[5, 4\]"):
        served.infer([np.ones((3, 4), np.float32), np.ones((5, 4), np.float32)], Request())
    (found,) = served.infer([np.ones((4, 4), np.float32), np.ones((2, 4), np.float32)], Request())
    assert found.tolist() == [[4.0] * 4] * 4


@pytest.mark.parametrize("threads", [1, 2, 6])
def test_a_graph_that_failed_with_a_clients_numbers_answers_the_next_client(tmp_path, threads):
    x, sides = given([-1], "x"), given([2], "sides", np.int64)
    served = pipeline(
        model([x, sides], ops.relu(ops.reshape(x, sides, special_zero=False))), tmp_path, threads
    )
    for _ in range(3):
        for wrong in ([3, 3], [5, 7]):
            with pytest.raises(RequestError, match="cannot compute with these inputs"):
                served.infer([np.ones(4, np.float32), np.array(wrong, np.int64)], Request())
        (found,) = served.infer([np.ones(6, np.float32), np.array([2, 3], np.int64)], Request())
        assert found.tolist() == [[1.0] * 3] * 2


def test_what_a_graph_raises_twice_ends_no_worker(tmp_path):
    x, most = given([-1, 10], "x"), given([], "most", np.int64)
    best = ops.topk(x, most, 1, "max", "value")
    served = pipeline(model([x, most], ops.relu(best.output(0))), tmp_path)
    rows = np.arange(20, dtype=np.float32).reshape(2, 10)
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(RequestError, match="cannot compute with these inputs"):
                served.infer([rows, np.array(0)], Request())
        assert served.infer([rows, np.array(2)], Request())[0].tolist() == [[9, 8], [19, 18]]


def test_requests_beside_one_that_fails_are_answered(tmp_path):
    x, most = given([-1, 10], "x"), given([], "most", np.int64)
    best = ops.topk(x, most, 1, "max", "value")
    served = pipeline(model([x, most], ops.relu(best.output(0))), tmp_path, threads=6, share_weights=True)

    def ask(number):
        rows = np.random.default_rng(number).random((1 + number % 3, 10), np.float32)
        try:
            (found,) = served.infer([rows, np.array(number % 4)], Request())
        except RequestError:
            return number % 4 == 0
        return (found == np.sort(rows, 1)[:, ::-1][:, : number % 4]).all()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(120)))


def test_a_variable_number_of_dimensions_is_refused_in_words(tmp_path):
    x = ops.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    x.output(0).set_names({"x"})
    with pytest.raises(ModelLoadError, match="'x' has a variable number of dimensions; the setting `shape`"):
        pipeline(model([x], ops.relu(x)), tmp_path)


@pytest.mark.parametrize(("kind", "served_as"), [("bf16", "float32"), ("i4", "int8"), ("u4", "uint8")])
def test_numbers_that_numpy_does_not_have_are_sent_as_larger_ones(tmp_path, kind, served_as):
    x = given([-1, 4], "x", getattr(ov.Type, kind))
    copy = ops.reshape(x, ints(-1, 2, 2), special_zero=False)
    served = pipeline(model([x], copy), tmp_path)
    assert [(port.names[0], port.dtype) for port in (*served.inputs, *served.outputs)] == [
        ("x", served_as),
        ("out0", served_as),
    ]
    (found,) = served.infer([np.array([[1, 2, 3, 4], [5, 6, 7, 0]], served_as)], Request())
    assert found.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 0]]]


@pytest.mark.parametrize("kind", ["string", "u1", "nf4"])
def test_elements_that_cannot_be_served_are_refused_in_words(tmp_path, kind):
    x = given([-1, 8], "x", getattr(ov.Type, kind))
    with pytest.raises(ModelLoadError, match=f"input 'x' of model.xml has elements of type {kind}"):
        pipeline(ov.Model([ops.result(x)], [x]), tmp_path)


def test_requests_without_a_batch_run_beside_each_other_and_stay_apart(tmp_path):
    served = pipeline(planes(), tmp_path, threads=4, max_batch=8)
    assert list(served.batcher.engine.sizes) == [1]

    def ask(value):
        (found,) = served.infer([np.full((3, 4, 4), value, np.float32)], Request())
        return (found == value).all()

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(200)))


def test_two_outputs_of_one_tensor_have_names_of_their_own(tmp_path):
    x = given([-1, 4], "x")
    twice = ops.relu(x)
    twice.output(0).set_names({"relu"})
    served = pipeline(ov.Model([ops.result(twice), ops.result(twice)], [x]), tmp_path)
    names = [port.names[0] for port in served.outputs]
    assert len({*names}) == len(names) == 2


def test_an_output_keeps_the_name_of_the_source_though_the_compiler_merges_it(tmp_path):
    x = given([-1, 4], "INPUT", np.int32)
    inner = ops.add(x, np.int32(1))
    inner.output(0).set_names({"ADD"})
    outer = ops.convert(inner, "i32")
    served = pipeline(model([x], outer), tmp_path)
    assert served.outputs[0].names[0] == "out0"
    assert "ADD" in served.outputs[0].names


def test_a_scalar_is_answered_of_a_picture_and_kept_in_the_cache(tmp_path):
    x = given([1, 3, 4, 4], "x")
    served = pipeline(model([x], mean(x, 0, 1, 2, 3)), tmp_path, result_cache_bytes=1 << 20)
    picture = cv2.imencode(".png", np.full((9, 9, 3), 7, np.uint8))[1].tobytes()
    for _ in range(2):
        (of_picture,) = served.infer_pictures([picture], Request())
        (of_tensor,) = served.infer([np.full((1, 3, 4, 4), 7, np.float32)], Request())
        assert of_picture.shape == of_tensor.shape == ()
        assert of_picture == of_tensor == pytest.approx(7)


def test_shapes_that_depend_on_a_large_constant_are_checked_with_it():
    x = given([-1, -1], "x")
    sizes = ops.constant(np.full(5000, 2, np.int64))  # the side of a reshape, far into a long list
    side = ops.gather(sizes, ints(4999), ints(0))
    check = ShapeCheck(model([x], ops.reshape(x, ops.concat([side, ints(3)], 0), special_zero=False)))
    check.check([(3, 2)])
    with pytest.raises(RequestError, match=r"inputs of x \[3, 3\]"):
        check.check([(3, 3)])


def test_weights_are_not_kept_to_check_shapes():
    x = given([-1, 300], "x")
    weight = ops.constant(np.ones((300, 70), np.float32))
    check = ShapeCheck(model([x], ops.matmul(x, weight, False, False)))
    kinds = [node.get_type_name() for node in check._graph.get_ordered_ops()]
    assert "Constant" not in kinds
    check.check([(5, 300)])
    with pytest.raises(RequestError):
        check.check([(5, 299)])
