"""A small network in the frameworks that are here: answers agree, and what is not run says why."""

from __future__ import annotations

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper
from openvino import opset13 as ops

from cpuserve.authoring.source import SourceModel, input_shapes, read_source
from cpuserve.bench.compare import FrameworkResult, compare, thread_counts, verdict
from cpuserve.bench.frameworks import Refused, load, sample, with_batch
from cpuserve.errors import CpuserveError


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """ONNX, [1, 3, 8, 8] to [1, 4]: a convolution over all of it."""
    weights = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    file = tmp_path_factory.mktemp("network") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return file


def run(source, frameworks, tensors, folder, **changes):
    options = {"shapes": (), "precision": "f32", "threads": [1], "rounds": 3, "seconds": 0.05, **changes}
    return compare(str(source), frameworks, tensors, folder, **options)


def test_every_framework_that_reads_it_gives_the_same_answers(network, tmp_path):
    tensors = [np.random.default_rng(n).normal(size=(1, 3, 8, 8)).astype(np.float32) for n in range(3)]
    steps = []
    entries = run(network, ["onnxruntime", "cv2", "tflite"], tensors, tmp_path, done=lambda: steps.append(1))
    assert [entry.name for entry in entries] == ["openvino", "onnxruntime", "cv2", "tflite"]
    assert len(steps) == 4 + 3
    for entry in entries[1:3]:
        assert not entry.refused
        assert not entry.note
        assert entry.difference == pytest.approx(0, abs=1e-4)
        assert entry.top1 == 1.0
        assert entry.threads == 1
        assert len(entry.ms) == len(entry.cpu_ms) == 3
        figures = entry.figures(entries[0])
        assert figures["ms_per_image"] > 0
        assert figures["ms_by_threads"].keys() == {"1"}
    assert "takes .tflite files; small.onnx is an ONNX model" in entries[3].refused
    assert entries[3].figures(entries[0]) == {"framework": "tflite", "refused": entries[3].refused}


def test_each_number_of_threads_is_tried_and_the_best_stays(network, tmp_path):
    tensors = [np.zeros((1, 3, 8, 8), np.float32)]
    (entry,) = run(network, [], tensors, tmp_path, threads=[1, 2])
    assert set(entry.tried) == {1, 2}
    assert entry.tried[entry.threads] == min(entry.tried.values())


def test_a_model_that_openvino_cannot_run(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(CpuserveError, match=r"OpenVINO cannot run .*bad\.onnx"):
        run(tmp_path / "bad.onnx", ["cv2"], [np.zeros((1, 3, 8, 8), np.float32)], tmp_path)


def test_verdicts():
    assert verdict([1.2, 1.3, 1.25]) == "1.25 times OpenVINO's time"
    assert verdict([0.5, 0.5, 0.5]) == "0.50 times OpenVINO's time"
    assert verdict([0.99, 1.5, 1.6]) == "tie"
    assert verdict([1.01, 1.02, 1.30]) == "tie"


def test_ratios_are_taken_round_by_round():
    first, other = FrameworkResult("openvino", ms=[1.0, 2.0]), FrameworkResult("x", ms=[2.0, 3.0])
    assert other.ratios(first) == [2.0, 1.5]


def test_thread_counts():
    assert [thread_counts(most) for most in (1, 2, 3, 6, 8)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 6],
        [1, 2, 4, 8],
    ]


def graph_with(*shapes, kind=np.float32):
    entries = [ops.parameter(shape, kind, name=f"p{n}") for n, shape in enumerate(shapes)]
    model = ov.Model([ops.relu(ops.convert(entry, np.float32)) for entry in entries], entries)
    return SourceModel(model, "ir", "an OpenVINO IR", "m.xml", "", None)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [([[1, 2], [1, 2]], "2 inputs"), ([[3, 8]], "--batch"), ([[-1, -1]], "--input")],
)
def test_networks_that_cannot_be_compared_say_why(shapes, said):
    with pytest.raises(Refused, match=said):
        with_batch(graph_with(*shapes), 2)


def test_an_open_batch_is_filled():
    assert with_batch(graph_with([-1, 8]), 2).input(0).shape == [2, 8]


@pytest.mark.parametrize(
    ("shape", "kind", "least", "most"),
    [
        ([2, 3, 8, 8], np.float32, -1, 1),
        ([2, 8, 8, 3], np.uint8, 0, 255),
        ([2, 8, 8, 3], np.int8, -128, 127),
        ([2, 7], np.float32, -1, 1),
    ],
)
def test_inputs_are_pictures_where_the_network_takes_them(shape, kind, least, most):
    model = with_batch(graph_with(shape, kind=kind), 2)
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    tensor = sample(model, 2, [black, white])
    assert (list(tensor.shape), tensor.dtype) == (shape, kind)
    if len(shape) == 4:
        assert (tensor[0] == least).all()
        assert (tensor[1] == most).all()
    else:
        assert least <= tensor.min() < tensor.max() <= most


def test_a_framework_that_is_not_installed_names_the_package(network, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Refused, match=r"onnxruntime is not installed: .*pip install 'cpuserve\[onnx\]'"):
        load("onnxruntime", str(network), {}, np.zeros((1, 3, 8, 8), np.float32), 1, "f32")


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("framework", "file"),
    [
        ("tflite", "vww_96_float.tflite"),
        ("tensorflow", "mobilenet_v1_0.25_128_frozen.pb"),
    ],
)
def test_tensorflow_and_its_lite(framework, file, data_dir, tmp_path):
    source = str(data_dir / "models" / file)
    tensor = sample(with_batch(read_source(source), 1), 1, [np.full((20, 20, 3), 99, np.uint8)])
    entry = run(source, [framework], [tensor], tmp_path)[1]
    assert not entry.refused
    assert entry.difference == pytest.approx(0, abs=1e-4)


NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
"""


@pytest.mark.frameworks
def test_torch_and_its_compiler(tmp_path, monkeypatch):
    (tmp_path / "small_net.py").write_text(NET)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    words = ["[1,3,2,2]"]
    tensor = sample(
        with_batch(read_source("small_net:net", input_shapes(words)), 1), 1, [np.full((4, 4, 3), 9, np.uint8)]
    )
    for entry in run("small_net:net", ["torch", "torch.compile"], [tensor], tmp_path, shapes=words)[1:]:
        assert not entry.refused
        assert entry.difference == pytest.approx(0, abs=1e-5)
