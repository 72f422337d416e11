"""A model that is served from the file of its framework answers as the IR that `convert` makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpuserve.authoring.convert import ConvertOrder, convert
from cpuserve.authoring.source import read_source
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.loader import load_pipeline, new_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.request import Request
from cpuserve.settings import Settings
from tests.authoring.saved_model import write_saved_model
from tests.authoring.test_formats import PADDLE
from tests.conftest import ROOT
from tests.isa import has_vnni

EXACT = Settings(precision="f32", decode="exact")


def both(folder: Path, files: list[Path]) -> tuple[Pipeline, Pipeline]:
    """The model of ``files``, its own first, as it is served from them and from its converted form."""
    version = folder / "models" / "straight" / "1"
    version.parent.mkdir(parents=True)
    if files[0].is_dir():
        shutil.copytree(files[0], version)
    else:
        version.mkdir()
        for file in files:
            shutil.copy(file, version)
    repository = Repository(folder / "models")
    order = ConvertOrder("converted", Card(), parity=False)
    convert(read_source(str(files[0])), order, repository, Settings(), lambda _: None)
    straight, converted = (
        load_pipeline(new_core(), repository.find(name), EXACT, 1) for name in ("straight", "converted")
    )
    return straight, converted


def same(straight: Pipeline, converted: Pipeline, picture: bytes) -> Any:
    """The answer of both to a picture."""
    assert straight.inputs == converted.inputs
    assert straight.outputs == converted.outputs
    answer = straight.predict(picture, Request())
    assert answer == converted.predict(picture, Request())
    return answer


@pytest.mark.parametrize(
    "file", ["mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1_0.25_128_frozen.pb", "FastestDet.onnx"]
)
def test_a_file_answers_as_its_converted_form(data_dir: Path, tmp_path: Path, file: str):
    straight, converted = both(tmp_path, [data_dir / "models" / file])
    assert straight.pictures is not None
    if "FastestDet" in file:  # without a model type it answers tensors only
        row = np.random.default_rng(1).random((1, *straight.inputs[0].row_shape), np.float32)
        np.testing.assert_array_equal(
            straight.infer([row], Request())[0], converted.infer([row], Request())[0]
        )
    else:
        picture = (data_dir / "images" / "zebra.jpeg").read_bytes()
        assert same(straight, converted, picture)["predictions"][0]["probability"] > 0.1


def test_signed_bytes_are_fed_without_a_word_of_the_user(
    data_dir: Path, tmp_path: Path, expected: dict[str, Any]
):
    file = "vww_96_int8.tflite"
    pipelines = both(tmp_path, [data_dir / "models" / file])
    for photo, (_, person) in expected["vww"][file].items():
        answer = same(*pipelines, (data_dir / "images" / photo).read_bytes())
        found = {row["class_id"]: row["probability"] for row in answer["predictions"]}
        # CPUs without VNNI add int8 products in 16 bits, which saturate
        assert found[1] == pytest.approx((person + 128) / 256, abs=0.02 if has_vnni() else 0.06), photo


def test_a_saved_model_directory_is_a_version(data_dir: Path, tmp_path: Path):
    graph = data_dir / "models" / "mobilenet_v1_0.25_128_frozen.pb"
    tensors = ("input:0", "MobilenetV1/Predictions/Reshape_1:0")
    saved = write_saved_model(tmp_path / "saved", graph, *tensors)
    straight, converted = both(tmp_path, [saved])
    same(straight, converted, (data_dir / "images" / "zebra.jpeg").read_bytes())
    assert straight.outputs[0].names[0] == "scores"


def test_a_paddle_model_is_a_version(tmp_path: Path):
    straight, converted = both(tmp_path, [PADDLE / "tiny.pdmodel", PADDLE / "tiny.pdiparams"])
    assert straight.checksum != converted.checksum
    same(straight, converted, (ROOT / "docs" / "seven.png").read_bytes())
