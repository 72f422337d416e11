"""Right answers over HTTP, from real models for real photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import CLASSIFIERS, MODELS

pytestmark = pytest.mark.numeric

NAMED = {  # the photos that are named after their ImageNet class
    "airliner.jpeg": "airliner",
    "arctic-fox.jpeg": "Arctic fox",
    "bee.jpeg": "bee",
    "golden_retriever.jpeg": "golden retriever",
    "gorilla.jpeg": "gorilla",
    "magnetic_compass.jpeg": "magnetic compass",
    "peacock.jpeg": "peacock",
    "pelican.jpeg": "pelican",
    "snail.jpeg": "snail",
    "zebra.jpeg": "zebra",
}
SEGMENTERS = ["deeplabv3_257_mv_gpu", "deeplabv3_mnv2_pascal_quant"]


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_photos_named_by_class_are_all_right(exact_server, data_dir, model):
    for photo, label in NAMED.items():
        answer = exact_server.post(f"/predictions/{model}", (data_dir / "images" / photo).read_bytes()).json()
        assert answer["predictions"][0]["label"] == label, photo
        assert (answer["model"], answer["version"]) == (model, "1")


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_all_photos_and_formats_answer_as_expected(exact_server, data_dir, expected, model):
    answers = expected["classify"][MODELS[model]]
    assert len(answers) == 41
    for photo, best in answers.items():
        got = exact_server.post(f"/predictions/{model}?topk=1001", (data_dir / "images" / photo).read_bytes())
        found = {row["class_id"]: row["probability"] for row in got.json()["predictions"]}
        for class_id, _, probability in best:
            assert found[class_id] == pytest.approx(probability, abs=0.02), photo
        assert got.json()["predictions"][0]["probability"] == max(found.values())


@pytest.mark.parametrize("model", SEGMENTERS)
def test_class_areas_are_as_expected(exact_server, data_dir, expected, model):
    for photo, areas in expected["segment"][MODELS[model]].items():
        if not isinstance(areas, dict) or not (data_dir / "images" / photo).is_file():
            continue
        got = exact_server.post(f"/predictions/{model}", (data_dir / "images" / photo).read_bytes()).json()
        found = {row["label"]: row["area"] for row in got["classes"]}
        assert sum(found.values()) == pytest.approx(1, abs=1e-4)
        for label in {*areas, *found}:
            assert found.get(label, 0) == pytest.approx(areas.get(label, 0), abs=0.01), (photo, label)


def test_visual_wake_words(exact_server, data_dir, expected):
    for photo, (_, person) in expected["vww"]["vww_96_int8.tflite"].items():
        got = exact_server.post("/predictions/vww_96_int8", (data_dir / "images" / photo).read_bytes()).json()
        found = {row["class_id"]: row["probability"] for row in got["predictions"]}
        assert found[1] == pytest.approx((person + 128) / 256, abs=0.02), photo


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_fast_decoding_and_default_precision_name_the_same_classes(fast_server, data_dir, model):
    for photo, label in NAMED.items():
        answer = fast_server.post(
            f"/predictions/{model}/1", (data_dir / "images" / photo).read_bytes()
        ).json()
        assert answer["predictions"][0]["label"] == label, photo


def test_a_multipart_form_answers_as_the_raw_body(exact_server, data_dir):
    photo = (data_dir / "images" / "zebra.jpeg").read_bytes()
    form = (
        b'--B\r\nContent-Disposition: form-data; name="data"; filename="z.jpeg"\r\n\r\n'
        + photo
        + b"\r\n--B--\r\n"
    )
    path = "/predictions/mobilenet_v2_1.0_224_quant"
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    assert exact_server.request("POST", path, form, headers).json() == exact_server.post(path, photo).json()


def test_the_stages_are_in_the_server_timing_header(fast_server, data_dir):
    got = fast_server.post(
        "/predictions/mobilenet_v2_1.0_224_frozen", (data_dir / "images" / "bee.jpeg").read_bytes()
    )
    stages = dict(part.split(";dur=") for part in got.headers["Server-Timing"].split(", "))
    assert list(stages) == ["decode", "queue", "infer", "post", "total"]
    times = {stage: float(milliseconds) for stage, milliseconds in stages.items()}
    assert times["decode"] > 0
    assert times["infer"] > 0
    assert 0 < sum(times.values()) - times["total"] <= times["total"]


@pytest.mark.parametrize("model", SEGMENTERS)
def test_masks_lie_on_the_birds(exact_server, data_dir, expected, model):
    """The class of each pixel as a PNG, against the mask that a person drew."""
    photo = (data_dir / "images" / "bird_segmentation.bmp").read_bytes()
    got = exact_server.post(f"/predictions/{model}?render=mask", photo, Accept="image/png")
    assert got.headers["Content-Type"] == "image/png"
    found = np.asarray(Image.open(io.BytesIO(got.body)))
    wanted = np.asarray(Image.open(data_dir / "images" / "bird_segmentation_mask.bmp"))
    assert found.shape == wanted.shape
    both, either = ((found == 3) & (wanted == 3)).sum(), ((found == 3) | (wanted == 3)).sum()
    assert both / either == pytest.approx({"deeplabv3_257_mv_gpu": 0.865}.get(model, 0.9025), abs=0.005)
    areas = exact_server.post(f"/predictions/{model}", photo).json()["classes"]
    assert np.mean(found == 3) == pytest.approx(areas[1]["area"], abs=0.002)


def test_classes_are_written_on_the_picture(exact_server, data_dir):
    photo = (data_dir / "images" / "bee.jpeg").read_bytes()
    path = "/predictions/mobilenet_v2_1.0_224_quant"
    got = exact_server.post(path, photo, Accept="image/png")
    with Image.open(io.BytesIO(got.body)) as drawn, Image.open(io.BytesIO(photo)) as plain:
        assert drawn.size == plain.size
        assert np.asarray(drawn)[:9, :9].tolist() != np.asarray(plain)[:9, :9].tolist()
    refused = exact_server.post(path, photo, Accept="audio/mpeg")
    assert (refused.status, "image/png" in refused.json()["error"]) == (406, True)
