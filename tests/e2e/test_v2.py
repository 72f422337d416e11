"""The Open Inference Protocol, spoken by the client NVIDIA ships."""

from __future__ import annotations

import asyncio
import json
import zlib

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient import http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.numeric

QUANT, FLOAT = "mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_frozen"


@pytest.fixture
def client(exact_server):
    made = triton.InferenceServerClient(f"127.0.0.1:{exact_server.port}")
    yield made
    made.close()


def pixels(file):
    """What the model sees of a photo, made without cpuserve."""
    return cv2.cvtColor(cv2.resize(cv2.imread(str(file)), (224, 224)), cv2.COLOR_BGR2RGB)


def as_input(name, array, datatype, *, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(QUANT)
    assert client.is_model_ready(QUANT, "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "cpuserve"
    metadata = client.get_model_metadata(FLOAT)
    assert metadata["inputs"] == [{"name": "input:0", "datatype": "FP32", "shape": [-1, 224, 224, 3]}]
    assert [(o["datatype"], o["shape"]) for o in metadata["outputs"]] == [("FP32", [-1, 1001])]


@pytest.mark.parametrize("model", [QUANT, FLOAT])
@pytest.mark.parametrize("photo", ["zebra.jpeg", "pelican.jpeg", "bird.bmp"])
@pytest.mark.parametrize("binary", [True, False])
def test_tensors_and_pictures_get_the_same_top_class(client, data_dir, expected, model, photo, binary):
    name = client.get_model_metadata(model)["inputs"][0]["name"]
    image = pixels(data_dir / "images" / photo)
    tensor = image[None] if model == QUANT else ((image.astype(np.float32) - 127.5) / 127.5)[None]
    by_tensor = client.infer(
        model, [as_input(name, tensor, "UINT8" if model == QUANT else "FP32", binary=binary)]
    )
    encoded = np.array([(data_dir / "images" / photo).read_bytes()], dtype=np.object_)
    by_picture = client.infer(model, [as_input(name, encoded, "BYTES")])
    output = client.get_model_metadata(model)["outputs"][0]["name"]
    file = {QUANT: "mobilenet_v2_1.0_224_quant.tflite", FLOAT: "mobilenet_v2_1.0_224_frozen.pb"}[model]
    top, _, probability = expected["classify"][file][photo][0]
    for result in (by_tensor, by_picture):
        scores = result.as_numpy(output)
        assert scores.shape == (1, 1001)
        assert scores.argmax() == top
        assert scores.max() == pytest.approx(probability, abs=0.02)


def test_many_pictures_in_one_request_are_answered_in_order(client, data_dir, expected):
    photos = [
        "zebra.jpeg",
        "bee.jpeg",
        "bird.bmp",
        "orange.png",
        "snail.jpeg",
    ] * 4  # more than the largest batch
    encoded = np.array([(data_dir / "images" / photo).read_bytes() for photo in photos], dtype=np.object_)
    result = client.infer(FLOAT, [as_input("input:0", encoded, "BYTES")], request_id="42")
    scores = result.as_numpy("MobilenetV2/Predictions/Softmax:0")
    right = [expected["classify"]["mobilenet_v2_1.0_224_frozen.pb"][photo][0][0] for photo in photos]
    assert scores.argmax(axis=1).tolist() == right
    assert result.get_response()["id"] == "42"


@pytest.mark.parametrize("model", [QUANT, FLOAT])
def test_many_tensors_in_one_request_are_answered_in_order(client, data_dir, expected, model):
    photos = ["zebra.jpeg", "bee.jpeg", "bird.bmp", "orange.png", "snail.jpeg"] * 2
    batch = np.stack([pixels(data_dir / "images" / photo) for photo in photos])
    if model == FLOAT:
        batch = (batch.astype(np.float32) - 127.5) / 127.5
    metadata = client.get_model_metadata(model)
    sent = as_input(metadata["inputs"][0]["name"], batch, metadata["inputs"][0]["datatype"])
    scores = client.infer(model, [sent]).as_numpy(metadata["outputs"][0]["name"])
    right = [expected["classify"]["mobilenet_v2_1.0_224_frozen.pb"][photo][0][0] for photo in photos]
    assert scores.argmax(axis=1).tolist() == right


def test_a_segmentation_model_answers_pictures_with_its_own_tensor(client, data_dir):
    encoded = np.array([(data_dir / "images" / "bird_segmentation.bmp").read_bytes()], dtype=np.object_)
    result = client.infer("deeplabv3_257_mv_gpu", [as_input("sub_7", encoded, "BYTES")])
    scores = result.as_numpy("ResizeBilinear_3")
    assert scores.shape == (1, 257, 257, 21)
    assert (scores.argmax(axis=-1) == 3).mean() == pytest.approx(0.206, abs=0.01)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests(client, data_dir, coding):
    tensor = pixels(data_dir / "images" / "zebra.jpeg")[None]
    result = client.infer(QUANT, [as_input("input", tensor, "UINT8")], request_compression_algorithm=coding)
    assert result.as_numpy("MobilenetV2/Predictions/Softmax").argmax() == 341


def test_a_compressed_bomb_is_413_and_other_codings_400(exact_server):
    bomb = zlib.compress(b"\0" * (33 << 20))
    for body, coding, status in (
        (bomb, "deflate", 413),
        (b"x", "gzip", 400),
        (bomb[:99], "deflate", 400),
        (b"x", "br", 400),
    ):
        got = exact_server.request("POST", f"/v2/models/{QUANT}/infer", body, {"Content-Encoding": coding})
        assert got.status == status


def test_classification_extension(client, data_dir):
    output = triton.InferRequestedOutput("MobilenetV2/Predictions/Softmax", class_count=3)
    tensor = pixels(data_dir / "images" / "zebra.jpeg")[None]
    result = client.infer(QUANT, [as_input("input", tensor, "UINT8")], outputs=[output])
    best = result.as_numpy("MobilenetV2/Predictions/Softmax")
    assert best.shape == (1, 3)
    value, index, label = best[0, 0].decode().split(":")
    assert (index, label) == ("341", "zebra")
    assert float(value) > 0.9


def test_statistics_grow_by_what_was_asked_whichever_worker_answers(client, data_dir):
    tensor = pixels(data_dir / "images" / "zebra.jpeg")[None]

    def counts():
        (stats,) = client.get_inference_statistics(QUANT)["model_stats"]
        inference = stats["inference_stats"]
        return [stats["inference_count"], inference["success"]["count"], inference["queue"]["count"]]

    before = counts()
    for _ in range(7):
        client.infer(QUANT, [as_input("input", np.concatenate([tensor] * 3), "UINT8")])
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [21, 7, 7]
    everything = client.get_inference_statistics()["model_stats"]
    assert {entry["name"] for entry in everything} >= {QUANT, FLOAT}


def test_configuration(client):
    config = client.get_model_config(FLOAT)
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == [224, 224, 3]
    assert (
        config["max_batch_size"] == 8
    )  # larger requests are cut, into single rows where a worker has one thread
    assert config["dynamic_batching"]["preferred_batch_size"] == [1]


def test_metrics_are_prometheus_text_with_the_names_of_ovms_dashboards(exact_server, data_dir):
    exact_server.post(f"/predictions/{QUANT}", (data_dir / "images" / "bee.jpeg").read_bytes())
    families = {
        family.name: family
        for family in text_string_to_metric_families(exact_server.get("/metrics").body.decode())
    }
    for name in ("ovms_request_time_us", "ovms_inference_time_us", "ovms_wait_for_infer_req_time_us"):
        samples = [
            sample
            for sample in families[name].samples
            if sample.labels.get("name") == QUANT and sample.labels.get("interface") != "gRPC"
        ]
        buckets = [sample.value for sample in samples if sample.name.endswith("_bucket")]
        (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == count > 0
    for name in ("ovms_streams", "ovms_current_requests", "ovms_requests_success", "ovms_requests_fail"):
        assert any(sample.labels["name"] == QUANT for sample in families[name].samples)


def test_the_whole_body_may_be_the_picture(exact_server, data_dir):
    photo = (data_dir / "images" / "zebra.jpeg").read_bytes()
    path = f"/v2/models/{FLOAT}/infer"
    got = exact_server.request("POST", path, photo, {"Inference-Header-Content-Length": "0"})
    length = int(got.headers["Inference-Header-Content-Length"])
    head = json.loads(got.body[:length])
    assert head["outputs"][0]["parameters"]["binary_data_size"] == 4004
    assert np.frombuffer(got.body[length:], np.float32).argmax() == 341


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: as_input("nothing", np.zeros((1, 224, 224, 3), np.uint8), "UINT8"),
            "there is no input 'nothing'",
        ),
        (lambda: as_input("input", np.zeros((1, 224, 224, 3), np.float32), "FP32"), "UINT8, not FP32"),
        (lambda: as_input("input", np.zeros((1, 100, 224, 3), np.uint8), "UINT8"), "[-1, 224, 224, 3]"),
        (lambda: as_input("input", np.zeros((224, 224, 3), np.uint8), "UINT8"), "[-1, 224, 224, 3]"),
        (lambda: as_input("input", np.array([b"not a picture"], np.object_), "BYTES"), "is not a picture"),
    ],
)
def test_refusals_reach_the_client_as_text(client, make, words):
    with pytest.raises(InferenceServerException) as caught:
        client.infer(QUANT, [make()])
    assert words in caught.value.message()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "inputs"),
        (b'{"inputs": []}', "inputs"),
        (b'{"inputs": [{"name": "input"}]}', "datatype"),
        (b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [-1]}]}', "shape"),
        (b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1]}]}', "data"),
        (b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [2], "data": [1]}]}', "2 values, 1"),
        (b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1], "data": [300]}]}', "fit"),
        (b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1], "data": ["a"]}]}', "numbers"),
        (b'{"inputs": [{"name": "input", "datatype": "FP99", "shape": [1], "data": [1]}]}', "FP99"),
        (b'{"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1], "data": ["%"]}]}', "base64"),
        (
            b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1], "data": [1]},'
            b' {"name": "input", "datatype": "UINT8", "shape": [1], "data": [1]}]}',
            "sent twice",
        ),
    ],
)
def test_malformed_requests_are_400_and_say_why(exact_server, document, words):
    got = exact_server.post(f"/v2/models/{QUANT}/infer", document)
    assert got.status == 400
    assert words in got.json()["error"]


def test_an_alias_is_answered_by_the_model_that_has_it(client, exact_server, data_dir):
    """The catalogue's alias, which pull recorded; the answer names the model itself."""
    photo = (data_dir / "images" / "zebra.jpeg").read_bytes()
    alone, other = (
        exact_server.post(f"/predictions/{name}", photo).json() for name in (QUANT, "mobilenet_v2")
    )
    assert other == alone
    assert client.is_model_ready("mobilenet_v2", "1")
    assert client.get_model_metadata("mobilenet_v2") == client.get_model_metadata(QUANT)
    (stats,) = client.get_inference_statistics("mobilenet_v2")["model_stats"]
    assert stats["name"] == QUANT
    status = exact_server.get("/v1/models/mobilenet_v2").json()
    assert (status["name"], len(status["model_version_status"])) == (QUANT, 1)


def test_unknown_names_are_404(exact_server):
    for path in ("/v2/models/nothing/infer", f"/v2/models/{QUANT}/versions/7/infer", "/v2/nothing"):
        got = exact_server.post(path, b"{}")
        assert got.status == 404
        assert got.json()["error"]
    got = exact_server.get(f"/v2/models/{QUANT}/infer")
    assert (got.status, "POST" in got.headers["Allow"]) == (405, True)
    assert got.json()["error"].startswith(f"GET is not answered at /v2/models/{QUANT}/infer: use ")


def test_the_asynchronous_client(exact_server, data_dir):
    photos = [(data_dir / "images" / name).read_bytes() for name in ("zebra.jpeg", "pelican.jpeg")]

    async def ask():
        async with aio.InferenceServerClient(f"127.0.0.1:{exact_server.port}") as client:
            assert await client.is_server_ready()
            metadata = await client.get_model_metadata(FLOAT)
            name = metadata["inputs"][0]["name"]
            wanted = [aio.InferRequestedOutput(metadata["outputs"][0]["name"], class_count=1)]
            answers = await asyncio.gather(
                *(
                    client.infer(
                        FLOAT, [as_input(name, np.array([photo], np.object_), "BYTES")], outputs=wanted
                    )
                    for photo in photos * 4
                )
            )
            statistics = await client.get_inference_statistics(FLOAT)
            assert statistics["model_stats"][0]["inference_stats"]["success"]["count"] >= len(answers)
            return [answer.as_numpy(metadata["outputs"][0]["name"]).ravel()[0].decode() for answer in answers]

    labels = [text.split(":")[-1] for text in asyncio.run(ask())]
    assert labels == ["zebra", "pelican"] * 4


def test_log_settings_hold_for_all_workers(client, exact_server):
    before = client.get_log_settings()
    assert before["log_info"] is True
    try:
        assert client.update_log_settings({"log_info": False, "log_verbose_level": 1})["log_info"] is False
        for _ in range(6):  # connections of their own, so that each worker is asked
            found = exact_server.get("/v2/logging").json()
            assert (found["log_info"], found["log_verbose_level"]) == (False, 1)
        with pytest.raises(InferenceServerException, match="stderr"):
            client.update_log_settings({"log_file": "/tmp/elsewhere"})  # noqa: S108
    finally:
        assert client.update_log_settings(before) == before


def test_trace_settings_hold_for_all_workers(client, exact_server):
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    try:
        assert client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})["trace_level"] == [
            "TIMESTAMPS"
        ]
        for _ in range(6):
            assert exact_server.get("/v2/trace/setting").json()["trace_level"] == ["TIMESTAMPS"]
    finally:
        assert client.update_trace_settings(settings={"trace_level": ["OFF"]})["trace_level"] == ["OFF"]


def test_what_is_not_supported_is_501(client, exact_server):
    with pytest.raises(InferenceServerException, match=r"not supported.*shared_memory_prefix"):
        client.get_system_shared_memory_status()
    with pytest.raises(InferenceServerException, match="CUDA is not supported"):
        client.get_cuda_shared_memory_status()
    with pytest.raises(InferenceServerException, match="by model are not supported"):
        client.get_trace_settings(QUANT)
