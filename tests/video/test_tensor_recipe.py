"""Servers that take tensors only: the answers are those of the model in the repository of this machine."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from cpuserve.errors import CpuserveError
from cpuserve.local_model import load
from cpuserve.models.card import Card
from cpuserve.protocols.tensor import Tensor, datatype_of
from cpuserve.settings import Settings
from cpuserve.video.frame_model import open_frame_model
from cpuserve.video.replicas import Replicas
from tests.video.fake_replica import reply

SIDE = 16
CARDS = {
    "scaled": Card(
        model_type="segmentation",
        labels=("a", "b", "c"),
        reverse_input_channels=True,
        mean_values=(123.675, 116.28, 103.53),
        scale_values=(58.395, 57.12, 57.375),
        resize_type="fit_to_window_letterbox",
    ),
    "plain": Card(model_type="segmentation", labels=("a", "b", "c")),
}


def areas_model(folder, card) -> None:
    """Write a segmentation [N, 3, 16, 16] whose class of a pixel is its largest channel."""
    entry = ops.parameter((-1, 3, SIDE, SIDE), np.float32, name="image")
    entry.output(0).set_names({"image"})
    scores = ops.multiply(entry, np.float32(1.5))
    scores.output(0).set_names({"scores"})
    model = ov.Model([ops.result(scores)], [entry])
    card.write(model)
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, card in CARDS.items():
        areas_model(root / name / "1", card)
    return Settings(model_repository=root, precision="f32")


@contextmanager
def tensor_server(settings, name, *, datatype="FP32", shape=(-1, 3, SIDE, SIDE), output="scores"):
    """A server of the standard's routes alone, without a config: it runs the model and knows nothing else."""
    with load(name, model_repository=settings.model_repository, precision="f32") as model:
        seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path.endswith("/config"):
                    return reply(self, 404, b'{"error": "Invalid request URL"}')
                entry = {"name": "image", "datatype": datatype, "shape": list(shape)}
                found = {"name": name, "versions": ["1"], "inputs": [entry], "outputs": []}
                return reply(self, 200, b"" if self.path.endswith("/ready") else json.dumps(found).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                length = int(self.headers["Inference-Header-Content-Length"])
                asked = json.loads(body[:length])
                seen.append(asked)
                assert asked["parameters"] == {
                    "binary_data_output": True
                }  # nothing that is not the standard's
                (entry,) = asked["inputs"]
                data = memoryview(body)[length:]
                tensor = Tensor(entry["name"], entry["datatype"], tuple(entry["shape"]), data).array()
                (values,) = model.infer(tensor).values()
                entry = {"name": output, "datatype": datatype_of(values.dtype), "shape": list(values.shape)}
                said = {"outputs": [{**entry, "parameters": {"binary_data_size": values.nbytes}}]}
                head = json.dumps(said).encode()
                headers = {"Inference-Header-Content-Length": str(len(head))}
                reply(self, 200, head + values.tobytes(), **headers)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.mark.parametrize("name", CARDS)
def test_answers_and_masks_are_those_of_the_local_model(settings, name):
    frames = np.random.default_rng(4).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    with (
        tensor_server(settings, name) as (url, seen),
        open_frame_model(name, settings, threads=1) as local,
        Replicas([url], name, settings=settings) as replicas,
    ):
        assert replicas.scale == local.scale
        for pixels in frames:
            wanted = local.submit_seen(pixels, 40, 30).result()
            found = replicas.submit_seen(pixels, 40, 30).result()
            assert found.answer == wanted.answer
            assert np.array_equal(found.mask, wanted.mask)
    assert len(seen) == len(frames)


def test_an_output_of_another_name_is_taken_by_its_place(settings):
    pixels = np.random.default_rng(6).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with (
        tensor_server(settings, "plain", output="other") as (url, _),
        open_frame_model("plain", settings, threads=1) as local,
        Replicas([url], "plain", settings=settings) as replicas,
    ):
        assert replicas.answer(pixels, 40, 30) == local.answer(pixels, 40, 30)


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ({"datatype": "UINT8"}, r"its input is UINT8 .* on this machine FP32 \[-1, 3, 16, 16\]"),
        ({"shape": (-1, 3, 32, 32)}, r"its input is FP32 \[-1, 3, 32, 32\]"),
        ({"shape": (3, SIDE, SIDE)}, r"its input is FP32 \[3, 16, 16\]"),
    ],
)
def test_another_input_is_refused_at_once(settings, port, reason):
    with tensor_server(settings, "plain", **port) as (url, _), pytest.raises(CpuserveError, match=reason):
        Replicas([url], "plain", settings=settings)


def test_without_the_model_on_this_machine_it_says_so(settings, tmp_path):
    reason = r"takes tensors only.*--model-repository.*no model"
    with tensor_server(settings, "plain") as (url, _), pytest.raises(CpuserveError, match=reason):
        Replicas([url], "plain", settings=Settings(model_repository=tmp_path))


def test_jpeg_is_refused_by_its_setting(settings):
    with (
        tensor_server(settings, "plain") as (url, _),
        Replicas([url], "plain", settings=settings, payload="jpeg") as replicas,
        pytest.raises(CpuserveError, match="--payload raw"),
    ):
        replicas.answer(np.zeros((SIDE, SIDE, 3), np.uint8), 40, 30)
