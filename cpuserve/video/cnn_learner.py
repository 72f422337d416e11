"""Changes the weights of a specialised network in training: numpy does, or PyTorch where it is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, Protocol

from cpuserve.errors import MissingExtra
from cpuserve.serving.engine import Array
from cpuserve.video.numpy_cnn import Adam, NumpyCnn

__all__ = ["CnnLearner", "Trainer", "check_trainer", "make_learner"]

Trainer = Literal["numpy", "torch"]

_RATE, _DECAY = 1e-3, 1e-2


class CnnLearner(Protocol):
    """Learns from one batch after the other."""

    def step(self, pixels: Array, labels: Array, share: Array, keep: Array) -> None:
        """Change the weights by a batch; the arguments are those of `NumpyCnn.gradients`."""

    def network(self) -> NumpyCnn:
        """The network with the weights of now, which later steps do not change."""


class NumpyLearner:
    """Learns by the slopes of `NumpyCnn`.

    Args:
        network: to begin with.
    """

    def __init__(self, network: NumpyCnn) -> None:
        self._network = network
        self._adam = Adam(network.weights, _RATE, _DECAY)

    def step(self, pixels: Array, labels: Array, share: Array, keep: Array) -> None:
        """Change the weights by a batch."""
        _loss, slopes = self._network.gradients(pixels, labels, share, keep)
        self._adam.step(slopes)

    def network(self) -> NumpyCnn:
        """The network with the weights of now."""
        weights = {name: value.copy() for name, value in self._network.weights.items()}
        return NumpyCnn(self._network.mean, weights)


def check_trainer(trainer: Trainer) -> None:
    """Refuses a trainer whose package is not installed.

    Raises:
        MissingExtra: it is not.
    """
    if trainer == "torch" and find_spec("torch") is None:
        raise MissingExtra("--trainer torch needs PyTorch (--trainer numpy needs nothing)", "torch")


def make_learner(trainer: Trainer, network: NumpyCnn) -> CnnLearner:
    """Who learns.

    Args:
        trainer: which.
        network: to begin with; it may be changed.

    Raises:
        MissingExtra: the package of the trainer is not installed.
    """
    check_trainer(trainer)
    if trainer == "torch":
        from cpuserve.video.torch_learner import TorchLearner  # noqa: PLC0415  # an extra

        return TorchLearner(network, _RATE, _DECAY)
    return NumpyLearner(network)
