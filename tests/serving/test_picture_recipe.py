"""Pixels become a model's input as its graph, its exporter or its framework says, and the reason is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from onnx import TensorProto
from openvino import opset13 as ops

from cpuserve.models.card import Card
from cpuserve.models.exporter_metadata import ExporterMetadata
from cpuserve.serving.graph import image_graph, image_input, with_batch
from cpuserve.serving.loader import read
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_recipe import integer_recipe, source_recipe
from tests.serving.test_input_quantisation import quantised_onnx

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
ONNX = ExporterMetadata("onnx", "pytorch")
IMAGENET = {"mean_values": (123.675, 116.28, 103.53), "scale_values": (58.395, 57.12, 57.375)}


def plain(kind: Any = np.float32, channels: int = 3) -> ov.Model:
    data = ops.parameter([1, 4, 4, channels], kind, name="x")
    return ov.Model([ops.reduce_mean(ops.convert(data, np.float32), np.array([1, 2]))], [data])


def fed(model: ov.Model, card: Card, pixels: Any) -> Any:
    """What the operations of a served graph get for a picture of one colour: its mean in real numbers."""
    source = image_input(model, card)
    assert source is not None
    single = with_batch(image_graph(model, source, card), 1)
    picture = np.broadcast_to(np.asarray(pixels, np.uint8), (1, source.height, source.width, 3)).copy()
    return np.array(openvino_core().compile_model(single, "CPU", EXACT)(picture)[0])[0]


def quantise(real: Any, kind: Any, scale: float, zero: int) -> Any:
    """The real numbers that a quantised input holds instead of these."""
    limits = np.iinfo(kind)
    return (np.clip(np.round(np.asarray(real) / scale) + zero, limits.min, limits.max) - zero) * scale


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("kind", "scale", "zero", "said", "real"),
    [
        (np.int8, 1 / 255, -128, {}, lambda p: p / 255),
        (np.uint8, 1 / 255, 0, {}, lambda p: p / 255),
        (np.int8, 1 / 255, -128, {"scale_values": (255.0,)}, lambda p: p / 255),
        (np.int8, 1 / 255, -128, {"mean_values": (128.0,)}, lambda p: p / 255),  # makes the integers
        (
            np.uint8,
            2 / 255,
            128,
            {"mean_values": (127.5,), "scale_values": (127.5,)},
            lambda p: p / 127.5 - 1,
        ),
        (np.int8, 2 / 255, 0, {}, lambda p: p / 127.5 - 1),
        (np.int8, 1 / 127, 0, {"scale_values": (255.0,)}, lambda p: p / 255),  # half of the bytes
        (np.int8, 0.0186, -14, IMAGENET, lambda p: (p - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]),
        (np.int16, 1 / 32767, 0, {}, lambda p: p / 255),
        (
            np.int16,
            1 / 32767,
            0,
            {"mean_values": (127.5,), "scale_values": (127.5,)},
            lambda p: p / 127.5 - 1,
        ),
    ],
)
def test_quantised_inputs_are_fed_as_the_graph_says(
    tmp_path: Path, kind: Any, scale: float, zero: int, said: dict[str, Any], real: Any, layout: str
):
    number = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8, np.int16: TensorProto.INT16}[kind]
    model = openvino_core().read_model(quantised_onnx(tmp_path, number, scale, zero, layout=layout))
    card = source_recipe(model, Card(**said), said, ONNX).card
    for pixels in ([0, 0, 0], [255, 255, 255], [12, 130, 201]):
        wanted = quantise(real(np.array(pixels, np.float64)), kind, scale, zero)
        assert fed(model, card, pixels) == pytest.approx(wanted, abs=1.01 * scale + 0.002), pixels


def test_a_scale_for_each_channel_makes_the_integers(tmp_path: Path):
    steps, zeros = np.array([0.004, 0.008, 0.006]), np.array([0, 10, 128])
    model = openvino_core().read_model(quantised_onnx(tmp_path, TensorProto.UINT8, steps, zeros))
    bytes_ = source_recipe(model, Card(), (), ONNX).card
    assert fed(model, bytes_, [12, 130, 201]) == pytest.approx(
        (np.array([12, 130, 201]) - zeros) * steps, 1e-4
    )
    said: dict[str, Any] = {"scale_values": (255.0,)}
    real = source_recipe(model, Card(**said), said, ONNX).card
    assert fed(model, real, [12, 130, 100]) == pytest.approx([12 / 255, 130 / 255, 100 / 255], abs=0.008)


def test_real_inputs_take_mean_and_scale_from_the_range_they_are_quantised_for(tmp_path: Path):
    for steps, zero, values in ((1 / 255, 0, ((), (255.0,))), (2 / 255, 128, ((127.5,), (127.5,)))):
        model = openvino_core().read_model(
            quantised_onnx(tmp_path, TensorProto.UINT8, steps, zero, real=True)
        )
        found = source_recipe(model, Card(), (), ONNX)
        assert (found.card.mean_values, found.card.scale_values) == values
        assert "the input is quantised for" in found.reasons[1]
    odd = openvino_core().read_model(quantised_onnx(tmp_path, TensorProto.UINT8, 0.1, 30, real=True))
    found = source_recipe(odd, Card(), (), ONNX)
    assert found.card.scale_values == ()
    assert "quantised for -3 to 22.5: give --mean_values" in found.reasons[1]


def test_mean_and_scale_that_leave_the_range_are_told(tmp_path: Path):
    model = openvino_core().read_model(quantised_onnx(tmp_path, TensorProto.UINT8, 1 / 255, 0, real=True))
    said: dict[str, Any] = {"mean_values": (1.0,)}
    (_, reason) = source_recipe(model, Card(**said), said, ONNX).reasons
    assert reason.startswith("0 to 255 becomes -1 to 254, but the input holds 0 to 1: check --mean_values")


@pytest.mark.parametrize(
    ("metadata", "card", "order", "why"),
    [
        (ExporterMetadata("tf"), Card(), "RGB", "most models of TensorFlow take it"),
        (ExporterMetadata("tflite"), Card(), "RGB", "TensorFlow Lite"),
        (ExporterMetadata("pytorch"), Card(), "RGB", "PyTorch"),
        (ExporterMetadata("paddle"), Card(), "RGB", "PaddlePaddle"),
        (ExporterMetadata("onnx", "pytorch"), Card(), "RGB", "PyTorch"),
        (ExporterMetadata("onnx", "tf2onnx"), Card(), "RGB", "TensorFlow"),
        (ExporterMetadata("onnx", "caffe2onnx"), Card(), "BGR", "Caffe"),
        (ExporterMetadata("onnx", "onnx.quantize"), Card(), "RGB", "onnxruntime's quantiser"),
        (ExporterMetadata("onnx", "somebody"), Card(), "BGR", "nothing says the order"),
        (ONNX, Card(model_type="YOLOX"), "BGR", "OpenCV"),
        (ONNX, Card(model_type="YOLOv8"), "RGB", "YOLOv8"),
        (ONNX, Card(mean_values=(103.5, 116.3, 123.7)), "BGR", "red has the largest mean"),
        (
            ExporterMetadata("onnx"),
            Card(mean_values=(123.7, 116.3, 103.5)),
            "RGB",
            "red has the largest mean",
        ),
    ],
)
def test_the_colour_order_is_taken_by_evidence(metadata: ExporterMetadata, card: Card, order: str, why: str):
    found = source_recipe(plain(), card, {"mean_values"} if card.mean_values else (), metadata)
    assert found.card.reverse_input_channels == (order == "RGB")
    other = (
        "--no-reverse_input_channels gives BGR" if order == "RGB" else "--reverse_input_channels gives RGB"
    )
    assert found.reasons[0].startswith(f"{order}: ")
    assert why in found.reasons[0]
    assert found.reasons[0].endswith(other)


def test_what_is_said_is_taken_without_a_word():
    for rgb in (True, False):
        said = {"reverse_input_channels": rgb, "scale_values": (255.0,)}
        found = source_recipe(plain(), Card(**said), said, ExporterMetadata("tf"))
        assert (found.card, found.reasons) == (Card(**said), ())
    metadata = ExporterMetadata("onnx", "", "Its metadata", {"reverse_input_channels": True})
    said = {"reverse_input_channels": False}
    assert source_recipe(plain(np.uint8), Card(**said), said, metadata).reasons == ()
    brought = source_recipe(plain(np.uint8), Card(reverse_input_channels=True), metadata.said, metadata)
    assert brought.reasons == ("RGB: Its metadata say so; --no-reverse_input_channels gives BGR",)


def test_the_order_of_a_judged_type_and_of_variable_sides_is_taken_too():
    found = source_recipe(plain(), Card(), (), ONNX, "NanoDet")
    assert found.card == Card()
    assert found.reasons[0].startswith("BGR: NanoDet models read pictures with OpenCV")
    data = ops.parameter(ov.PartialShape([-1, 3, -1, -1]), np.float32, name="x")
    variable = ov.Model([ops.reduce_mean(data, np.array([2, 3]))], [data])
    assert source_recipe(variable, Card(), (), ONNX).card.reverse_input_channels


def test_grey_models_and_models_without_pictures_have_no_colour_order():
    (reason,) = source_recipe(plain(channels=1), Card(), (), ONNX).reasons
    assert reason.startswith("pixels stay 0 to 255, as nothing says mean and scale")
    assert source_recipe(plain(channels=7), Card(), (), ONNX).reasons == ()


def test_an_ir_with_signed_bytes_and_no_mean_gets_pixels_less_128(tmp_path: Path):
    model = plain(np.int8)
    ov.save_model(model, tmp_path / "model.xml")
    card = Card.read(read(openvino_core(), tmp_path / "model.xml"))
    assert card.mean_values == (128.0,)
    assert fed(plain(np.int8), card, [0, 128, 255]).tolist() == [-128, 0, 127]
    for said in (Card(mean_values=(1.0,)), Card(scale_values=(2.0,))):
        assert integer_recipe(model, said) == said
    assert integer_recipe(plain(np.uint8), Card()) == Card()


@pytest.mark.parametrize(
    ("card", "channels", "words"),
    [
        (Card(), 3, "BGR, 0 to 255"),
        (Card(), 1, "grey, 0 to 255"),
        (Card(reverse_input_channels=True, scale_values=(255.0,)), 3, "RGB, value / 255"),
        (Card(mean_values=(128.0,), scale_values=(1.0,)), 3, "BGR, value - 128"),
        (Card(mean_values=(1.0, 2.0, 3.0), scale_values=(4.0,) * 3), 3, "BGR, (value - [1 2 3]) / 4"),
    ],
)
def test_the_recipe_in_words(card: Card, channels: int, words: str):
    assert card.pixels(channels) == words
