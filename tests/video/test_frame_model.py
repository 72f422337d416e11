"""Frames that are scaled already get the server's answers, from many threads, and never too many at once."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import CpuserveError, RequestError, UnknownModel
from cpuserve.local_model import Model
from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.scale import Scale
from tests.colour_model import colour_model

RED = np.full((16, 16, 3), (200, 20, 90), np.uint8)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("models")
    colour_model(root / "rgb" / "1", rgb=True)
    colour_model(root / "bgr" / "3", rgb=False)
    return root


@pytest.fixture
def settings(repository):
    return Settings(model_repository=repository, precision="f32")


def box_model(folder: Path, **card: object) -> None:
    """Write a detector [N, 40, 80, 3] whose one box is always 20 to 60 across and 10 to 30 down."""
    entry = ops.parameter((-1, 40, 80, 3), np.float32, name="image")
    entry.output(0).set_names({"image"})
    still = ops.multiply(ops.reduce_mean(entry, np.array([1, 2, 3])), np.float32(0))
    row = ops.unsqueeze(ops.unsqueeze(ops.unsqueeze(still, 1), 2), 3)
    # DetectionOutput [N, 1, 1, 7]: image, class, score, then the corners in 0..1
    boxes = ops.add(row, np.array([0, 1, 0.9, 0.25, 0.25, 0.75, 0.75], np.float32).reshape(1, 1, 1, 7))
    boxes.output(0).set_names({"boxes"})
    model = ov.Model([ops.result(boxes)], [entry])
    Card(model_type="ssd", labels=("none", "box"), **card).write(model)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")


@pytest.mark.parametrize(("name", "colour"), [("rgb", "RGB"), ("bgr/3", "BGR")])
def test_pixels_of_the_inputs_size_get_the_answer_of_the_picture(settings, name, colour):
    file = Repository(settings.model_repository).find(name[:3])
    pixels = np.ascontiguousarray(RED if colour == "RGB" else RED[:, :, ::-1])
    with Model(file, settings) as model, open_frame_model(name, settings) as frames:
        assert frames.scale == Scale(16, 16, colour)
        assert frames.answer(pixels, 16, 16) == model.predict(RED)
        assert frames.answer(pixels, 16, 16, topk=1) == model.predict(RED, topk=1)
        assert (frames.name, frames.version) == (name[:3], file.version)
        assert len(frames.checksum) == 64


def test_boxes_are_in_the_frames_own_pixels(tmp_path):
    boxes = {}
    for fit in ("standard", "fit_to_window", "fit_to_window_letterbox", "crop"):
        box_model(tmp_path / fit / "1", resize_type=fit, pad_value=114)
        with open_frame_model(fit, Settings(model_repository=tmp_path, precision="f32")) as model:
            scale = model.scale
            assert (scale.fit, scale.pad_value) == (fit, 114)
            (found,) = model.answer(np.zeros((40, 80, 3), np.uint8), 400, 400)["detections"]
            boxes[fit] = found["box"]
    assert boxes["standard"] == pytest.approx([100, 100, 300, 300], abs=0.5)
    assert boxes["fit_to_window"] == pytest.approx([200, 100, 400, 300], abs=0.5)
    assert boxes["fit_to_window_letterbox"] == pytest.approx([0, 100, 400, 300], abs=0.5)
    assert boxes["crop"] == pytest.approx([100, 150, 300, 250], abs=0.5)


def test_many_threads_get_the_answers_to_their_own_frames(settings):
    frames = [np.full((16, 16, 3), 0, np.uint8) for _ in range(60)]
    for place, pixels in enumerate(frames):
        pixels[..., place % 3] = 200
    with open_frame_model("rgb", settings, threads=3) as model:
        with ThreadPoolExecutor(6) as callers:
            answers = list(callers.map(lambda pixels: model.answer(pixels, 16, 16), frames))
        assert [answer["predictions"][0]["class_id"] for answer in answers] == [0, 1, 2] * 20
        costs = model.costs()
        assert costs.frames == 60
        assert costs.thread_ns > 0 < costs.stages_ns["infer"]


def test_submit_waits_while_enough_frames_are_under_way(settings, monkeypatch):
    gate, entered = threading.Event(), threading.Semaphore(0)
    with open_frame_model("rgb", settings, threads=1) as model:
        answered = model._look

        def held(*given, **named):
            entered.release()
            gate.wait()
            return answered(*given, **named)

        monkeypatch.setattr(model, "_look", held)
        futures = [model.submit(RED, 16, 16) for _ in range(model.in_flight)]
        assert entered.acquire(timeout=60)
        late: list[object] = []
        caller = threading.Thread(target=lambda: late.append(model.submit(RED, 16, 16).result()))
        caller.start()
        caller.join(0.2)
        assert caller.is_alive()
        assert not late
        gate.set()
        caller.join(60)
        assert late == [future.result() for future in futures[:1]]


def test_threads_that_answer_get_no_signals(settings, monkeypatch):
    with open_frame_model("rgb", settings, threads=1) as model:
        masks: list[set[signal.Signals]] = []
        look = model._look

        def seen(*given, **named):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            return look(*given, **named)

        monkeypatch.setattr(model, "_look", seen)
        model.answer(RED, 16, 16)
    assert {signal.SIGTERM, signal.SIGINT} <= masks[0]


@pytest.mark.parametrize(
    ("pixels", "size", "why"),
    [
        (RED[:8], (16, 16), r"uint8 \[8, 16, 3\]; the model takes uint8 \[16, 16, 3\]"),
        (RED.astype(np.float32), (16, 16), "scaled pixels are float32"),
        (RED, (0, 16), "a picture of 0x16 pixels"),
    ],
)
def test_pixels_of_another_kind_are_refused_and_the_next_are_answered(settings, pixels, size, why):
    with open_frame_model("rgb", settings) as model:
        with pytest.raises(RequestError, match=why):
            model.answer(pixels, *size)
        assert model.answer(RED, 16, 16)["predictions"]


def test_a_model_that_answers_tensors_only_is_refused(tmp_path):
    entry = ops.parameter((-1, 5), np.float32, name="numbers")
    (tmp_path / "numbers" / "1").mkdir(parents=True)
    ov.save_model(ov.Model([ops.result(entry)], [entry]), tmp_path / "numbers" / "1" / "model.xml")
    with pytest.raises(CpuserveError, match="numbers cannot answer frames: it takes no pictures"):
        open_frame_model("numbers", Settings(model_repository=tmp_path, precision="f32"))


def test_an_unknown_model_is_refused(settings):
    with pytest.raises(UnknownModel):
        open_frame_model("rbg", settings)


def test_a_closed_model_says_so(settings):
    model = open_frame_model("rgb", settings)
    model.close()
    with pytest.raises(CpuserveError, match="rgb is closed"):
        model.submit(RED, 16, 16)


def test_a_segmentation_has_a_mask_of_the_frames_size(tmp_path):
    entry = ops.parameter((-1, 8, 8, 3), np.float32, name="image")
    entry.output(0).set_names({"image"})
    model = ov.Model([ops.result(entry)], [entry])
    Card(model_type="segmentation", labels=("red", "green", "blue"), reverse_input_channels=True).write(model)
    (tmp_path / "seg" / "1").mkdir(parents=True)
    ov.save_model(model, tmp_path / "seg" / "1" / "model.xml")
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 1], pixels[:, 4:, 2] = 255, 255
    with open_frame_model("seg", Settings(model_repository=tmp_path, precision="f32")) as frames:
        seen = frames.submit_seen(pixels, 32, 16).result()
        assert frames.submit(pixels, 32, 16).result() == seen.answer
    assert seen.mask is not None
    assert np.array_equal(seen.mask, np.repeat([[1] * 16 + [2] * 16], 16, 0))
    assert {row["label"]: row["area"] for row in seen.answer["classes"]} == {"green": 0.5, "blue": 0.5}
