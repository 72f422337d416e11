"""DeepLab cut as in the work this is after, served side by side with the whole by one server."""

from __future__ import annotations

import cv2
import numpy as np
import openvino as ov
import pytest
from tritonclient import http as triton

from benchmarks.cut import BIRD, FILES, INPUT, MASK, OUTPUT, PHOTO, iou
from cpuserve.authoring.cut import CutOrder, CutSource, cut
from cpuserve.cli import main
from cpuserve.models.cut_manifest import CutPart
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings
from tests.conftest import ROOT
from tests.servers import serving

pytestmark = pytest.mark.numeric

SIDES = {257: FILES[0], 513: FILES[1]}


def publish_whole(source, name, repository):
    """The graph as it is, in f32: the catalogue's is kept in f16."""
    whole = CutSource.find(str(source), repository)
    whole.write_metadata(whole.model)
    with repository.publish(name, 1) as folder:
        ov.save_model(whole.model, folder / "model.xml", compress_to_fp16=False)


@pytest.fixture(scope="module")
def server(data_dir, tmp_path_factory):
    """A server of both graphs, whole and cut, and of one with the head and tail of the docs."""
    folder = tmp_path_factory.mktemp("cut")
    models = folder / "models"
    (example,) = (
        part.partition("```")[0] for part in (ROOT / "docs" / "cut.md").read_text().split("```python\n")[1:]
    )
    (folder / "deeplab_parts.py").write_text(example)
    repository = Repository(models)
    bird = data_dir / "images" / PHOTO
    for side, file in SIDES.items():
        source = data_dir / "models" / file
        publish_whole(source, f"whole{side}", repository)
        at = ("--input", INPUT, "--output", OUTPUT, "--card", f"whole{side}", "--images", str(bird))
        into = ("--name", f"cut{side}", "--model-repository", str(models), "--quiet")
        with pytest.raises(SystemExit, match="0"):
            main(["cut", str(source), *at, *into])
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(folder)
    order = CutOrder(
        "parts257",
        ("sub_7",),
        ("logits/semantic/BiasAdd",),
        CutPart.parse("deeplab_parts:head"),
        CutPart.parse("deeplab_parts:tail"),
        (bird,),
    )
    whole = CutSource.find(str(data_dir / "models" / SIDES[257]), repository)
    cut(whole, order, repository, Settings(allow_callables=True), 1)
    monkeypatch.undo()
    words = ("--model-repository", str(models), "--decode", "exact", "--precision", "f32", "--workers", "1")
    words += ("--allow-callables",)
    with serving(folder / "log", *words, "--max-batch", "2", PYTHONPATH=str(folder)) as started:
        yield started


@pytest.fixture
def client(server):
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield made
    made.close()


def classes(client, model, data):
    """The class of each pixel, for encoded pictures or a tensor u8."""
    sent = data if isinstance(data, np.ndarray) else np.array([data], np.object_)
    name = client.get_model_metadata(model)["inputs"][0]["name"]
    made = triton.InferInput(name, list(sent.shape), "UINT8" if sent.dtype == np.uint8 else "BYTES")
    made.set_data_from_numpy(sent)
    return client.infer(model, [made]).as_numpy("SemanticPredictions:0")


def test_clients_see_the_whole(client):
    for side in SIDES:
        whole, cut = (client.get_model_metadata(f"{name}{side}") for name in ("whole", "cut"))
        assert cut | {"name": ""} == whole | {"name": ""}
        assert cut["inputs"] == [{"name": "ImageTensor:0", "datatype": "UINT8", "shape": [-1, side, side, 3]}]


def test_all_photos_have_the_same_classes(client, data_dir, expected):
    photos = [name for name, areas in expected["segment"][SIDES[257]].items() if isinstance(areas, dict)]
    assert len(photos) == 11
    for photo in photos:
        data = (data_dir / "images" / photo).read_bytes()
        whole = classes(client, "whole257", data)
        assert (classes(client, "cut257", data) == whole).all(), photo
        # other arithmetic: a pixel in a thousand may fall to the other side of a border
        assert (classes(client, "parts257", data) == whole).mean() > 0.999, photo


@pytest.mark.parametrize(("side", "wanted"), [(257, 0.865), (513, 0.903)])
def test_the_bird_is_found_as_well(client, data_dir, side, wanted):
    mask = cv2.imread(str(data_dir / "images" / MASK), cv2.IMREAD_GRAYSCALE)
    data = (data_dir / "images" / PHOTO).read_bytes()
    whole, cut = (classes(client, f"{name}{side}", data)[0] for name in ("whole", "cut"))
    assert (whole == cut).all()
    assert iou(cut, mask, BIRD) == pytest.approx(wanted, abs=0.001)


def test_words_and_tensors_too(server, client, data_dir, expected):
    file = data_dir / "images" / PHOTO
    answers = [
        server.post(f"/predictions/{name}257", file.read_bytes()).json()["classes"]
        for name in ("whole", "cut", "parts")
    ]
    assert answers[0] == answers[1]
    for answer in answers:
        areas = {row["label"]: row["area"] for row in answer}
        assert areas["bird"] == pytest.approx(expected["segment"][SIDES[257]][PHOTO]["bird"], abs=0.001)
    pixels = cv2.cvtColor(cv2.resize(cv2.imread(str(file)), (257, 257)), cv2.COLOR_BGR2RGB)
    rows = np.stack([pixels, pixels[::-1], pixels[:, ::-1]])
    assert (classes(client, "whole257", rows) == classes(client, "cut257", rows)).all()


def test_damaged_and_wrong_requests_are_refused_as_for_a_whole(server):
    refusals = [server.post(f"/predictions/{name}257", b"\xff\xd8\xff\xe0") for name in ("whole", "cut")]
    assert [refusal.status for refusal in refusals] == [400, 400]
    assert refusals[0].json() == refusals[1].json()
