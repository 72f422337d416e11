"""The card: it survives the IR, and reads what other exporters write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import ModelLoadError
from cpuserve.models.card import Card
from cpuserve.serving.openvino_core import openvino_core

FULL = Card(
    model_type="Classification",
    labels=("Egyptian cat", "snake_case", 'a "quoted", <odd> & é'),
    layout="NHWC",
    resize_type="fit_to_window_letterbox",
    interpolation_mode="CUBIC",
    pad_value=114,
    mean_values=(123.675, 116.28, 103.53),
    scale_values=(58.395, 57.12, 57.375),
    reverse_input_channels=True,
    input_dtype="u8",
    embedded_processing=True,
    output_raw_scores=True,
    confidence_threshold=0.25,
    topk=3,
    decode="exact",
    precision="f32",
    licence="Apache-2.0",
    source="https://example.org/m.onnx",
    description="A model, for tests",
)


@pytest.fixture
def model() -> ov.Model:
    data = ops.parameter([1, 2], np.float32, name="data")
    return ov.Model([ops.relu(data)], [data], "tiny")


def test_a_card_survives_the_ir(model: ov.Model, tmp_path: Path):
    FULL.write(model)
    assert Card.read(model) == FULL
    ov.save_model(model, tmp_path / "model.xml")
    assert Card.read(openvino_core().read_model(tmp_path / "model.xml")) == FULL


def test_model_api_finds_its_keys(model: ov.Model):
    FULL.write(model)
    info = {key: str(value) for key, value in model.get_rt_info(["model_info"]).value.items()}
    assert info["labels"].split() == ["Egyptian_cat", "snake_case", 'a_"quoted",_<odd>_&_é']
    assert info["mean_values"] == "123.675 116.28 103.53"
    assert info["reverse_input_channels"] == "True"
    assert info["pad_value"] == "114"
    assert "licence" not in info


def test_a_model_without_metadata_has_the_default_card(model: ov.Model):
    assert Card.read(model) == Card()


def test_writing_again_leaves_nothing_of_the_old_card(model: ov.Model):
    FULL.write(model)
    Card(model_type="Segmentation").write(model)
    assert Card.read(model) == Card(model_type="Segmentation")


def test_values_that_are_not_text_yet_are_read(model: ov.Model):
    model.set_rt_info(True, ["model_info", "reverse_input_channels"])
    model.set_rt_info(["cat", "hot_dog"], ["model_info", "labels"])
    model.set_rt_info(0.5, ["model_info", "confidence_threshold"])
    model.set_rt_info("deep", ["model_info", "nested", "key"])
    card = Card.read(model)
    assert (card.reverse_input_channels, card.labels, card.confidence_threshold) == (
        True,
        ("cat", "hot dog"),
        0.5,
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("labels", "cat hot_dog", ("cat", "hot dog")),
        ("labels", "cat,hot dog, bird", ("cat", "hot dog", "bird")),
        ("labels", "tench,_Tinca_tinca goldfish", ("tench, Tinca tinca", "goldfish")),
        ("mean_values", "123.675 116.28 103.53", (123.675, 116.28, 103.53)),
        ("mean_values", "[123.675, 116.28,103.53]", (123.675, 116.28, 103.53)),
        ("scale_values", "255", (255.0,)),
        ("scale_values", "", ()),
        ("reverse_input_channels", "YES", True),
        ("reverse_input_channels", "1", True),
        ("embedded_processing", "false", False),
        ("embedded_processing", "NO", False),
        ("pad_value", "114.0", 114),
        ("confidence_threshold", "", None),
        ("interpolation_mode", "linear", "LINEAR"),
        ("resize_type", " Standard ", "standard"),
        ("topk", "5", 5),
    ],
)
def test_what_exporters_write(key: str, text: str, value: object):
    assert getattr(Card.from_sections({key: text, "unknown": "x"}, {}), key) == value


def test_the_exact_labels_win():
    card = Card.from_sections({"labels": "Egyptian_cat a_b"}, {"labels": '["Egyptian cat", "a_b"]'})
    assert card.labels == ("Egyptian cat", "a_b")


@pytest.mark.parametrize(
    ("section", "key", "text"),
    [
        ("model_info", "resize_type", "squash"),
        ("model_info", "interpolation_mode", "LANCZOS"),
        ("model_info", "pad_value", "256"),
        ("model_info", "pad_value", "1.5"),
        ("model_info", "mean_values", "1 3 two"),
        ("model_info", "mean_values", "nan"),
        ("model_info", "scale_values", "255 0 255"),
        ("model_info", "reverse_input_channels", "perhaps"),
        ("model_info", "confidence_threshold", "high"),
        ("model_info", "topk", "0"),
        ("model_info", "topk", "inf"),
        ("cpuserve", "decode", "quick"),
        ("cpuserve", "precision", "int4"),
        ("cpuserve", "labels", '["a", 1]'),
        ("cpuserve", "labels", "a b"),
    ],
)
def test_a_bad_value_is_refused_by_key_and_value(section: str, key: str, text: str):
    sections = {"model_info": {}, "cpuserve": {}, section: {key: text}}
    with pytest.raises(ModelLoadError) as refusal:
        Card.from_sections(sections["model_info"], sections["cpuserve"])
    assert f"rt_info/{section}/{key} is " in str(refusal.value)
    assert text.rsplit(maxsplit=1)[-1].strip("[]") in str(refusal.value)


def test_importing_the_card_loads_no_openvino():
    check = "import sys, cpuserve.models.card; sys.exit('openvino' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
