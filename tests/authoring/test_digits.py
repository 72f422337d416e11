"""The embedded digit model: small, described, right on originals it never saw and on strokes drawn here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from sklearn.datasets import load_digits

from cpuserve.serving.openvino_core import openvino_core

FOLDER = Path(__file__).resolve().parents[2] / "ir_models" / "digits"
MODEL = FOLDER / "1" / "model.xml"
Array = np.ndarray[Any, Any]
Read = Callable[[Sequence[Array]], Array]


@pytest.fixture(scope="module")
def read() -> Read:
    """Digits told from RGB pictures, fed as the server feeds them."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino_core().compile_model(MODEL, "CPU", options)
    _, height, width, _ = compiled.inputs[0].partial_shape
    size = (width.get_length(), height.get_length())

    def told(pictures: Sequence[Array]) -> Array:
        batch = np.stack([cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in pictures])
        rows = [compiled(part.astype(np.float32))[0] for part in np.array_split(batch, len(batch) // 100 + 1)]
        answers: Array = np.concatenate(rows).argmax(1)
        return answers

    return told


class Pen:
    """Draws with cv2 in a box of 100 x 100 that lies somewhere on a square canvas."""

    def __init__(self, side: int, cover: float, width: float, shift: tuple[float, float], kind: int) -> None:
        self.mask = np.zeros((side, side), np.uint8)
        self.width, self.kind = max(1, round(width * side)), kind
        self.unit = (cover * side - self.width) / 100
        free = (1 - cover) * side
        self.left, self.top = (free * (0.5 + 0.5 * s) + self.width / 2 for s in shift)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(self.left + x * self.unit), round(self.top + y * self.unit)

    def line(self, *xy: float) -> Pen:
        points = [self._at(x, y) for x, y in zip(xy[::2], xy[1::2], strict=True)]
        for a, b in itertools.pairwise(points):
            cv2.line(self.mask, a, b, 255, self.width, self.kind)
        return self

    def poly(self, *xy: float) -> Pen:
        points = np.array([self._at(x, y) for x, y in zip(xy[::2], xy[1::2], strict=True)], np.int32)
        cv2.polylines(self.mask, [points], False, 255, self.width, self.kind)
        return self

    def ring(self, x: float, y: float, rx: float, ry: float, arc: tuple[float, float] = (0, 360)) -> Pen:
        axes = (round(rx * self.unit), round(ry * self.unit))
        cv2.ellipse(self.mask, self._at(x, y), axes, 0, *arc, 255, self.width, self.kind)
        return self


# The digits as this file draws them. None of these shapes is in the model's recipe.
PLAIN: dict[int, Callable[[Pen], Pen]] = {
    0: lambda p: p.ring(50, 50, 33, 50),
    1: lambda p: p.line(32, 22, 52, 0, 52, 100),
    2: lambda p: p.ring(50, 28, 30, 28, (190, 395)).line(74, 45, 18, 100, 82, 100),
    3: lambda p: p.ring(46, 25, 30, 25, (210, 450)).ring(46, 75, 34, 25, (270, 510)),
    4: lambda p: p.line(60, 0, 14, 68, 90, 68).line(66, 38, 66, 100),
    5: lambda p: p.line(78, 0, 28, 0, 24, 46).ring(46, 69, 34, 31, (225, 500)),
    6: lambda p: p.ring(50, 70, 28, 30).ring(76, 66, 54, 66, (180, 262)),
    7: lambda p: p.line(16, 0, 82, 0, 42, 100),
    8: lambda p: p.ring(50, 24, 25, 24).ring(50, 74, 31, 26),
    9: lambda p: p.ring(50, 28, 28, 28).line(78, 28, 72, 100),
}
OTHER: dict[int, Callable[[Pen], Pen]] = {
    0: lambda p: p.poly(45, 0, 28, 12, 20, 45, 24, 80, 40, 99, 60, 98, 76, 78, 80, 42, 72, 12, 55, 0, 45, 0),
    1: lambda p: p.line(36, 16, 54, 0, 54, 100).line(34, 100, 74, 100),
    2: lambda p: p.poly(20, 18, 36, 2, 60, 2, 76, 18, 72, 40, 46, 70, 20, 98, 50, 96, 84, 98),
    3: lambda p: p.poly(22, 4, 72, 4, 44, 40, 66, 46, 78, 66, 70, 90, 44, 100, 20, 90),
    4: lambda p: p.line(26, 4, 20, 56, 84, 56).line(68, 20, 64, 100),
    5: lambda p: p.poly(30, 4, 26, 44, 52, 40, 74, 54, 76, 80, 56, 99, 22, 94).line(30, 3, 80, 3),
    6: lambda p: p.poly(70, 2, 44, 18, 26, 48, 24, 78, 40, 99, 64, 98, 78, 78, 70, 58, 50, 52, 28, 66),
    7: lambda p: p.line(18, 4, 80, 4, 44, 100).line(36, 52, 76, 52),
    8: lambda p: p.poly(
        72, 14, 50, 0, 28, 14, 34, 36, 66, 58, 78, 80, 50, 100, 22, 80, 34, 58, 66, 38, 72, 14
    ),
    9: lambda p: p.poly(74, 20, 52, 0, 28, 14, 26, 38, 46, 52, 68, 42, 75, 18, 74, 60, 60, 90, 34, 100),
}
LOOKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # ink, paper
    "black on white": ((0, 0, 0), (255, 255, 255)),
    "white on black": ((255, 255, 255), (0, 0, 0)),
    "blue on yellow": ((30, 40, 200), (250, 230, 120)),
    "red on green of the same brightness": ((255, 0, 0), (0, 130, 0)),
}


def _drawings(look: str, noisy: bool = False) -> tuple[list[Array], Array]:
    """Both shapes of every digit on canvases, in sizes, places and pens of all kinds; the same every time."""
    rng = np.random.default_rng(5)
    ink, paper = (np.array(colour, np.float32) for colour in LOOKS[look])
    pictures, labels = [], []
    cases = itertools.product((28, 56, 112, 280), (0.4, 0.65, 0.92), (0.03, 0.06, 0.1, 0.14), (PLAIN, OTHER))
    for side, cover, width, shapes in cases:
        if width > 0.2 * cover:  # a pen wider than a fifth of the digit closes its loops
            continue
        for digit, draw in shapes.items():
            kind = cv2.LINE_AA if rng.random() < 0.5 else cv2.LINE_8
            x, y = rng.uniform(-0.8, 0.8, 2)
            pen = Pen(side, cover, width, (x, y), kind)
            draw(pen)
            picture = paper + (ink - paper) * (pen.mask[..., None] / np.float32(255))
            if noisy:
                picture = cv2.GaussianBlur(picture, (0, 0), 0.008 * side) + rng.normal(0, 16, (side, side, 1))
                picture += np.linspace(-12, 12, side)[None, :, None]
            pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
            labels.append(digit)
    return pictures, np.array(labels)


def _check(told: Array, labels: Array, over_all: float, each: float) -> None:
    right = told == labels
    wrong = sorted({(int(a), int(b)) for a, b in zip(labels[~right], told[~right], strict=True)})
    assert right.mean() >= over_all, f"{right.mean():.4f}; (drawn, read): {wrong}"
    for digit in range(10):
        share = right[labels == digit].mean()
        assert share >= each, f"digit {digit}: {share:.4f}; (drawn, read): {wrong}"


def test_files_are_small() -> None:
    assert MODEL.stat().st_size + MODEL.with_suffix(".bin").stat().st_size < 600_000


def test_model_describes_itself() -> None:
    model = openvino_core().read_model(MODEL)
    info = {
        "model_type": "Classification",
        "labels": "0 1 2 3 4 5 6 7 8 9",
        "layout": "NHWC",
        "resize_type": "standard",
        "reverse_input_channels": "True",
        "input_dtype": "u8",
    }
    assert {key: model.get_rt_info(["model_info", key]).astype(str) for key in info} == info
    (image,), (probabilities,) = model.inputs, model.outputs
    assert (image.any_name, image.element_type) == ("image", ov.Type.f32)
    assert image.partial_shape == ov.PartialShape([-1, 96, 96, 3])
    assert (probabilities.any_name, probabilities.element_type) == ("probabilities", ov.Type.f32)
    assert probabilities.partial_shape == ov.PartialShape([-1, 10])


def test_any_batch_and_any_row_gives_the_same_probabilities() -> None:
    batch = np.random.default_rng(1).integers(0, 256, (5, 96, 96, 3)).astype(np.float32)
    batch[2] = 255.0  # an empty canvas
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino_core()
    dynamic = core.compile_model(MODEL, "CPU", options)
    fixed = core.read_model(MODEL)
    fixed.reshape([5, 96, 96, 3])
    together = core.compile_model(fixed, "CPU", options)(batch)[0]
    alone = np.concatenate([dynamic(batch[i : i + 1])[0] for i in range(5)])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("how", [cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_NEAREST])
def test_originals_it_never_saw(read: Read, how: int) -> None:
    digits = load_digits()
    held_out = np.random.RandomState(0).permutation(len(digits.images))[:360]
    labels = digits.target[held_out]
    for side in (28, 100, 280):
        grey = [
            cv2.resize(
                np.round(digits.images[i] * (255 / 16)).astype(np.uint8), (side, side), interpolation=how
            )
            for i in held_out
        ]
        light = [cv2.cvtColor(g, cv2.COLOR_GRAY2RGB) for g in grey]
        for pictures in (light, [255 - p for p in light]):
            _check(read(pictures), labels, over_all=0.985, each=0.93)


@pytest.mark.parametrize("look", LOOKS)
def test_digits_drawn_with_cv2(read: Read, look: str) -> None:
    _check(*_told(read, _drawings(look)), over_all=0.97, each=0.9)


@pytest.mark.parametrize("look", ["black on white", "white on black"])
def test_digits_drawn_on_shaded_noisy_paper(read: Read, look: str) -> None:
    _check(*_told(read, _drawings(look, noisy=True)), over_all=0.97, each=0.9)


def _told(read: Read, drawings: tuple[list[Array], Array]) -> tuple[Array, Array]:
    return read(drawings[0]), drawings[1]


def test_figures_of_the_card_are_those_of_the_metrics() -> None:
    metrics = json.loads((FOLDER / "metrics.json").read_text())
    card = (FOLDER / "MODEL_CARD.md").read_text()
    for name, figures in metrics["sets"].items():
        assert f"| {name} | {figures['pictures']} | {figures['accuracy']:.2f} % |" in card
    assert metrics["held_out_accuracy_worst_set"] >= 98.5
    assert metrics["drawn_accuracy"] >= 97
