"""Models of the catalogue answer real photos rightly, in every batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from cpuserve.authoring.catalog import CatalogFile, entries, find, label_names
from cpuserve.authoring.pull import publish_entry
from cpuserve.authoring.source import read_model
from cpuserve.errors import ModelLoadError, RepositoryError
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
CLASSIFIERS = ["mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_frozen", "mobilenet_v1_0.25_128_frozen"]
PHOTOS = ["golden_retriever.jpeg", "zebra.jpeg", "orange.png", "cat_1080p.jpg", "pets.jpg"]


@pytest.fixture(scope="session")
def built(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ov.Model]:
    """Every model of the catalogue, built into one repository and read back."""
    repository = Repository(tmp_path_factory.mktemp("build") / "ir_models")
    models: dict[str, ov.Model] = {}
    for entry in entries().values():
        labels = entry.labels
        if isinstance(labels, CatalogFile):
            labels = label_names((data_dir / "models" / labels.file).read_text())
        file = publish_entry(entry, data_dir / "models" / entry.source.file, labels, repository)
        assert (file.name, file.version, file.xml.name) == (entry.name, 1, "model.xml")
        models[entry.name] = openvino_core().read_model(file.xml)
    return models


def feed(image: Path, model: ov.Model) -> NDArray[Any]:
    """One row as the card says, the expected answers' way: full decode, one bilinear resize."""
    card = Card.read(model)
    height, width = (model.inputs[0].get_partial_shape()[axis].get_length() for axis in (1, 2))
    picture = cv2.imread(str(image))
    assert picture is not None
    pixels = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    assert card.reverse_input_channels
    row = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.float32)
    row -= np.array(card.mean_values or 0, np.float32)
    row /= np.array(card.scale_values or 1, np.float32)
    return row[None].astype(model.inputs[0].get_element_type().to_dtype())


def run(model: ov.Model, rows: NDArray[Any]) -> NDArray[Any]:
    model = model.clone()
    model.reshape(list(rows.shape))
    compiled = openvino_core().compile_model(model, "CPU", EXACT)
    return np.array(compiled(rows)[0])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_photos_are_named_as_expected(
    name: str, built: dict[str, ov.Model], data_dir: Path, expected: dict[str, Any]
):
    model = built[name]
    labels = Card.read(model).labels
    rows = np.concatenate([feed(data_dir / "images" / photo, model) for photo in PHOTOS[:4]])
    answers = run(model, rows)
    for photo, answer in zip(PHOTOS, answers, strict=False):
        index, label, probability = expected["classify"][find(name).source.file][photo][0]
        assert (photo, answer.argmax(), labels[answer.argmax()]) == (photo, index, label)
        assert answer.max() == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("name", ["deeplabv3_257_mv_gpu", "deeplabv3_mnv2_dm05_257_frozen"])
def test_areas_are_as_expected(
    name: str, built: dict[str, ov.Model], data_dir: Path, expected: dict[str, Any]
):
    model = built[name]
    labels = Card.read(model).labels
    for photo in ("people4.jpeg", "cat_1080p.jpg"):
        classes = run(model, feed(data_dir / "images" / photo, model))
        if classes.ndim == 4:
            classes = classes.argmax(axis=3)
        areas = np.bincount(classes.ravel(), minlength=len(labels)) / classes.size
        for label, area in expected["segment"][find(name).source.file][photo].items():
            assert areas[labels.index(label)] == pytest.approx(area, abs=0.005)


def test_int8_answers_are_probabilities_in_the_graph(
    built: dict[str, ov.Model], data_dir: Path, expected: dict[str, Any]
):
    model = built["vww_96_int8"]
    assert model.outputs[0].get_element_type() == ov.Type.f32
    assert model.outputs[0].get_names() == {"Identity_int8"}
    for photo, (_, person) in list(expected["vww"]["vww_96_int8.tflite"].items())[:4]:
        answer = run(model, feed(data_dir / "images" / photo, model))[0]
        assert answer[1] == (person + 128) / 256


@pytest.mark.parametrize("name", sorted(entries()))
def test_every_model_can_be_reshaped_to_the_batches_that_are_served(name: str, built: dict[str, ov.Model]):
    for batch in (1, 2, 4, 8):
        model = built[name].clone()
        shape = model.inputs[0].get_partial_shape()
        shape[0] = batch
        model.reshape(shape)
        assert model.outputs[0].get_shape()[0] == batch


@pytest.mark.parametrize(
    "name", ["mobilenet_v2_1.0_224_quant", "mobilenet_v1_0.25_128_frozen", "vww_96_int8"]
)
def test_a_row_has_the_same_answer_in_any_batch(name: str, built: dict[str, ov.Model], data_dir: Path):
    rows = np.concatenate([feed(data_dir / "images" / photo, built[name]) for photo in PHOTOS[:4]])
    alone = np.concatenate([run(built[name], row[None]) for row in rows])
    assert np.array_equal(run(built[name], rows), alone)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("name", sorted(entries()))
def test_the_ir_says_what_the_catalogue_says(name: str, built: dict[str, ov.Model]):
    entry, model = entries()[name], built[name]
    card = Card.read(model)
    assert dataclasses.replace(card, labels=()) == entry.card
    assert model.inputs[0].get_element_type().get_type_name() == card.input_dtype
    classes = (
        21 if card.model_type == "Segmentation" else model.outputs[0].get_partial_shape()[1].get_length()
    )
    assert len(card.labels) == classes


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("mobilenet_v1_0.25_128_quantized_graph.pb", "No conversion rule found for operations: .*Dequantize"),
        ("mobilenet_v2_quant_msft_qlinear.onnx", "com.microsoft.QLinearGlobalAveragePool"),
        ("deeplab_edgetpu_slim_cityscapes_quant.tflite", "Argument shapes are inconsistent"),
    ],
)
def test_a_model_that_openvino_refuses_is_named_with_the_reason(data_dir: Path, file: str, reason: str):
    with pytest.raises(ModelLoadError, match=rf"OpenVINO \S+ cannot import {file}: .*{reason}"):
        read_model(data_dir / "models" / "rejected" / file)


def test_a_refused_file_leaves_the_repository_as_it_was(data_dir: Path, tmp_path: Path):
    repository = Repository(tmp_path / "ir_models")
    entry = find("mobilenet_v2")
    with pytest.raises(
        ModelLoadError, match=r"input shape \[1, 128, 128, 3\]; the catalogue says \[1, 224, 224, 3\]"
    ):
        publish_entry(entry, data_dir / "models" / "mobilenet_v1_0.25_128_quant.tflite", ("a",), repository)
    with pytest.raises(ModelLoadError):
        publish_entry(entry, data_dir / "README.md", ("a",), repository)
    assert not repository.root.exists()


def test_a_model_is_built_again_only_when_asked(data_dir: Path, tmp_path: Path):
    repository = Repository(tmp_path)
    entry, file = find("vww_96_int8"), data_dir / "models" / "vww_96_int8.tflite"
    publish_entry(entry, file, ("old", "labels"), repository)
    with pytest.raises(RepositoryError, match="exists"):
        publish_entry(entry, file, ("no person", "person"), repository)
    again = publish_entry(entry, file, ("no person", "person"), repository, replace=True)
    assert Card.read(openvino_core().read_model(again.xml)).labels == ("no person", "person")
