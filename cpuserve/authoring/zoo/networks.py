"""The networks of the zoo by name, with their published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import openvino as ov

from cpuserve.authoring.zoo.densenet import densenet
from cpuserve.authoring.zoo.googlenet import googlenet
from cpuserve.authoring.zoo.layers import Builder, Layers
from cpuserve.authoring.zoo.mobilenet import mobilenet
from cpuserve.authoring.zoo.resnet import resnet
from cpuserve.authoring.zoo.shufflenet import shufflenet
from cpuserve.authoring.zoo.squeezenet import squeezenet_v1_0, squeezenet_v1_1
from cpuserve.authoring.zoo.vgg import vgg
from cpuserve.errors import UsageError

__all__ = ["NETWORKS", "ZooNetwork", "build_network"]


@dataclass(frozen=True)
class ZooNetwork:
    """A network of DeepDetect's performance report.

    Attributes:
        layers: builds its layers.
        gflops: multiply-adds of an image in thousands of millions, by the report.
        parameters: its weights in millions, by the report.
    """

    layers: Builder
    gflops: float
    parameters: float


NETWORKS = {
    "mobilenet": ZooNetwork(mobilenet, 0.5687, 4.2309),
    # The same network. The report means two kernels for its depthwise layers, of which OpenVINO has only the
    # fast one, and counted no multiply-adds for the layers that the fast one runs.
    "mobilenet_depthwise": ZooNetwork(mobilenet, 0.5514, 4.2309),
    "resnet50": ZooNetwork(partial(resnet, blocks=(3, 4, 6, 3)), 3.8580, 25.556),
    "resnet101": ZooNetwork(partial(resnet, blocks=(3, 4, 23, 3)), 7.5702, 44.548),
    "resnet152": ZooNetwork(partial(resnet, blocks=(3, 8, 36, 3)), 11.282, 60.191),
    "googlenet": ZooNetwork(googlenet, 1.5826, 6.9902),
    "densenet121": ZooNetwork(partial(densenet, blocks=(6, 12, 24, 16)), 3.0631, 7.9778),
    "densenet201": ZooNetwork(partial(densenet, blocks=(6, 12, 48, 32)), 4.7727, 20.012),
    "squeezenet_v1.0": ZooNetwork(squeezenet_v1_0, 0.8475, 1.2444),
    "squeezenet_v1.1": ZooNetwork(squeezenet_v1_1, 0.3491, 1.2315),
    "vgg16": ZooNetwork(partial(vgg, convolutions=(2, 2, 3, 3, 3)), 15.470, 138.34),
    "vgg19": ZooNetwork(partial(vgg, convolutions=(2, 2, 4, 4, 4)), 19.632, 143.65),
    "shufflenet": ZooNetwork(shufflenet, 0.1234, 1.8137),
}
"""By name, in the order of the report."""


def build_network(name: str, *, batch: int = 1, seed: int = 0) -> ov.Model:
    """Builds a network with random weights.

    Args:
        name: one of `NETWORKS`.
        batch: images in the input ``image``, f32 [batch, 3, 224, 224] around 0 with a deviation of about 1.
        seed: of the weights; the same seed gives the same weights.

    Returns:
        The model; its output ``probabilities`` is f32 [batch, 1000].

    Raises:
        UsageError: there is no such network.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    layers = Layers(seed)
    model = layers.model(NETWORKS[name].layers(layers), name)
    if batch != 1:
        model.reshape([batch, 3, 224, 224])
    return model
