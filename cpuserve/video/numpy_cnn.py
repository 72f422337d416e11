"""The network of three convolutions that is trained for one query, in numpy: forwards, backwards, Adam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpuserve.serving.engine import Array

__all__ = ["Adam", "NumpyCnn"]

_KERNEL = 3
_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8


@dataclass
class NumpyCnn:
    """Three 3x3 convolutions of stride 2 with ReLU, a dense layer with ReLU, and one logit.

    Attributes:
        mean: f32 [h, w, c], mean of the training frames, 0 to 1.
        weights: f32, by layer: ``conv0..2`` [9 * c_in, c_out], ``dense`` [features, d], ``out`` [d, 1], and
            ``NAME.bias`` of each.
    """

    mean: Array
    weights: dict[str, Array]

    @classmethod
    def made(cls, mean: Array, filters: int, dense: int, seed: int) -> NumpyCnn:
        """A network with random weights.

        Args:
            mean: f32 [h, w, c], mean of the training frames, 0 to 1.
            filters: of the first convolution; the next ones have two and four times as many.
            dense: width of the dense layer.
            seed: of the weights.
        """
        random = np.random.default_rng(seed)
        height, width, channels = mean.shape
        weights: dict[str, Array] = {}
        for place in range(3):
            inputs, channels = _KERNEL * _KERNEL * channels, filters << place
            weights |= _layer(random, f"conv{place}", inputs, channels)
            height, width = (height + 1) // 2, (width + 1) // 2
        weights |= _layer(random, "dense", height * width * channels, dense)
        weights |= _layer(random, "out", dense, 1)
        return cls(mean, weights)

    def logits(self, pixels: Array) -> Array:
        """Logits f32 [n] of u8 or f32 [n, h, w, c], 0 to 255."""
        return self._forward(pixels, None)[-1].reshape(-1)

    def probability(self, pixels: Array, batch: int = 256) -> Array:
        """Probability that the object is there, f32 [n]."""
        parts = [self.logits(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        found: Array = 1 / (1 + np.exp(-np.concatenate(parts)))
        return found

    def gradients(
        self, pixels: Array, labels: Array, share: Array, keep: Array | None
    ) -> tuple[float, dict[str, Array]]:
        """Loss, and its slope by weight.

        Args:
            pixels: f32 [n, h, w, c], 0 to 255.
            labels: bool [n].
            share: f32 [n], how much each frame counts.
            keep: f32 [n, d], what outputs of the dense layer are multiplied by (dropout); None: by 1.
        """
        steps = self._forward(pixels, keep)
        logits = steps[-1].reshape(-1)
        loss = float((share * (np.logaddexp(0, logits) - labels * logits)).mean())
        slope = (share * (1 / (1 + np.exp(-logits)) - labels) / len(labels)).astype(np.float32)[:, None]
        found: dict[str, Array] = {}
        hidden, flat = steps[-2], steps[-3]
        slope = self._dense_back("out", hidden, slope, found)
        slope = slope * (hidden > 0) if keep is None else slope * keep * (hidden > 0)
        slope = self._dense_back("dense", flat.reshape(len(flat), -1), slope, found).reshape(flat.shape)
        for place in (2, 1, 0):
            slope = slope * (steps[place + 1] > 0)
            slope = self._conv_back(place, steps[place], slope, found)
        return loss, found

    def _forward(self, pixels: Array, keep: Array | None) -> list[Array]:
        """What every layer answers, from the pixels less their mean to the logits."""
        steps = [pixels.astype(np.float32) * np.float32(1 / 255) - self.mean]
        for place in range(3):
            columns = _columns(steps[-1])
            answer = columns @ self.weights[f"conv{place}"] + self.weights[f"conv{place}.bias"]
            steps.append(np.maximum(answer, 0))
        flat = steps[-1].reshape(len(pixels), -1)
        hidden = np.maximum(flat @ self.weights["dense"] + self.weights["dense.bias"], 0)
        steps.append(hidden if keep is None else hidden * keep)
        steps.append(steps[-1] @ self.weights["out"] + self.weights["out.bias"])
        return steps

    def _dense_back(self, name: str, inputs: Array, slope: Array, found: dict[str, Array]) -> Array:
        found[name] = inputs.T @ slope
        found[f"{name}.bias"] = slope.sum(axis=0)
        back: Array = slope @ self.weights[name].T
        return back

    def _conv_back(self, place: int, inputs: Array, slope: Array, found: dict[str, Array]) -> Array:
        """The slope by the inputs of a convolution; puts those by its weights into ``found``."""
        name = f"conv{place}"
        flat = slope.reshape(-1, slope.shape[-1])
        found[name] = _columns(inputs).reshape(len(flat), -1).T @ flat
        found[f"{name}.bias"] = flat.sum(axis=0)
        if place == 0:
            return slope  # nothing learns from the slope by the pixels
        count, height, width, channels = inputs.shape
        down, across = slope.shape[1:3]
        columns = (flat @ self.weights[name].T).reshape(count, down, across, -1)
        padded = np.zeros((count, 2 * down + 2, 2 * across + 2, channels), np.float32)
        for step in range(_KERNEL * _KERNEL):
            top, left = divmod(step, _KERNEL)
            part = columns[..., step * channels : (step + 1) * channels]
            padded[:, top : top + 2 * down : 2, left : left + 2 * across : 2] += part
        return padded[:, 1 : height + 1, 1 : width + 1]


class Adam:
    """Adam with weight decay, over a dictionary of weights that it changes in place.

    Args:
        weights: to be learnt.
        rate: step size.
        decay: share of a weight that is taken away by a step of size 1; biases keep theirs.
    """

    def __init__(self, weights: dict[str, Array], rate: float, decay: float) -> None:
        self._weights = weights
        self._rate, self._decay = rate, decay
        self._first = {name: np.zeros_like(value) for name, value in weights.items()}
        self._second = {name: np.zeros_like(value) for name, value in weights.items()}
        self._steps = 0

    def step(self, slopes: dict[str, Array]) -> None:
        """Moves every weight against its slope."""
        self._steps += 1
        rate = self._rate * (1 - _BETA2**self._steps) ** 0.5 / (1 - _BETA1**self._steps)
        for name, slope in slopes.items():
            first, second, weight = self._first[name], self._second[name], self._weights[name]
            first += (1 - _BETA1) * (slope - first)
            second += (1 - _BETA2) * (slope * slope - second)
            if not name.endswith(".bias"):
                weight *= np.float32(1 - self._rate * self._decay)
            weight -= np.float32(rate) * first / (np.sqrt(second) + np.float32(_TINY))


def _layer(random: np.random.Generator, name: str, inputs: int, outputs: int) -> dict[str, Array]:
    spread = (2 / inputs) ** 0.5
    weights = random.normal(0, spread, (inputs, outputs)).astype(np.float32)
    return {name: weights, f"{name}.bias": np.zeros(outputs, np.float32)}


def _columns(values: Array) -> Array:
    """The 3x3 pixels that each output of a convolution of stride 2 sees: [n, (h+1)//2, (w+1)//2, 9 * c]."""
    count, height, width, channels = values.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    padded = np.zeros((count, 2 * down + 2, 2 * across + 2, channels), np.float32)
    padded[:, 1 : height + 1, 1 : width + 1] = values
    found = np.empty((count, down, across, _KERNEL * _KERNEL * channels), np.float32)
    for step in range(_KERNEL * _KERNEL):
        top, left = divmod(step, _KERNEL)
        part = padded[:, top : top + 2 * down : 2, left : left + 2 * across : 2]
        found[..., step * channels : (step + 1) * channels] = part
    return found
