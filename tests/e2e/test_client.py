"""The project's own client against a real server."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cpuserve.client import Client, ClientError

FLOAT = "mobilenet_v2_1.0_224_frozen"


def test_shrunk_pictures_have_the_same_top_class(fast_server, data_dir):
    files = sorted((data_dir / "images").glob("*.*"))
    with Client(f"http://127.0.0.1:{fast_server.port}") as client:
        assert client.input_size(FLOAT) == (224, 224)
        same = 0
        for file in files:
            picture = file.read_bytes()
            whole = client.predict(FLOAT, picture, shrinking=False, topk=1)["predictions"][0]
            small = client.predict(FLOAT, picture, topk=1)["predictions"][0]
            if small["class_id"] == whole["class_id"]:
                same += 1
            else:  # only where the model itself is undecided
                assert whole["probability"] < 0.5, file.name
        assert same >= 0.85 * len(files)


def test_a_refusal_has_its_status_and_reason(fast_server):
    with Client(f"127.0.0.1:{fast_server.port}") as client:
        with pytest.raises(ClientError, match="no model") as refused:
            client.predict("nothing", b"")
        assert refused.value.status == 404
        with pytest.raises(ClientError, match="empty") as refused:
            client.predict(FLOAT, b"")
        assert refused.value.status == 400
        photo = cv2.imencode(".jpg", np.full((300, 400, 3), 90, np.uint8))[1].tobytes()
        assert client.predict(FLOAT, photo)["model"] == FLOAT  # the connection lives on
