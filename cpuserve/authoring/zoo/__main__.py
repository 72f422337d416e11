"""Publishes a network with random weights in a repository, to measure a server with.

Run as ``python -m cpuserve.authoring.zoo resnet50 --model-repository DIR``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import openvino as ov
from openvino import PartialShape

from cpuserve.authoring.zoo.networks import NETWORKS, build_network
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository

__all__ = ["main"]

_MEAN, _SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's


def main() -> None:
    """Build and publish one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--model-repository", type=Path, default=Path("ir_models"))
    given = parser.parse_args()
    model = build_network(given.network)
    model.reshape(PartialShape([-1, 3, 224, 224]))
    words = "Random weights: its speed is that of the trained network, its answers mean nothing."
    card = Card(
        model_type="Classification",
        layout="NCHW",
        mean_values=_MEAN,
        scale_values=_SCALE,
        reverse_input_channels=True,
        description=words,
    )
    card.write(model)
    given.model_repository.mkdir(parents=True, exist_ok=True)
    with Repository(given.model_repository).publish(given.network, None) as folder:
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
