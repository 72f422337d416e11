"""The list of places to cut: each of them can be, and the shares of the work add up."""

from __future__ import annotations

import pytest

from cpuserve.authoring.cutpoints import cutpoints
from cpuserve.authoring.graph_split import split_graph
from cpuserve.authoring.tensorflow_graph import FrozenGraph, split_frozen_graph
from cpuserve.serving.openvino_core import openvino_core
from tests.conftest import ROOT


def rising(points):
    shares = [point.before for point in points]
    assert shares == sorted(shares)
    assert all(point.before + point.after == pytest.approx(1) for point in points)
    return shares


def test_every_point_of_a_model_is_legal():
    model = openvino_core().read_model(ROOT / "ir_models" / "digits" / "1" / "model.xml")
    points = cutpoints(model)
    shares = rising(points)
    assert (shares[0], shares[-1] > 0.99) == (0, True)
    assert points[0].shape == (-1, 96, 96, 3)
    for point in points[1:-1]:
        split_graph(model, [], [point.name])


def test_points_of_a_frozen_graph(data_dir):
    file = data_dir / "models" / "deeplabv3_mnv2_dm05_257_frozen.pb"
    places = FrozenGraph(file)
    points = {point.name: point for point in cutpoints(openvino_core().read_model(file), places)}
    rising(points.values())
    assert points["sub_7:0"].shape == (1, 257, 257, 3)  # of the source, not of the converted graph
    assert points["sub_7:0"].after == 1
    assert points["ArgMax:0"].type == "i64"
    assert 0 < points["MobilenetV2/Conv/Conv2D:0"].before < 0.1
    split_frozen_graph(places, ["MobilenetV2/Conv/Relu6"], [])


def test_places_without_the_batch_in_front_are_left_out(data_dir):
    points = cutpoints(openvino_core().read_model(data_dir / "models" / "FastestDet.onnx"))
    assert points
    assert all(point.shape[0] == 1 for point in points)


def test_no_output_of_several_is_a_point(data_dir):
    model = openvino_core().read_model(data_dir / "models" / "nanodet_m_416.onnx")
    own = {name for port in model.outputs for name in port.get_names()}
    assert not own & {point.name for point in cutpoints(model)}
