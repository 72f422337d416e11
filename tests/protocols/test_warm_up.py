"""Warm-up files: asked before a version serves, and a version that answers them wrongly is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cpuserve.errors import ModelLoadError
from cpuserve.models.repository import ModelFile
from cpuserve.protocols.warm_up import check_warm_up
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pool import Pool
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.request import Request
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings
from tests.conftest import ROOT
from tests.wrong_digits import good_digits, wrong_digits

SEVEN = ROOT / "docs" / "seven.png"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("loaded")
    return {
        name: load_pipeline(
            openvino_core(),
            ModelFile("digits", 1, make(root / name) / "model.xml"),
            Settings(precision="f32"),
            1,
        )
        for name, make in (("good", good_digits), ("wrong", wrong_digits))
    }


@pytest.fixture
def check(loaded, tmp_path):
    folder = tmp_path / "digits" / "1" / "warmup"
    folder.mkdir(parents=True)

    def run(which="good", **settings):
        file = ModelFile("digits", 1, folder.parent / "model.xml")
        check_warm_up(loaded[which], file, Settings(**settings))

    run.folder = folder
    return run


def refusal(check, which="good", **settings):
    with pytest.raises(ModelLoadError) as caught:
        check(which, **settings)
    return str(caught.value)


def row(loaded):
    return loaded["good"].pictures.picture_input.row(SEVEN.read_bytes())[None]


def v2(loaded, inputs, which="good"):
    """A V2 answer as JSON, to the rows of the model's input."""
    pipeline = loaded[which]
    (found,) = pipeline.infer([inputs], Request())
    name = pipeline.outputs[0].names[0]
    return {
        "outputs": [
            {"name": name, "shape": list(found.shape), "datatype": "FP32", "data": found.ravel().tolist()}
        ]
    }


def tensor(loaded):
    port = loaded["good"].inputs[0]
    made = row(loaded)
    return np.ascontiguousarray(made.reshape(1, *port.row_shape)).astype(port.dtype)


def test_nothing_to_ask_is_no_reason_to_refuse(check):
    check()


def test_a_picture_with_the_answer_of_the_predictions_route(check, loaded):
    shutil.copy(SEVEN, check.folder / "seven.png")
    check("wrong")  # nothing is expected yet
    answer = loaded["good"].predict(SEVEN.read_bytes(), Request())
    text = json.dumps({"model": "digits", "version": "9", **answer})
    (check.folder / "seven.expected.json").write_text(text)
    check()
    said = refusal(check, "wrong")
    assert "warmup/seven.png: its answer agrees by 0.000 with that expected, less than 0.9" in said
    assert "setting warmup_agreement" in said
    check("wrong", warmup_agreement=0)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".json"])
def test_tensors_and_requests_with_the_answer_of_v2(check, loaded, ending):
    inputs = tensor(loaded)
    name = loaded["good"].inputs[0].names[0]
    file = check.folder / f"seven{ending}"
    if ending == ".npy":
        np.save(file, inputs)
    elif ending == ".npz":
        np.savez(file, **{name: inputs})
    else:
        kind = {"uint8": "UINT8", "float32": "FP32"}[inputs.dtype.name]
        sent = {"name": name, "shape": list(inputs.shape), "datatype": kind, "data": inputs.ravel().tolist()}
        file.write_text(json.dumps({"inputs": [sent]}))
    (check.folder / "seven.expected.json").write_text(json.dumps(v2(loaded, inputs)))
    check()
    assert f"seven{ending}: its answer agrees by" in refusal(check, "wrong")


def test_a_picture_with_the_answer_of_v2(check, loaded):
    shutil.copy(SEVEN, check.folder / "seven.png")
    (check.folder / "seven.expected.json").write_text(json.dumps(v2(loaded, tensor(loaded))))
    check(decode="exact")
    assert "seven.png: its answer agrees by" in refusal(check, "wrong")


def test_what_is_asked_is_not_counted(check, loaded):
    statistics = Statistics(rows=1)
    shutil.copytree(
        SEVEN.parent.parent / "ir_models" / "digits" / "1", check.folder.parent, dirs_exist_ok=True
    )
    shutil.copy(SEVEN, check.folder / "seven.png")
    file = ModelFile("digits", 1, check.folder.parent / "model.xml")
    settings = Settings(result_cache_bytes=1 << 20)
    pipeline = load_pipeline(openvino_core(), file, settings, 1, statistics.recorder(0, "digits", 1))
    check_warm_up(pipeline, file, settings)
    totals = statistics.totals("digits", 1)
    assert totals["success"] == totals["images"] == 0
    assert pipeline.results.size_bytes == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"seven.png": b"no picture"}, "seven.png is not answered"),
        ({"notes.txt": b"x"}, "notes.txt is not answered: a warm-up file is a picture"),
        ({"x.npy": b"x"}, "x.npy is not answered: it is no .npy file of numbers"),
        ({"x.npz": b"PK\x03\x04"}, "x.npz is not answered: it is no .npz file of numbers"),
        ({"x.json": b"{}"}, 'x.json is not answered: the request needs a list "inputs"'),
        ({"x.json": b"{"}, "x.json is not answered: the request is not JSON"),
        ({"seven.expected.json": b"{}"}, "seven.expected.json is the answer to one request, and no request"),
        ({"seven.png": SEVEN, "seven.expected.json": b"["}, "seven.expected.json is not JSON"),
        ({"seven.png": SEVEN, "seven.expected.json": b"[]"}, "seven.expected.json is no JSON object"),
        ({"seven.png": SEVEN, "seven.expected.json": b"{}"}, "seven.expected.json cannot be compared"),
        (
            {"seven.png": SEVEN, "seven.expected.json": b'{"predictions": [7]}'},
            "seven.expected.json cannot be compared: it is no answer",
        ),
        (
            {"seven.png": SEVEN, "seven.expected.json": b'{"outputs": [{"name": "x"}]}'},
            "seven.expected.json cannot be compared",
        ),
        (
            {"a.png": SEVEN, "a.jpg": SEVEN, "a.expected.json": b"{}"},
            "a.expected.json is the answer to one request, and a.jpg and a.png share it",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(check, files, said):
    for name, content in files.items():
        (check.folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    assert said in refusal(check)


def test_a_file_that_is_too_large_or_a_directory_is_named(check):
    (check.folder / "big.npy").write_bytes(b"x" * 2000)
    assert "big.npy has 2000 bytes; a warm-up file may have 1000" in refusal(check, max_body_bytes=1000)
    (check.folder / "big.npy").unlink()
    (check.folder / "deep").mkdir()
    assert "deep cannot be read" in refusal(check)


def test_hidden_files_are_no_warm_up(check):
    (check.folder / ".seven.png").write_bytes(b"half writ")
    check()


@pytest.fixture
def pool(tmp_path):
    root = tmp_path / "models"
    good_digits(root / "digits" / "1")
    control = ReloadControl(rows=1)
    control.join(0)
    settings = Settings(model_repository=root, check_models_in_child=False, file_system_poll_wait_seconds=0.1)
    made = Pool(settings, 1, Statistics(rows=1), control, 0, check_warm_up)
    made.sync()
    return made, root / "digits"


def expect_seven(pool, folder):
    (folder / "warmup").mkdir()
    answer = pool.get("digits").predict(SEVEN.read_bytes(), Request())
    shutil.copy(SEVEN, folder / "warmup" / "seven.png")
    (folder / "warmup" / "seven.expected.json").write_text(json.dumps(answer))


def test_a_wrong_version_does_not_take_over_and_says_why(pool, caplog):
    pool, home = pool
    expect_seven(pool, wrong_digits(home / "2"))
    pool.sync()
    assert pool.ready_versions("digits") == [1]
    state = pool.known("digits", "2")
    assert state.state == "UNAVAILABLE"
    assert "digits/2/warmup/seven.png: its answer agrees" in state.reason
    assert "version 2 is not served" in caplog.text
    (home / "2" / "warmup" / "seven.expected.json").unlink()
    pool.sync()  # a change of the warm-up is a change of the version
    assert pool.get("digits").version == 2


def test_files_that_are_added_to_a_version_that_serves_are_asked_and_change_no_checksum(pool):
    pool, home = pool
    before = pool.get("digits")
    expect_seven(pool, home / "1")
    pool.sync()
    after = pool.get("digits")
    assert after is not before
    assert after.checksum == before.checksum
    (home / "1" / "warmup" / "seven.expected.json").write_text(
        '{"predictions": [{"class_id": 1, "probability": 1}]}'
    )
    pool.sync()
    assert pool.get("digits") is after  # as it was
    assert "its answer agrees by 0.000" in pool.known("digits").reason
