"""Pictures of disk become what served pictures become."""

from __future__ import annotations

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.authoring.evaluation_rows import EvaluationModel
from cpuserve.authoring.labelled_pictures import LabelledPicture
from cpuserve.errors import ModelLoadError, UsageError
from cpuserve.models.card import Card
from cpuserve.models.repository import ModelFile
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.picture_input import PictureSize
from cpuserve.settings import Settings

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
CARD = Card(
    model_type="Segmentation",
    layout="NCHW",
    resize_type="fit_to_window_letterbox",
    pad_value=7,
    mean_values=(1.0, 2.0, 3.0),
    scale_values=(2.0,),
    reverse_input_channels=True,
)


def opened(tmp_path, card: Card = CARD, shape: tuple[int, ...] = (1, 3, 6, 8)) -> EvaluationModel:
    data = ops.parameter(shape, np.float32, name="data")
    data.output(0).set_names({"data"})
    weights = np.random.default_rng(0).random((4, shape[1], 1, 1), np.float32)
    network = ops.convolution(data, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([ops.result(network)], [data])
    card.write(model)
    ov.save_model(model, tmp_path / "model.xml")
    return EvaluationModel.of(openvino_core(), ModelFile("tiny", 1, tmp_path / "model.xml"), Settings())


def picture(tmp_path, name: str = "a.png") -> LabelledPicture:
    pixels = np.random.default_rng(1).integers(0, 255, (12, 10, 3), np.uint8)
    cv2.imwrite(str(tmp_path / name), pixels)
    return LabelledPicture(tmp_path / name)


def test_what_is_calibrated_with_is_what_the_served_graph_computes(tmp_path):
    model = opened(tmp_path)
    (row,) = model.rows([picture(tmp_path)]).rows
    assert (row.shape, row[0, 0].tolist()) == ((6, 8, 3), [7, 7, 7])
    served = openvino_core().compile_model(model.served(model.model), "CPU", F32)(row[None])[0]
    given = model.prepare(row)
    assert given.shape == (1, 3, 6, 8)
    np.testing.assert_allclose(given[0, :, 0, 0], [(7 - 1) / 2, (7 - 2) / 2, (7 - 3) / 2])
    found = openvino_core().compile_model(model.model, "CPU", F32)(given)[0]
    np.testing.assert_allclose(found, served, atol=1e-4)


def test_damaged_pictures_are_left_out_with_the_reason(tmp_path):
    model, good = opened(tmp_path), picture(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    seen: list[None] = []
    samples = [LabelledPicture(tmp_path / "bad.jpg"), good, LabelledPicture(tmp_path / "gone.jpg")]
    found = model.rows(samples, lambda: seen.append(None))
    assert (found.pictures, found.frames) == ([good], [PictureSize(width=10, height=12)])
    assert [file.name for file, _ in found.left_out] == ["bad.jpg", "gone.jpg"]
    assert "No such file" in found.left_out[1][1]
    assert len(seen) == 3
    with pytest.raises(UsageError, match=r"none of 1 pictures .*bad.jpg"):
        model.rows(samples[:1])


def test_a_mask_goes_the_way_of_its_picture_and_its_border_does_not_count(tmp_path):
    model = opened(tmp_path)
    ids = np.full((12, 10), 3, np.uint8)
    for name, stored in {"grey.png": ids, "three.bmp": np.dstack([ids] * 3)}.items():
        cv2.imwrite(str(tmp_path / name), stored)
        mask = model.mask(LabelledPicture(tmp_path / "a.png", mask=tmp_path / name))
        assert mask.shape == (6, 8)
        assert sorted({*mask.ravel().tolist()}) == [3, 255]
        assert mask[0, 0] == 255


def test_what_is_no_mask_is_refused(tmp_path):
    model, colours = opened(tmp_path), picture(tmp_path)
    for sample in (
        LabelledPicture(colours.file, mask=colours.file),
        LabelledPicture(colours.file, mask=tmp_path / "gone.png"),
    ):
        with pytest.raises(UsageError, match="is no mask: a mask is a grey picture of 8 bit"):
            model.mask(sample)


def test_a_segmentation_has_no_boxes(tmp_path):
    model = opened(tmp_path)
    found = model.rows([picture(tmp_path)])
    find = model.detector(found.frames)
    with pytest.raises(UsageError, match="the model answers classes, not detections"):
        find([np.zeros((4, 6, 8), np.float32)], 0)


def test_a_model_without_pictures_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="tiny takes no pictures"):
        opened(tmp_path, Card(), (1, 5, 6, 8))


def test_a_graph_whose_outputs_a_server_reads_otherwise_is_seen(tmp_path):
    """Logits get a softmax, and probabilities do not: which of them it has, the graph says."""
    data = ops.parameter([1, 6, 8, 3], np.float32, name="data")
    means = ops.reduce_mean(data, np.array([1, 2]))
    logits, shares = (
        ov.Model([ops.result(end)], [data], "tiny") for end in (means, ops.softmax(means, axis=1))
    )
    Card(model_type="Classification").write(shares)
    ov.save_model(shares, tmp_path / "m.xml")
    model = EvaluationModel.of(openvino_core(), ModelFile("tiny", 1, tmp_path / "m.xml"), Settings())
    found = model.rows([picture(tmp_path)])
    assert model.reads_alike(openvino_core(), model.model, found)
    assert not model.reads_alike(openvino_core(), logits, found)
