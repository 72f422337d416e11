"""Frames that the client scaled get the answers a local model gives them, over V2."""

from __future__ import annotations

import json
import os
import resource
import struct
from multiprocessing.shared_memory import SharedMemory as ClientMemory
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest
import simplejpeg
from openvino import opset13 as ops

from cpuserve.models.card import Card
from cpuserve.models.repository import Repository
from cpuserve.models.versions import VersionPolicy
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.protocols.v2 import V2
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings
from cpuserve.video.frame_model import open_frame_model
from tests.protocols.fakes import ask

SIDE = 16


def areas_model(folder) -> None:
    """Write a segmentation [N, 16, 16, 3] whose class of a pixel is its brightest channel."""
    entry = ops.parameter((-1, SIDE, SIDE, 3), np.float32, name="image")
    entry.output(0).set_names({"image"})
    scores = ops.transpose(entry, np.array([0, 3, 1, 2]))
    scores.output(0).set_names({"scores"})
    folder.mkdir(parents=True)
    card = Card(model_type="segmentation", labels=("a", "b", "c"), resize_type="fit_to_window_letterbox")
    model = ov.Model([ops.result(scores)], [entry])
    card.write(model)
    ov.save_model(model, folder / "model.xml")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    areas_model(root / "areas" / "3")
    return Settings(model_repository=root, precision="f32")


@pytest.fixture(scope="module")
def v2(settings):
    file = Repository(settings.model_repository).find("areas")
    pipeline = load_pipeline(openvino_core(), file, settings, 1)
    return V2(
        SimpleNamespace(
            get=lambda *_: pipeline,
            pick=lambda *_: pipeline,
            ready_versions=lambda _: [3],
            rollouts=SimpleNamespace(texts=lambda _: {}),
            version_policy=lambda _: VersionPolicy(),
        )
    )


@pytest.fixture(scope="module")
def local(settings):
    with open_frame_model("areas", settings, threads=1) as model:
        yield model


@pytest.fixture
def pixels():
    return np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def body(datatype, shape, content, outputs=None, width=40, height=30, **more):
    entry = {"name": "image", "datatype": datatype, "shape": shape}
    head = {
        "inputs": [{**entry, "parameters": {"binary_data_size": len(content)}}],
        "parameters": {"frame_width": width, "frame_height": height, "binary_data_output": True, **more},
    }
    if outputs:
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    text = json.dumps(head).encode()
    return text + content, str(len(text))


def infer(v2, *words, **more):
    """Status, and the outputs' bytes or the error."""
    content, length = body(*words, **more)
    status, headers, found = ask(v2.infer, "areas", body=content, inference_header_content_length=length)
    if status != 200:
        return status, found["error"]
    size = int(headers["Inference-Header-Content-Length"])
    outputs, at, values = json.loads(found[:size])["outputs"], size, {}
    for output in outputs:
        end = at + output["parameters"]["binary_data_size"]
        values[output["name"]] = (output, found[at:end])
        at = end
    return status, values


def texts(data):
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(json.loads(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def test_pixels_get_the_answers_of_a_local_model(v2, local, pixels):
    status, found = infer(v2, "UINT8", [3, SIDE, SIDE, 3], pixels.tobytes())
    assert status == 200
    output, data = found["answer"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3])
    assert texts(data) == [local.answer(one, 40, 30) for one in pixels]


def test_frames_may_be_in_shared_memory(v2, local, pixels):
    prefix = f"frames{os.getpid()}_"
    memory = ClientMemory(prefix + "one", create=True, size=pixels.nbytes)
    try:
        memory.buf[: pixels.nbytes] = pixels.tobytes()
        shared = SharedMemory(prefix)
        shared.register("r", prefix + "one", 0, pixels.nbytes)
        place = {"shared_memory_region": "r", "shared_memory_byte_size": pixels.nbytes}
        entry = {"name": "image", "datatype": "UINT8", "shape": [3, SIDE, SIDE, 3], "parameters": place}
        sent = {"inputs": [entry], "parameters": {"frame_width": 40, "frame_height": 30}}
        status, _, found = ask(V2(v2._pool, shared).infer, "areas", body=sent)
    finally:
        memory.close()
        memory.unlink()
    assert status == 200, found
    assert [json.loads(one) for one in found["outputs"][0]["data"]] == [
        local.answer(one, 40, 30) for one in pixels
    ]


def test_answers_to_frames_may_be_asked_for_in_shared_memory(v2, local, pixels):
    prefix = f"frames{os.getpid()}_"
    memory = ClientMemory(prefix + "two", create=True, size=1 << 14)
    shared = SharedMemory(prefix)
    shared.register("r", prefix + "two", 0, 1 << 14)

    def asked(mask_bytes, **more):
        outputs = [
            {"name": name, "parameters": {"shared_memory_region": "r", **where, **more}}
            for name, where in (
                ("answer", {"shared_memory_byte_size": 4096}),
                ("mask", {"shared_memory_byte_size": mask_bytes, "shared_memory_offset": 4096}),
            )
        ]
        shape, values = [1, SIDE, SIDE, 3], pixels[0].tolist()
        entry = {"name": "image", "datatype": "UINT8", "shape": shape, "data": values}
        sent = {"inputs": [entry], "parameters": {"frame_width": 40, "frame_height": 30}, "outputs": outputs}
        return ask(V2(v2._pool, shared).infer, "areas", body=sent)

    try:
        status, _, found = asked(1200)
        assert status == 200, found
        assert found["outputs"] == [
            {"name": "answer", "datatype": "BYTES", "shape": [1]},
            {"name": "mask", "datatype": "UINT8", "shape": [1, 30, 40]},
        ]
        seen = local.submit_seen(pixels[0], 40, 30).result()
        (length,) = struct.unpack_from("<I", memory.buf)
        assert json.loads(bytes(memory.buf[4 : 4 + length])) == seen.answer
        assert bytes(memory.buf[4096 : 4096 + 1200]) == seen.mask.tobytes()
        assert asked(1199)[0] == 400
        status, _, found = asked(1200, classification=2)
        assert status == 400
        assert "output 'answer' of scaled frames has no classification" in found["error"]
    finally:
        memory.close()
        memory.unlink()


def test_masks_are_those_of_a_local_model(v2, local, pixels):
    status, found = infer(v2, "UINT8", [3, SIDE, SIDE, 3], pixels.tobytes(), ["mask", "answer"])
    assert status == 200
    output, data = found["mask"]
    assert output["shape"] == [3, 30, 40]
    masks = np.frombuffer(data, np.uint8).reshape(3, 30, 40)
    for one, mask, answer in zip(pixels, masks, texts(found["answer"][1]), strict=True):
        seen = local.submit_seen(one, 40, 30).result()
        assert answer == seen.answer
        assert np.array_equal(mask, seen.mask)


def test_pictures_of_the_inputs_size_are_frames_too(v2, local, pixels):
    jpegs = [simplejpeg.encode_jpeg(one, 90, "BGR") for one in pixels]
    content = b"".join(struct.pack("<I", len(one)) + one for one in jpegs)
    status, found = infer(v2, "BYTES", [3], content)
    assert status == 200
    decoded = [simplejpeg.decode_jpeg(one, "BGR") for one in jpegs]
    assert texts(found["answer"][1]) == [local.answer(one, 40, 30) for one in decoded]


def test_the_config_says_what_frames_are_scaled_to(v2, local):
    parameters = ask(v2.config, "areas", method="GET")[2]["parameters"]
    assert parameters["version"]["string_value"] == "3"
    assert json.loads(parameters["picture_input"]["string_value"]) == {
        "width": SIDE,
        "height": SIDE,
        "colour": local.scale.colour,
        "fit": "fit_to_window_letterbox",
        "pad_value": 0,
        "mask": True,
    }
    assert "scaled_frames" in ask(v2.server, method="GET")[2]["extensions"]


@pytest.mark.parametrize(
    ("words", "more", "reason"),
    [
        (("UINT8", [1, 8, 8, 3], bytes(192)), {}, r"uint8 [8, 8, 3]; the model takes uint8 [16, 16, 3]"),
        (("UINT8", [8, 8, 3], bytes(192)), {}, "scaled frames are UINT8 [N, height, width, channels]"),
        (("UINT8", [0, 16, 16, 3], b""), {}, "scaled frames are UINT8 [N, height, width, channels]"),
        (("FP32", [1, 4, 4, 3], bytes(192)), {}, "not FP32 [1, 4, 4, 3]"),
        (("BYTES", [1, 2], b"\1\0\0\0a" * 2), {}, "or BYTES [N], not BYTES [1, 2]"),
        (("BYTES", [1], b"\4\0\0\0abcd"), {}, "picture"),
        (("UINT8", [1, 16, 16, 3], bytes(768)), {"width": 0}, "frame_width is a number of pixels from 1 to"),
        (("UINT8", [1, 16, 16, 3], bytes(768)), {"height": "9"}, "frame_height is a number of pixels"),
        (("UINT8", [1, 16, 16, 3], bytes(768)), {"height": None}, "frame_height is a number of pixels"),
        (("UINT8", [1, 16, 16, 3], bytes(768)), {"topk": "3"}, "topk is a whole number"),
        (("UINT8", [1, 16, 16, 3], bytes(768)), {"outputs": ["scores"]}, "the outputs answer and mask"),
        (
            ("UINT8", [1, 16, 16, 3], bytes(768), ["mask"]),
            {"width": 65535, "height": 65535},
            "max_answer_bytes",
        ),
    ],
)
def test_bad_frames_are_refused(v2, words, more, reason):
    status, error = infer(v2, *words, **more)
    assert status in (400, 415)
    assert reason in error


def test_pictures_are_decoded_one_after_the_other(v2):
    small = simplejpeg.encode_jpeg(np.zeros((4000, 4000, 3), np.uint8), 90, "BGR")  # 48 MB of pixels
    content = b"".join(struct.pack("<I", len(small)) + small for _ in range(40))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, error = infer(v2, "BYTES", [40], content)
    assert (status, "uint8 [4000, 4000, 3]; the model takes" in error) == (400, True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kB, not 40 times 48 MB


def test_too_many_frames_are_refused(v2):
    status, error = infer(v2, "UINT8", [1025, SIDE, SIDE, 3], bytes(1025 * SIDE * SIDE * 3))
    assert (status, "max_pictures" in error) == (400, True)
