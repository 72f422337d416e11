"""Corners of the protocols with real servers: small models made here, and files with a byte order mark."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from cpuserve.models.card import Card
from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
MARK = b"\xef\xbb\xbf"
RAW = {"Inference-Header-Content-Length": "0"}


def doubling(dtype, shape, repository, name, *, inputs=1, card=None):
    """Publish a model that adds its inputs to themselves."""
    parameters = [op.parameter(shape, dtype=dtype, name=f"x{number}") for number in range(inputs)]
    for number, parameter in enumerate(parameters):
        parameter.output(0).set_names({f"x{number}"})
    results = [op.add(parameter, parameter) for parameter in parameters]
    for number, result in enumerate(results):
        result.output(0).set_names({f"y{number}"})
    (repository / name / "1").mkdir(parents=True)
    model = ov.Model(results, parameters, name)
    if card is not None:
        card.write(model)
    ov.save_model(model, repository / name / "1" / "model.xml", False)


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    repository = tmp_path_factory.mktemp("corners")
    (repository / "digits").symlink_to(digits / "digits")
    doubling(np.int64, [-1, 3], repository, "whole")
    doubling(np.uint64, [-1, 3], repository, "natural")
    doubling(np.float32, [-1, 3], repository, "floats")
    doubling(np.float32, [-1, 3], repository, "two", inputs=2)
    doubling(np.float32, [3, 4], repository, "table")
    doubling(np.float32, [3, -1], repository, "steps")
    doubling(np.float32, [-1, -1, 2], repository, "wide")
    doubling(np.uint8, [-1, 8, 8, 3], repository, "nhwc")
    doubling(np.float32, [-1, 3, 8, 8], repository, "nchw")
    doubling(np.uint8, [-1, 8, 8, 3], repository, "exact", card=Card(decode="exact"))
    log = tmp_path_factory.mktemp("log") / "log"
    with serving(log, "--model-repository", str(repository), "--workers", "1") as server:
        yield server


def infer(server, model, datatype, shape, data):
    document = {"inputs": [{"name": "x0", "datatype": datatype, "shape": shape, "data": data}]}
    return server.post(f"/v2/models/{model}/infer", json.dumps(document).encode())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/floats/versions/0",
        "/v1/models/floats/versions/0/metadata",
        "/v2/models/floats/versions/0",
        "/v2/models/floats/versions/0/ready",
        "/v2/models/floats/versions/0/config",
        "/v2/models/floats/versions/0/stats",
    ],
)
def test_version_0_is_the_default_version(server, path):
    found = server.get(path)
    assert found.status == 200
    assert found.body == server.get(path.replace("/versions/0", "")).body or "stats" in path


def test_version_0_answers(server):
    rows = json.dumps({"instances": [[1, 2, 3]]}).encode()
    found = server.post("/v1/models/floats/versions/0:predict", rows)
    assert (found.status, found.json()) == (200, {"predictions": [[2, 4, 6]]})
    document = {"inputs": [{"name": "x0", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    found = server.post("/v2/models/floats/versions/0/infer", json.dumps(document).encode())
    assert found.json()["outputs"][0]["data"] == [2, 4, 6]
    assert server.post("/predictions/digits/0", SEVEN).json()["version"] == "1"
    assert server.get("/v2/models/floats/versions/00").status == 404


def test_kserve_v1_tells_whether_a_model_is_ready(server):
    found = server.get("/v1/models/floats").json()
    assert (found["name"], found["ready"]) == ("floats", True)
    assert found["model_version_status"][0]["state"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("model", "word"), [("nhwc", "FORMAT_NHWC"), ("nchw", "FORMAT_NCHW"), ("floats", "FORMAT_NONE")]
)
def test_the_config_tells_the_order_of_a_pictures_axes(server, model, word):
    assert [port["format"] for port in server.get(f"/v2/models/{model}/config").json()["input"]] == [word]


def test_the_config_tells_how_jpeg_is_decoded(server):
    def said(model):
        return server.get(f"/v2/models/{model}/config").json()["parameters"].get("decode")

    assert said("nhwc") == {"string_value": "fast"}
    assert said("exact") == {"string_value": "exact"}  # as its card says
    assert said("floats") is None


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_raw_body_is_a_tensor(server, rows):
    sent = np.arange(3 * rows, dtype=np.float32)
    found = server.request("POST", "/v2/models/floats/infer", sent.tobytes(), RAW)
    length = int(found.headers["Inference-Header-Content-Length"])
    assert json.loads(found.body[:length])["outputs"][0]["shape"] == [rows, 3]
    assert np.array_equal(np.frombuffer(found.body[length:], np.float32), sent * 2)


@pytest.mark.parametrize(("model", "shape"), [("table", [3, 4]), ("steps", [3, 4])])
def test_a_raw_body_is_a_tensor_without_a_batch_or_of_a_size_that_varies(server, model, shape):
    sent = np.arange(12, dtype=np.float32)
    found = server.request("POST", f"/v2/models/{model}/infer", sent.tobytes(), RAW)
    assert found.status == 200, found.body
    length = int(found.headers["Inference-Header-Content-Length"])
    assert json.loads(found.body[:length])["outputs"][0]["shape"] == shape
    assert np.array_equal(np.frombuffer(found.body[length:], np.float32), sent * 2)


def test_a_raw_body_is_a_picture_or_the_tensor_of_one(server):
    pixels = np.arange(192, dtype=np.uint8) // 2
    picture = cv2.imencode(".png", pixels.reshape(8, 8, 3))[1].tobytes()
    for body in (pixels.tobytes(), picture):
        found = server.request("POST", "/v2/models/nhwc/infer", body, RAW)
        assert found.status == 200
        assert np.array_equal(np.frombuffer(found.body[-192:], np.uint8), pixels * 2)
    assert "not a picture" in server.request("POST", "/v2/models/nhwc/infer", b"x" * 99, RAW).json()["error"]


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        ("floats", bytes(13), "13 bytes without a JSON header fill no shape [-1, 3] of FP32"),
        ("floats", b"", "0 bytes"),
        ("two", bytes(12), "has 2 inputs"),
        ("wide", bytes(48), "fill no shape [-1, -1, 2]"),
        ("table", bytes(96), "96 bytes without a JSON header fill no shape [3, 4] of FP32"),
    ],
)
def test_a_raw_body_that_fills_no_tensor(server, model, body, words):
    found = server.request("POST", f"/v2/models/{model}/infer", body, RAW)
    assert found.status == 400
    assert words in found.json()["error"]


@pytest.mark.parametrize("value", [1 << 31, -(1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_whole_numbers_beyond_32_bits_are_refused(server, value):
    binary = np.array([[1, value, 3]], np.int64).tobytes()
    head = json.dumps({"inputs": [{"name": "x0", "datatype": "INT64", "shape": [1, 3]}]}).encode()
    for found in (
        infer(server, "whole", "INT64", [1, 3], [1, value, 3]),
        server.post("/v1/models/whole:predict", json.dumps({"instances": [[1, value, 3]]}).encode()),
        server.request(
            "POST",
            "/v2/models/whole/infer",
            head + binary,
            {"Inference-Header-Content-Length": str(len(head))},
        ),
        server.request("POST", "/v2/models/whole/infer", binary, RAW),
    ):
        assert found.status == 400
        assert f"'x0' has the value {value}: " in found.json()["error"]


def test_whole_numbers_within_32_bits_are_right(server):
    sent = [(1 << 30) - 1, -(1 << 30), 0]
    found = infer(server, "whole", "INT64", [1, 3], sent).json()["outputs"][0]
    assert (found["datatype"], found["data"]) == ("INT64", [value * 2 for value in sent])


@pytest.mark.parametrize(
    ("model", "datatype", "data", "words"),
    [
        ("whole", "INT64", [1, 1 << 63, 3], "do not fit into INT64"),
        ("natural", "UINT64", [1, (1 << 63) + 1, 3], "has the value 9223372036854775809"),
        ("natural", "UINT64", [-1, (1 << 63) + 1, 3], "do not fit into UINT64"),
        ("natural", "UINT64", [1, -1, 3], "do not fit into UINT64"),
        ("whole", "INT64", [1.5, 2, 3], "not INT64 numbers"),
        ("whole", "INT64", [1.0, 2, 3], "not INT64 numbers"),
        ("whole", "INT32", [1, 2, 3], "input 'x0' is INT64, not INT32"),
        ("floats", "FP64", [1, 2, 3], "input 'x0' is FP32, not FP64"),
        ("floats", "float32", [1, 2, 3], "'float32' is none of BOOL"),
        ("floats", "BOOL", [True, False, 2], "do not fit into BOOL"),
    ],
)
def test_types_and_values_are_refused_in_the_words_of_the_protocol(server, model, datatype, data, words):
    found = infer(server, model, datatype, [1, 3], data)
    assert found.status == 400
    assert words in found.json()["error"]


@pytest.mark.parametrize(
    "write",
    [
        lambda data: base64.encodebytes(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
    ],
)
def test_pictures_in_base64_as_clients_write_it(server, write):
    want = server.post("/predictions/digits", SEVEN).json()["predictions"][0]["class_id"]
    text = write(SEVEN)
    rows = server.post("/v1/models/digits:predict", json.dumps({"instances": [{"b64": text}]}).encode())
    assert np.argmax(rows.json()["predictions"][0]) == want
    name = server.get("/v2/models/digits").json()["inputs"][0]["name"]
    document = {"inputs": [{"name": name, "datatype": "BYTES", "shape": [1], "data": [text]}]}
    found = server.post("/v2/models/digits/infer", json.dumps(document).encode())
    assert np.argmax(found.json()["outputs"][0]["data"]) == want


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json; charset=utf-8", "application/json"),
        ("text/html, application/json;q=0.9, */*;q=0.8", "application/json"),
        ("image/png;q=1, application/json;q=0.5", "image/png"),
    ],
)
def test_accept_with_parameters(server, accept, kind):
    found = server.request("POST", "/predictions/digits", SEVEN, {"Accept": accept})
    assert (found.status, found.headers["Content-Type"]) == (200, kind)


def test_json_with_a_byte_order_mark(server):
    body = MARK + json.dumps({"instances": [[1, 2, 3]]}).encode()
    assert server.post("/v1/models/floats:predict", body).json() == {"predictions": [[2, 4, 6]]}


def test_files_with_a_byte_order_mark_are_read(digits, tmp_path):
    keys, settings, config = (tmp_path / name for name in ("keys", "settings.toml", "config.json"))
    keys.write_bytes(MARK + b"first-key-of-the-file\r\nsecond\r\n")
    settings.write_bytes(MARK + b"workers = 1\r\n")
    model = {"config": {"name": "digits", "base_path": str(digits / "digits")}}
    config.write_bytes(MARK + json.dumps({"model_config_list": [model]}).encode())
    arguments = ("--config", str(settings), "--config-path", str(config), "--api-key-file", str(keys))
    with serving(tmp_path / "log", *arguments) as server:
        keyed = {"Authorization": "Bearer first-key-of-the-file"}
        assert server.request("POST", "/predictions/digits", SEVEN, keyed).status == 200
        assert server.request("POST", "/predictions/digits", SEVEN, {}).status == 401
