"""DeepDetect's benchmark client: the calls it makes, in its order, and what may not be asked."""

from __future__ import annotations

import base64
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from tests.servers import serving

MODEL = "mobilenet_v2_1.0_224_frozen"
PHOTOS = ("zebra.jpeg", "pelican.jpeg", "snail.jpeg")


@pytest.fixture(scope="module")
def server(one_model, data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepdetect")
    (folder / "data").mkdir()
    for name in PHOTOS:
        shutil.copy(data_dir / "images" / name, folder / "data" / name)
    (folder / "secret.jpeg").write_bytes((folder / "data" / PHOTOS[0]).read_bytes())
    (folder / "data" / "out.jpeg").symlink_to(folder / "secret.jpeg")
    words = ("--model-repository", str(one_model), "--workers", "2")
    with serving(folder / "log", *words, "--deepdetect-data-root", str(folder / "data"), ready=2) as running:
        running.root = folder / "data"
        yield running


def ask(server, method, path, document=None):
    got = server.request(method, path, None if document is None else json.dumps(document).encode())
    return got.status, got.json()


def predict(server, data, service="imageserv", **output):
    parameters = {"input": {"interp": None}, "mllib": {"gpu": False, "gpuid": 0}, "output": output}
    return ask(server, "POST", "/predict", {"service": service, "parameters": parameters, "data": data})


def test_a_run_of_the_benchmark(server):
    made = {
        "description": "image classification service",
        "mllib": "caffe",
        "type": "supervised",
        "parameters": {"input": {"connector": "image", "width": 224}, "mllib": {"nclasses": 1000}},
        "model": {"repository": f"/opt/models/{MODEL}/"},
    }
    assert ask(server, "PUT", "/services/imageserv", made)[1]["status"] == {"code": 201, "msg": "Created"}
    files = [f"{server.root}/{PHOTOS[place % 3]}" for place in range(128)]
    for batch in (1, 2, 48, 128):
        status, answer = predict(server, files[:batch])
        assert (status, answer["status"]["code"]) == (200, 200)
        assert answer["head"]["time"] > 0
        tops = [each["classes"][0]["cat"] for each in answer["body"]["predictions"]]
        assert tops == (["zebra", "pelican", "snail"] * 43)[:batch]
        assert [each["uri"] for each in answer["body"]["predictions"]] == files[:batch]
    status, answer = ask(server, "GET", "/services/imageserv")
    statistics = answer["body"]["service_stats"]
    assert statistics["inference_count"] >= 179
    assert statistics["total_transform_duration_ms"] > 0
    info = ask(server, "GET", "/info")[1]
    assert "imageserv" in [each["name"] for each in info["head"]["services"]]
    for _ in range(4):  # whichever worker is asked
        assert predict(server, files[:1])[0] == 200
    assert ask(server, "DELETE", "/services/imageserv?clear=mem")[0] == 200
    status, answer = predict(server, files[:1])
    assert (status, answer["status"]["dd_code"]) == (404, 1002)


def test_base64_relative_paths_and_thresholds(server):
    encoded = base64.b64encode((server.root / "zebra.jpeg").read_bytes()).decode()
    status, answer = predict(server, [encoded, "snail.jpeg"], MODEL, confidence_threshold=0.3, best=5)
    assert status == 200
    found = [each["classes"] for each in answer["body"]["predictions"]]
    assert [classes[0]["cat"] for classes in found] == ["zebra", "snail"]
    assert all(entry["prob"] >= 0.3 for classes in found for entry in classes)
    assert found[0][-1]["last"] is True


def test_base64_of_any_length_is_a_picture(server):
    """Texts of 256 to 4095 characters could be paths, but for the length of their parts."""
    answers = []
    for side in (1, 8, 24, 32):
        black = cv2.imencode(".bmp", np.zeros((side, side, 3), np.uint8))[1].tobytes()
        encoded = base64.b64encode(black).decode()  # no slash in it: one part of a path
        answers.append((len(encoded), predict(server, [encoded], MODEL)[0]))
    assert [status for _, status in answers] == [200] * 4, answers
    assert answers[0][0] < 255 < answers[1][0] < 4096 < answers[-1][0]


def test_a_file_that_cannot_be_used_is_refused(server):
    (server.root / "large.jpeg").write_bytes(bytes(40 << 20))
    (server.root / "loop.jpeg").symlink_to(server.root / "loop.jpeg")
    (server.root / "directory.jpeg").mkdir()
    os.mkfifo(server.root / "pipe.jpeg")
    for name, word in (
        ("large.jpeg", "max_body_bytes"),
        ("loop.jpeg", "neither"),
        ("directory.jpeg", "neither"),
        ("pipe.jpeg", "neither"),
    ):
        status, answer = predict(server, [name, PHOTOS[0]], MODEL)
        assert status in (400, 413)
        assert answer["status"]["dd_code"] == 1005
        assert word in answer["status"]["dd_msg"], answer
        assert str(server.root) not in str(answer)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (["x" * 300], 1005),
        (["A" * 300 + "*"], 1005),
        (["é" * 10], 1005),
        (["é" * 2000], 1005),
        (["\ud83d\ude00" * 3000], 1005),
        (["\0"], 1005),
        (["QUJD" * 100_000], 1005),
        (["../secret.jpeg"], 1005),
        (["out.jpeg"], 1005),
        (["/etc/passwd"], 1005),
        (["http://127.0.0.1/zebra.jpeg"], 1005),
        (["nothing.jpeg"], 1005),
        ([""], 1005),
        (["bm8gcGljdHVyZQ=="], 1005),
        ([], 1001),
        ("zebra.jpeg", 1001),
        ([1], 1001),
    ],
)
def test_what_is_not_read(server, data, code):
    status, answer = predict(server, data, MODEL)
    assert (status // 100, answer["status"]["dd_code"]) == (4, code), answer


def test_services_that_cannot_be(server):
    assert ask(server, "PUT", "/services/x", {"model": {"repository": "/nowhere"}})[0] == 404
    assert ask(server, "PUT", "/services/x", {})[1]["status"]["dd_code"] == 1006
    assert ask(server, "PUT", "/services/" + "x" * 300, {"model": {"repository": MODEL}})[0] == 400
    for name in ("%00", "a%00", "%0a", "%7f", "%ff%00"):
        status, answer = ask(server, "PUT", f"/services/{name}", {"model": {"repository": MODEL}})
        assert (status, answer["status"]["dd_code"]) == (400, 1005), (name, answer)
    assert ask(server, "PUT", "/services/x", {"model": {"repository": "m" * 1_000_000}})[0] == 404
    long = ask(server, "POST", "/predict", {"service": "\U0010ffff" * 100_000, "data": ["a"]})
    assert long[0] == 404
    assert len(str(long[1])) < 1000
    assert ask(server, "POST", f"/services/{MODEL}", {})[0] == 201
    assert ask(server, "GET", "/services/nothing")[0] == 404
    assert ask(server, "DELETE", "/services/nothing")[0] == 404
    assert ask(server, "POST", "/predict", {"data": ["zebra.jpeg"]})[1]["status"]["dd_code"] == 1002


def test_it_is_off_unless_asked_for(exact_server):
    for method, path in (("GET", "/info"), ("POST", "/predict"), ("GET", f"/services/{MODEL}")):
        assert exact_server.request(method, path, b"{}").status == 404
