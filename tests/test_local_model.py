"""`cpuserve.load`: where it finds a model, what it answers, and that a server answers the same."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import psutil
import pytest
from openvino import opset13 as ops

import cpuserve
from cpuserve.errors import (
    CpuserveError,
    RequestError,
    TooManyPixels,
    UndecodableImage,
    UnknownModel,
    UnsupportedFormat,
    UsageError,
)
from cpuserve.models.card import Card
from tests.colour_model import colour_model
from tests.conftest import ROOT
from tests.servers import serving

SEVEN = ROOT / "docs" / "seven.png"
DIGITS = ROOT / "ir_models" / "digits" / "1"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The models rgb/1, bgr/3 and digits/1."""
    root = tmp_path_factory.mktemp("models")
    colour_model(root / "rgb" / "1", rgb=True)
    colour_model(root / "bgr" / "3", rgb=False)
    shutil.copytree(DIGITS, root / "digits" / "1")
    return root


@pytest.fixture(scope="module")
def pixels():
    """A picture whose strongest colour is blue, then green: u8 [40, 60, 3], RGB."""
    noise = np.random.default_rng(7).integers(0, 60, (40, 60, 3))
    return (noise + np.array([20, 60, 100])).astype(np.uint8)


@pytest.fixture(scope="module")
def png(pixels, tmp_path_factory):
    """A file of the same pixels."""
    file = tmp_path_factory.mktemp("pictures") / "blue.png"
    cv2.imwrite(str(file), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return file


def labels(answer):
    return [row["label"] for row in answer["predictions"]]


@pytest.mark.parametrize("name", ["rgb", "bgr"])
def test_a_path_bytes_and_pixels_get_the_same_answer(repository, pixels, png, name):
    with cpuserve.load(name, model_repository=repository) as model:
        answer = model.predict(png)
        assert labels(answer) == ["blue", "green", "red"]
        assert answer["model"] == name == model.name
        assert answer["version"] == str(model.version)
        data = png.read_bytes()
        upside_down = np.asfortranarray(pixels)
        for same in (str(png), data, bytearray(data), memoryview(data), pixels, upside_down):
            assert model.predict(same) == answer
        assert model.predict([png, data, pixels] * 4) == [answer] * 12
        assert model.predict([]) == []
        assert labels(model.predict(pixels, topk=1)) == ["blue"]
        assert labels(model.predict(pixels[..., ::-1])) == ["red", "green", "blue"]


def test_a_grey_model_takes_coloured_pixels(tmp_path, pixels, png):
    entry = ops.parameter((1, 1, 8, 8), np.float32, name="image")
    entry.output(0).set_names({"image"})
    mean = ops.reduce_mean(entry, np.array([2, 3]))
    scores = ops.concat([mean, ops.multiply(mean, ops.constant(np.float32(0.99)))], 1)
    model = ov.Model([ops.result(ops.softmax(scores, 1))], [entry])
    Card(model_type="Classification", labels=("a", "b")).write(model)
    ov.save_model(model, tmp_path / "grey.xml")
    with cpuserve.load(tmp_path / "grey.xml", precision="f32") as grey:
        of_pixels, of_file = grey.predict([pixels, png])
        assert of_pixels["predictions"][0]["probability"] == pytest.approx(
            of_file["predictions"][0]["probability"], abs=0.002
        )


def test_a_server_gives_the_same_answers(repository, pixels, png, tmp_path):
    requests = [("rgb", png), ("bgr", png), ("digits", SEVEN)]
    with serving(tmp_path / "log", "--model-repository", str(repository)) as server:
        served = [server.post(f"/predictions/{name}", file.read_bytes()).json() for name, file in requests]
        with cpuserve.Client(f"http://127.0.0.1:{server.port}") as client:
            asked = client.predict("digits", SEVEN.read_bytes(), shrinking=False)
        drawn = server.post("/predictions/rgb", png.read_bytes(), Accept="image/png").body
    assert asked == served[2]
    for (name, file), answer in zip(requests, served, strict=True):
        with cpuserve.load(name, model_repository=repository) as model:
            mine = json.loads(json.dumps(model.predict(file)))
        for row, other in zip(mine["predictions"], answer["predictions"], strict=True):
            assert row.pop("probability") == pytest.approx(other.pop("probability"), abs=1e-3)
        assert mine == answer
    with cpuserve.load("rgb", model_repository=repository) as model:
        assert model.render(png) == drawn == model.render(pixels)


def test_render_leaves_the_array_unchanged(repository, pixels):
    before = pixels.copy()
    with cpuserve.load("rgb", model_repository=repository) as model:
        model.render(pixels)
        with pytest.raises(RequestError, match="not a segmentation"):
            model.render(pixels, mask=True)
    assert (pixels == before).all()


def test_tensors_by_name_or_alone(repository):
    rows = np.random.default_rng(1).random((3, 3, 16, 16), np.float32)
    with cpuserve.load("rgb", model_repository=repository, precision="f32") as model:
        (port,) = model.inputs
        assert (port.names, port.dtype, port.row_shape) == (("image",), np.float32, (3, 16, 16))
        assert [port.names[0] for port in model.outputs] == ["means"]
        alone, named = model.infer(rows), model.infer({"image": rows})
        assert [*alone] == [*named] == ["means"]
        np.testing.assert_array_equal(alone["means"], named["means"])
        assert alone["means"].shape == (3, 3)
        for wrong, said in (
            ({}, "takes the inputs image, not none"),
            ({"picture": rows}, "takes the inputs image, not picture"),
            ({"image": rows, "mask": rows}, "takes the inputs image, not image, mask"),
            (rows.astype(np.float64), "is float32, not float64"),
            (rows[:, :2], "has shape"),
        ):
            with pytest.raises(RequestError, match=said):
                model.infer(wrong)


@pytest.mark.parametrize(
    ("place", "name", "version"),
    [
        ("bgr", "bgr", 3),
        ("bgr/3", "bgr", 3),
        ("bgr/3/model.xml", "bgr", 3),
        ("loose 1.0.xml", "loose1.0", 1),
        ("a directory", "adirectory", 1),
    ],
)
def test_a_model_is_found_by_its_path(repository, tmp_path, place, name, version):
    shutil.copytree(repository / "bgr", tmp_path / "bgr")
    shutil.copytree(repository / "rgb" / "1", tmp_path / "a directory")
    for suffix in (".xml", ".bin"):
        shutil.copy(repository / "rgb" / "1" / f"model{suffix}", tmp_path / f"loose 1.0{suffix}")
    for path in (tmp_path / place, str(tmp_path / place)):
        with cpuserve.load(path) as model:
            assert (model.name, model.version) == (name, version)


def test_a_model_of_the_repository_comes_before_a_path(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(repository / "bgr" / "3", tmp_path / "rgb")
    shutil.copytree(repository / "bgr" / "3", tmp_path / "other")
    for model, version in (("rgb", 1), ("rgb/1", 1), ("other", 1), (Path("rgb"), 1)):
        with cpuserve.load(model, model_repository=repository) as loaded:
            assert (loaded.name, loaded.version) == (str(model).partition("/")[0], version)
    with cpuserve.load(Path("rgb"), model_repository=repository) as path:
        own = path.predict(np.full((20, 20, 3), (200, 100, 0), np.uint8))
    assert labels(own) == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("bgrr", "no model 'bgrr' in .*did you mean bgr"),
        ("bgr/2", "model bgr has no version 2; versions: 3"),
        ("no/such/model.xml", "no model at no/such/model.xml"),
        (Path("bgr"), "no model at bgr"),
    ],
)
def test_the_error_names_a_model_that_does_not_exist(repository, model, said):
    with pytest.raises(UnknownModel, match=said):
        cpuserve.load(model, model_repository=repository)


def test_settings_reach_the_pipeline(repository, pixels, monkeypatch):
    with pytest.raises(UsageError, match="decode is one of fast, exact, not 'slow'"):
        cpuserve.load("rgb", model_repository=repository, decode="slow")
    monkeypatch.setenv("CPUSERVE_MODEL_REPOSITORY", str(repository))
    with cpuserve.load("rgb", max_pixels=2000) as model:
        for picture in (pixels, cv2.imencode(".png", pixels)[1].tobytes()):
            with pytest.raises(TooManyPixels, match=r"60x40 = 2400 pixels, the limit is 2000 \(setting max_"):
                model.predict(picture)


def test_settings_come_from_a_file_too(repository, pixels, tmp_path):
    config = tmp_path / "cpuserve.toml"
    config.write_text(f'model_repository = "{repository}"\nmax_pixels = 100\n')
    with cpuserve.load("rgb", config=config) as model, pytest.raises(TooManyPixels):
        model.predict(pixels)


@pytest.mark.parametrize(
    ("picture", "kind", "said"),
    [
        ("nowhere.png", UndecodableImage, "nowhere.png cannot be read: No such file"),
        (b"", UndecodableImage, "empty"),
        (b"no picture at all", UnsupportedFormat, "not a picture of a known format"),
        (
            np.zeros((4, 4, 3), np.float32),
            RequestError,
            r"uint8 \[height, width, 3\].*not float32 \[4, 4, 3\]",
        ),
        (np.zeros((4, 4), np.uint8), RequestError, r"not uint8 \[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), RequestError, r"not uint8 \[0, 4, 3\]"),
        ([SEVEN, None], RequestError, "a path, bytes or an array, not NoneType"),
        ([SEVEN, b"no picture"], RequestError, "picture 1 of 2: the body is not a picture"),
    ],
)
def test_inputs_that_are_no_picture_are_refused(repository, picture, kind, said):
    with cpuserve.load("rgb", model_repository=repository) as model, pytest.raises(kind, match=said):
        model.predict(picture)


def test_a_model_without_postprocessing_answers_tensors_only(tmp_path, pixels):
    entry = ops.parameter((1, 5), np.float32, name="numbers")
    twice = ops.multiply(entry, ops.constant(np.float32(2)))
    ov.save_model(ov.Model([ops.result(twice)], [entry]), tmp_path / "twice.xml")
    with cpuserve.load(tmp_path / "twice.xml") as model:
        with pytest.raises(RequestError, match="answers tensors only"):
            model.predict(pixels)
        (answer,) = model.infer(np.ones((2, 5), np.float32)).values()
    assert (answer == 2).all()


def test_a_closed_model_says_so_and_leaves_no_process(repository, png):
    before = {*psutil.Process().children()}
    model = cpuserve.load("rgb", model_repository=repository)
    model.predict(cv2.imencode(".bmp", cv2.imread(str(png)))[1].tobytes())  # decoded in another process
    assert {*psutil.Process().children()} > before
    model.close()
    model.close()
    assert {*psutil.Process().children()} <= before
    with pytest.raises(CpuserveError, match="model rgb is closed: load it again"):
        model.predict(png)


def test_threads_share_a_model(repository, pixels):
    with cpuserve.load("rgb", model_repository=repository, threads=2) as model:
        wanted, found = model.predict(pixels), []
        threads = [threading.Thread(target=lambda: found.append(model.predict(pixels))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [wanted] * 4
