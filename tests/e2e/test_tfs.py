"""TensorFlow Serving's REST with real models: the scores are those of the other protocols."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.numeric

QUANT, FLOAT = "mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_frozen"
OK = {"error_code": "OK", "error_message": ""}


def post(server, path, document):
    return server.post(path, json.dumps(document).encode())


def b64(file):
    return {"b64": base64.b64encode(file.read_bytes()).decode()}


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/0"])
def test_rows_of_pictures_are_answered_by_raw_scores(exact_server, data_dir, expected, version):
    photos = ["zebra.jpeg", "bee.jpeg", "bird.bmp"]
    rows = [b64(data_dir / "images" / photo) for photo in photos]
    got = post(exact_server, f"/v1/models/{FLOAT}{version}:predict", {"instances": rows})
    assert got.status == 200
    assert "infer;dur=" in got.headers["Server-Timing"]
    scores = np.array(got.json()["predictions"])
    assert scores.shape == (3, 1001)
    for row, photo in zip(scores, photos, strict=True):
        top, _, probability = expected["classify"]["mobilenet_v2_1.0_224_frozen.pb"][photo][0]
        assert row.argmax() == top
        assert row.max() == pytest.approx(probability, abs=0.02)


def test_rows_and_columns_of_numbers(exact_server, data_dir):
    image = cv2.imread(str(data_dir / "images" / "zebra.jpeg"))
    pixels = cv2.cvtColor(cv2.resize(image, (224, 224)), cv2.COLOR_BGR2RGB).tolist()
    path = f"/v1/models/{QUANT}:predict"
    rows = post(exact_server, path, {"instances": [pixels, pixels]}).json()["predictions"]
    columns = post(exact_server, path, {"inputs": {"input": [pixels]}}).json()["outputs"]
    assert np.argmax(rows, axis=1).tolist() == [341, 341]
    assert columns == rows[:1]


def test_status_metadata_and_refusals(exact_server):
    available = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": OK}]}
    named = {"name": QUANT, "ready": True, **available}
    for path in ("", "/versions/1", "/versions/0"):
        assert exact_server.get(f"/v1/models/{QUANT}{path}").json() == named
    assert exact_server.get("/v1/config").json()[FLOAT] == available
    assert FLOAT in exact_server.get("/v1/models").json()["models"]
    metadata = exact_server.get(f"/v1/models/{FLOAT}/metadata").json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [dim["size"] for dim in signature["inputs"]["input:0"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "224", "224", "3"]
    for path in ("/v1/models/nothing", f"/v1/models/{QUANT}/versions/7", "/v1/models/nothing/metadata"):
        got = exact_server.get(path)
        assert got.status == 404
        assert got.json()["error"]
    assert post(exact_server, "/v1/models/nothing:predict", {"instances": [1]}).status == 404
    got = post(exact_server, f"/v1/models/{QUANT}:predict", {"instances": [1]})
    assert got.status == 400
    assert "[-1, 224, 224, 3]" in got.json()["error"]
    for end, words in (
        (":classify", ":predict"),
        ("/versions/1:regress", ":predict"),
        (":explain", "KServe"),
    ):
        got = post(exact_server, f"/v1/models/{QUANT}{end}", {})
        assert (got.status, words in got.json()["error"]) == (501, True)
