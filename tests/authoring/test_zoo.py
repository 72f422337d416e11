"""The zoo's networks have the sizes that were published for them, and compute."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cpuserve.authoring.complexity import complexity, multiply_adds
from cpuserve.authoring.zoo.networks import NETWORKS, build_network
from cpuserve.errors import UsageError
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
# DeepDetect's performance report, "flops and params for each model"
GIGA_FLOPS = {
    "mobilenet": 0.5687,
    "mobilenet_depthwise": 0.5514,
    "resnet50": 3.8580,
    "resnet101": 7.5702,
    "resnet152": 11.282,
    "googlenet": 1.5826,
    "densenet121": 3.0631,
    "densenet201": 4.7727,
    "squeezenet_v1.0": 0.8475,
    "squeezenet_v1.1": 0.3491,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "shufflenet": 0.1234,
}
MILLION_PARAMETERS = {
    "mobilenet": 4.2309,
    "mobilenet_depthwise": 4.2309,
    "resnet50": 25.556,
    "resnet101": 44.548,
    "resnet152": 60.191,
    "googlenet": 6.9902,
    "densenet121": 7.9778,
    "densenet201": 20.012,
    "squeezenet_v1.0": 1.2444,
    "squeezenet_v1.1": 1.2315,
    "vgg16": 138.34,
    "vgg19": 143.65,
    "shufflenet": 1.8137,
}
NOT_COUNTED_IN_THE_REPORT = {"mobilenet_depthwise", "shufflenet"}
"""Their depthwise layers were run by a layer of DeepDetect's own, which its count passed over."""


def test_the_list_has_the_networks_and_figures_of_the_report():
    assert {name: network.gflops for name, network in NETWORKS.items()} == GIGA_FLOPS
    assert {name: network.parameters for name, network in NETWORKS.items()} == MILLION_PARAMETERS


@pytest.mark.parametrize("name", GIGA_FLOPS)
def test_sizes_are_those_of_the_report(name):
    model = build_network(name)
    found = complexity(model)
    assert found.parameters / 1e6 == pytest.approx(MILLION_PARAMETERS[name], rel=0.01)
    assert found.bytes == 4 * found.parameters
    depthwise = sum(multiply_adds(node) for node in model.get_ordered_ops() if is_depthwise(node))
    counted = found.multiply_adds - (depthwise if name in NOT_COUNTED_IN_THE_REPORT else 0)
    assert counted / 1e9 == pytest.approx(GIGA_FLOPS[name], rel=0.001)


def is_depthwise(node):
    return node.get_type_name() == "GroupConvolution" and list(node.input_value(1).get_shape())[1:3] == [1, 1]


@pytest.mark.parametrize("name", ["squeezenet_v1.1", "shufflenet"])
def test_answers_are_probabilities_that_depend_on_the_picture(name):
    images = np.random.default_rng(1).standard_normal((2, 3, 224, 224), np.float32)
    answers = openvino_core().compile_model(build_network(name, batch=2), "CPU", F32)(images)["probabilities"]
    assert answers.shape == (2, 1000)
    assert np.isfinite(answers).all()
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert 0.001 < answers.max() < 0.99  # neither all alike nor saturated
    assert not np.array_equal(answers[0], answers[1])


def test_a_seed_always_gives_the_same_weights_and_another_one_others():
    def first_weights(seed):
        model = build_network("squeezenet_v1.1", seed=seed)
        stem = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
        return stem.input_value(1).get_node().get_data().copy()

    assert np.array_equal(first_weights(3), first_weights(3))
    assert not np.array_equal(first_weights(3), first_weights(4))


def test_an_unknown_network_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"no network 'resnet51'; there are mobilenet, .*shufflenet"):
        build_network("resnet51")


def test_a_network_can_be_published_to_measure_a_server(tmp_path):
    words = ["-m", "cpuserve.authoring.zoo", "squeezenet_v1.1", "--model-repository", str(tmp_path)]
    subprocess.run([sys.executable, *words], check=True)
    file = Repository(tmp_path).find("squeezenet_v1.1")
    model = openvino_core().read_model(file.xml)
    assert Card.read(model).model_type == "Classification"
    assert model.input(0).partial_shape[0].is_dynamic
