"""The server as Frigate's detector, over DeepStack's route and ZeroMQ: what its plug-ins send and read."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cpuserve.cli import main
from tests.servers import free_port, serving
from tests.zmq.frigate_client import FrigateClient

MODEL, SIDE = "yolox_nano_416", 416
ROUTE = "/v1/vision/detection"


@pytest.fixture(scope="module")
def repository(data_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("detector")
    models = data_dir / "models"
    words = (
        *("--name", MODEL, "--labels", str(models / "coco_labels_80.txt"), "--model_type", "YOLOX"),
        *("--resize_type", "fit_to_window", "--pad_value", "114", "--set", "confidence_threshold=0.3"),
        *("--no-parity", "--quiet", "--model-repository", str(root)),
    )
    with pytest.raises(SystemExit, match="0"):
        main(["convert", str(models / f"{MODEL}.onnx"), *words])
    return root


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frigate")
    # a short path: that of a socket has 107 letters at most
    endpoints = [f"tcp://127.0.0.1:{free_port()}", f"ipc:///tmp/cpuserve-test-{os.getpid()}"]
    words = (
        *("--model-repository", str(repository), "--workers", "2", "--decode", "exact", "--precision", "f32"),
        *("--deepstack", MODEL, "--zmq-endpoint", ",".join(endpoints), "--zmq-model", MODEL),
    )
    with serving(folder / "log", *words, ready=2) as running:
        running.endpoints = endpoints
        yield running
        assert "Traceback" not in running.text()
    assert not Path(endpoints[1].removeprefix("ipc://")).exists()


@pytest.fixture(scope="module")
def region(data_dir):
    """What Frigate cuts out of a camera's picture and scales: RGB u8 [416, 416, 3]."""
    photo = Image.open(data_dir / "images" / "coco_bus.jpg").convert("RGB")
    return np.asarray(photo.resize((SIDE, SIDE)))


def posted(server, picture, *fields, **headers):
    """DeepStack's answer to a form as Python's requests library sends it."""
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, format="JPEG")
        jpeg = file.getvalue()
    parts = [b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % field for field in fields]
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    body = b"".join([*parts, head, jpeg, b"\r\n--B--\r\n"])
    kind = {"Content-Type": "multipart/form-data; boundary=B", **headers}
    return server.request("POST", ROUTE, body, kind), jpeg


@pytest.mark.numeric
def test_deepstack_answers_the_objects_of_predictions(server, region):
    got, jpeg = posted(server, region, (b"api_key", b""))
    found = got.json()
    assert (got.status, found["success"]) == (200, True)
    wanted = server.post(f"/predictions/{MODEL}", jpeg).json()["detections"]
    wanted = [one for one in wanted if one["probability"] >= 0.4]
    assert [one["label"] for one in found["predictions"]] == [one["label"] for one in wanted]
    assert {"person", "bus"} <= {one["label"] for one in found["predictions"]}
    for one, other in zip(found["predictions"], wanted, strict=True):
        corners = [one[name] for name in ("x_min", "y_min", "x_max", "y_max")]
        assert one["confidence"] == other["probability"]
        assert corners == pytest.approx(other["box"], abs=0.5)


@pytest.mark.numeric
@pytest.mark.parametrize("way", ["tcp", "ipc"])
def test_zmq_answers_the_objects_of_predictions(server, region, way):
    endpoint = next(one for one in server.endpoints if one.startswith(way))
    _, png = cv2.imencode(".png", region[:, :, ::-1])
    wanted = server.post(f"/predictions/{MODEL}", png.tobytes()).json()["detections"]
    assert len(wanted) >= 3
    with FrigateClient(endpoint) as client:
        assert client.ready
        rows = client.detect(region[np.newaxis])
        for row, one in zip(rows, wanted, strict=False):
            left, top, right, bottom = np.array(one["box"]) / SIDE
            places = [top, left, bottom, right]
            assert row == pytest.approx([one["class_id"], one["probability"], *places], abs=1e-4)
        assert not rows[len(wanted) :].any()
        small = cv2.resize(region, (320, 320), interpolation=cv2.INTER_AREA)
        assert {int(row[0]) for row in client.detect(small[np.newaxis])[:2]} <= {int(row[0]) for row in rows}


def test_each_worker_has_an_endpoint(server):
    said = re.findall(r"\[(\d+)\] cpuserve\.zmq: Frigate's detector at (\S+),", server.text())
    assert sorted(endpoint for _, endpoint in said) == sorted(server.endpoints)
    assert len({pid for pid, _ in said}) == 2


def test_both_count_as_requests_of_the_model(server, region):
    def answered():
        return server.get(f"/v2/models/{MODEL}/stats").json()["model_stats"][0]["inference_count"]

    before = answered()
    posted(server, region)
    with FrigateClient(server.endpoints[0]) as client:
        client.detect(region[np.newaxis])
    assert answered() == before + 2


def test_a_client_goes_on_while_the_workers_are_replaced(server, region):
    with FrigateClient(server.endpoints[0], patience_ms=60_000) as client:
        wanted = client.detect(region[np.newaxis])
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.settle(2, before)
        assert client.detect(region[np.newaxis]) == pytest.approx(wanted)


def test_keys_come_in_the_address(repository, region, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    words = ["--model-repository", str(repository), "--workers", "1", "--api-key-file", str(keys)]
    with serving(tmp_path / "log", *words, "--deepstack", MODEL) as server:
        refused, _ = posted(server, region, (b"api_key", b"secret"))
        assert refused.status == 401
        assert "predictions" not in refused.json()
        basic = base64.b64encode(
            b"frigate:secret"
        ).decode()  # what requests makes of http://frigate:secret@HOST
        assert posted(server, region, Authorization=f"Basic {basic}")[0].json()["success"] is True


def test_without_a_setting_there_is_nothing(repository, region, tmp_path):
    words = ["--model-repository", str(repository), "--workers", "1"]
    with serving(tmp_path / "log", *words) as server:
        assert posted(server, region)[0].status == 404


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--deepstack", "other"], "deepstack names model 'other'; the models are: yolox_nano_416"),
        (["--zmq-endpoint", "tcp://127.0.0.1:0", "--zmq-model", "other"], "zmq_model names model 'other'"),
        (["--zmq-endpoint", "tcp://127.0.0.1:0"], "zmq_endpoint needs zmq_model"),
        (["--zmq-endpoint", "5555", "--zmq-model", MODEL], "is such as tcp://0.0.0.0:5555"),
        (["--zmq-endpoint", "ipc://relative", "--zmq-model", MODEL], "is such as tcp://0.0.0.0:5555"),
        (["--zmq-endpoint", "tcp://127.0.0.1:99999", "--zmq-model", MODEL], "is such as tcp://0.0.0.0:5555"),
        (["--zmq-endpoint", "tcp://a..b:5555", "--zmq-model", MODEL], "tcp://a..b:5555 cannot be used"),
        (["--zmq-endpoint", f"ipc:///{'a' * 200}", "--zmq-model", MODEL], "path too long"),
        (
            ["--zmq-endpoint", "ipc:///nonexistent/detector", "--zmq-model", MODEL],
            "No such file or directory",
        ),
        (
            ["--zmq-endpoint", "tcp://127.0.0.1:0", "--zmq-model", MODEL, "--api-key-file", "{keys}"],
            "exclude each other",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(repository, tmp_path, words, said):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    words = [word.format(keys=keys) for word in words]
    command = [sys.executable, "-m", "cpuserve", "serve", "--port", str(free_port()), *words]
    done = subprocess.run(
        [*command, "--model-repository", str(repository)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_endpoint_in_use_is_refused(server, repository):
    words = [
        "--zmq-endpoint",
        server.endpoints[1],
        "--zmq-model",
        MODEL,
        "--model-repository",
        str(repository),
    ]
    command = [sys.executable, "-m", "cpuserve", "serve", "--port", str(free_port()), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Address already in use" in done.stderr
    with FrigateClient(server.endpoints[1]) as client:  # and still answered by the one that has it
        assert json.loads(json.dumps(client.told))["model_loaded"]
