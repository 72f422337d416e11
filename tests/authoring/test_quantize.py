"""The metric follows the labels, a good INT8 model is published with its figures, a bad one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring import quantize as quantize_module
from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.authoring.labelled_pictures import LabelledPicture, pictures_checksum, read_pictures
from cpuserve.authoring.nncf_quantizer import QuantizeOptions
from cpuserve.authoring.quantize import QuantizeOrder, QuantizeReport, choose_metric, quantize
from cpuserve.errors import UsageError
from cpuserve.models.card import Card
from cpuserve.models.quantization_record import Validation
from cpuserve.models.repository import Repository
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings

LABELS = ("dark", "light")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A classifier of 8x8 pictures: one convolution, mean over the picture; class 1 is light."""
    data = ops.parameter([1, 8, 8, 3], np.float32, name="data")
    weights = np.concatenate([np.full((1, 3, 3, 3), -1), np.full((1, 3, 3, 3), 1)]).astype(np.float32)
    found = ops.convolution(
        ops.transpose(data, np.array([0, 3, 1, 2])), weights, [1, 1], [0, 0], [0, 0], [1, 1]
    )
    model = ov.Model([ops.result(ops.reduce_mean(found, np.array([2, 3])))], [data])
    Card(model_type="Classification", labels=LABELS, mean_values=(128.0,)).write(model)
    made = Repository(tmp_path / "models")
    with made.publish("tiny", 1) as folder:
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two dark and two light pictures, each in the folder of its class, and one damaged file."""
    for label, grey in (("dark", 30), ("light", 220)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in (0, 9):
            pixels = np.full((8, 8, 3), grey + number, np.uint8)
            pixels[0, 0] = 255 - pixels[0, 0]  # NNCF takes the mean of the pictures' ranges
            cv2.imwrite(str(tmp_path / "photos" / label / f"{number}.png"), pixels)
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def made(repository: Repository, photos: Path, metric: str = "", **options: Any) -> QuantizeReport:
    order = QuantizeOrder("tiny_int8", photos, photos, metric, 300)
    said: list[str] = []
    file = repository.find("tiny", 1)
    return quantize(repository, file, Settings(), order, QuantizeOptions(**options), said.append)


def test_a_good_model_is_published_with_its_figures_inside(repository, photos):
    result = made(repository, photos)
    assert result.published is not None
    assert (result.published.name, result.published.version) == ("tiny_int8", 1)
    kept = json.loads((result.published.xml.parent / "report.json").read_text())
    assert kept == result.report
    assert kept["metric"] == "top1"
    assert (kept["accuracy_float"], kept["accuracy"], kept["quantized_operations"]) == (1.0, 1.0, 1)
    assert (kept["validation_pictures"], kept["calibration_pictures"]) == (4, 4)
    readable = [picture.file for picture in read_pictures(photos, LABELS) if picture.file.stem != "broken"]
    assert kept["calibration_sha256"] == pictures_checksum(readable)
    assert [file.name for file, _ in result.left_out] == ["broken.png"]
    record = Validation.read(openvino_core().read_model(result.published.xml))
    assert record is not None
    assert (record.source, record.accuracy, record.speedup) == ("tiny/1", 1.0, kept["speed"]["speedup"])


def test_a_refused_model_is_not_published(repository, photos, tmp_path, monkeypatch):
    (tmp_path / "worse.py").write_text("left = [2.0, 1.0]\ndef metric(outputs, files): return left.pop(0)\n")
    monkeypatch.chdir(tmp_path)
    result = made(repository, photos, "worse:metric", accuracy_control=False, max_drop=0.5)
    assert result.published is None
    assert (result.report["accuracy_float"], result.report["accuracy"]) == (2.0, 1.0)
    assert repository.names() == ["tiny"]


def model(repository: Repository) -> EvaluationModel:
    return EvaluationModel.of(openvino_core(), repository.find("tiny", 1), Settings())


@pytest.mark.parametrize(
    ("labels", "wanted", "name"),
    [
        ({}, "", "agreement"),
        ({"classes": frozenset((0,))}, "", "top1"),
        ({"classes": frozenset((0,))}, "agreement", "agreement"),
        ({"classes": frozenset((0,))}, "areas", "areas"),
        ({"classes": frozenset((0,))}, "math:prod", "math:prod"),
    ],
)
def test_the_metric_follows_the_labels_unless_one_is_named(repository, photos, labels, wanted, name):
    pictures = model(repository).rows([LabelledPicture(photos / "dark" / "0.png", **labels)])
    assert choose_metric(model(repository), pictures, wanted).name == name


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("top1", "--metric top1 needs the class of each picture"),
        ("miou", "--metric miou needs a mask"),
        ("map", "--metric map needs boxes"),
        ("f1", "--metric f1 is none of top1, miou, map, agreement, areas"),
    ],
)
def test_a_metric_without_its_labels_is_refused(repository, photos, wanted, message):
    pictures = model(repository).rows([LabelledPicture(photos / "dark" / "0.png")])
    with pytest.raises(UsageError, match=message):
        choose_metric(model(repository), pictures, wanted)


def test_a_metric_of_labels_needs_validation_pictures(repository, photos):
    order = QuantizeOrder("tiny_int8", photos, None, "top1", 300)
    with pytest.raises(UsageError, match="--metric top1 needs --validation"):
        quantize(repository, repository.find("tiny", 1), Settings(), order, QuantizeOptions(), lambda _: None)


def test_an_int8_graph_whose_answers_a_server_would_read_otherwise_is_not_published(
    repository, photos, monkeypatch
):
    monkeypatch.setattr(EvaluationModel, "reads_alike", lambda *_: False)
    result = made(repository, photos)
    assert (result.published, result.report["decision"]) == (None, "refused")
    assert "convert the float model with --model_type" in result.report["reason"]
    assert repository.names() == ["tiny"]


def test_the_report_says_compared_with_what_on_how_much_and_how_sure(repository, photos):
    own = made(repository, photos, "agreement").report
    assert (own["compared_with"], own["answers"]) == ("the float model's own classes", 4)
    assert (own["missed"], own["invented"], own["decision"]) == (0, 0, "validated")
    assert (own["drop"], own["low"], own["high"]) == (0.0, 0.0, pytest.approx(0.49, abs=0.01))
    labels = made(repository, photos).report
    assert (labels["compared_with"], labels["answers"], labels["missed"]) == ("your labels", 4, None)
    assert "4 pictures do not prove it: the drop may be up to 0.49" in labels["reason"]


def test_labels_do_not_hide_that_a_server_would_answer_otherwise(repository, photos):
    """COCO's mAP ranks boxes: with all scores at a tenth it stays, and a server finds nothing."""
    tiny = model(repository)
    found = tiny.rows(
        read_pictures(photos / "dark", LABELS)[:1] + read_pictures(photos / "light", LABELS)[:1]
    )
    core = openvino_core()
    assert quantize_module.served_agreement(core, tiny, tiny.model, found) == 1
    turned = tiny.model.clone()
    end = turned.output(0).get_node().input_value(0)
    swapped = ov.Model([ops.result(ops.gather(end, np.array([1, 0]), np.array(1)))], turned.get_parameters())
    assert quantize_module.served_agreement(core, tiny, swapped, found) == 0
    alike = tiny.rows(read_pictures(photos / "light", LABELS)[:1])
    assert quantize_module.served_agreement(core, tiny, swapped, alike) is None  # one class: it says nothing


def test_a_model_that_a_server_would_answer_otherwise_with_is_refused_despite_its_labels(
    repository, photos, monkeypatch
):
    monkeypatch.setattr(quantize_module, "served_agreement", lambda *_: 0.2)
    result = made(repository, photos)
    assert (result.published, result.report["decision"], result.report["accuracy"]) == (None, "refused", 1.0)
    assert "agree with the float model's by 0.20 only" in result.report["reason"]
