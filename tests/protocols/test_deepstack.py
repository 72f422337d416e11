"""DeepStack's route: what Frigate's detector sends, and what it needs of the answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cpuserve.errors import ModelNotReady, UndecodableImage
from cpuserve.protocols.deepstack import MOST_OBJECTS, DeepStack
from tests.protocols.fakes import ask

KIND = "multipart/form-data; boundary=b"
PICTURE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n%s\r\n'
TEXT = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


def found(label, probability, box=(0.4, 1.6, 30, 40)):
    return {"class_id": 0, "label": label, "probability": probability, "box": list(box)}


class Models:
    """One model, which answers what a test says; ``seen`` are the pictures it got."""

    def __init__(self, answer):
        self.seen = []
        self._answer = answer

    def pick(self, name, version, headers):
        assert version is None
        assert headers
        assert name == "detector"
        if isinstance(self._answer, ModelNotReady):
            raise self._answer
        return SimpleNamespace(predict=self._predict)

    def _predict(self, picture, _request):
        self.seen.append(bytes(picture))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def detect(answer, body=PICTURE % b"jpeg" + b"--b--\r\n", kind=KIND):
    models = Models(answer)
    status, headers, document = ask(DeepStack(models, "detector").detect, body=body, content_type=kind)
    assert headers["Content-Type"] == "application/json"
    return status, document, models.seen


def test_objects_are_answered_best_first_in_whole_pixels():
    body = TEXT % (b"api_key", b"") + PICTURE % b"jpeg" + b"--b--\r\n"
    status, document, seen = detect({"detections": [found("person", 0.9), found("Dog", 0.41)]}, body)
    assert (status, seen) == (200, [b"jpeg"])
    corners = {"x_min": 0, "y_min": 2, "x_max": 30, "y_max": 40}
    assert document == {
        "success": True,
        "predictions": [
            {"label": "person", "confidence": 0.9, **corners},
            {"label": "Dog", "confidence": 0.41, **corners},
        ],
    }
    assert all(type(value) is int for value in corners.values())


@pytest.mark.parametrize(("asked", "count"), [(b"", 2), (b"0.1", 3), (b"0.75", 1), (b"1", 0), (b"0", 4)])
def test_what_is_less_sure_than_asked_is_left_out(asked, count):
    body = TEXT % (b"min_confidence", asked) + PICTURE % b"jpeg" + b"--b--\r\n"
    answer = {"detections": [found("a", score) for score in (0.8, 0.4, 0.39, 0.05)]}
    assert len(detect(answer, body)[1]["predictions"]) == count


def test_frigate_has_room_for_twenty():
    answer = {"detections": [found(str(place), 0.9) for place in range(40)]}
    labels = [one["label"] for one in detect(answer)[1]["predictions"]]
    assert labels == [str(place) for place in range(MOST_OBJECTS)]


@pytest.mark.parametrize(
    ("answer", "body", "kind", "status", "words"),
    [
        ({}, b"raw", "image/jpeg", 400, "multipart form with the picture as file 'image'"),
        ({}, TEXT % (b"image", b"text") + b"--b--\r\n", KIND, 400, "file 'image'"),
        ({}, b"--c", KIND, 400, "file 'image'"),
        *(
            (
                {"detections": []},
                TEXT % (b"min_confidence", wrong) + PICTURE % b"jpeg" + b"--b--\r\n",
                KIND,
                400,
                "min_confidence is a number from 0 to 1",
            )
            for wrong in (b"high", b"nan", b"-1", b"40")
        ),
        (UndecodableImage("no picture"), PICTURE % b"?" + b"--b--\r\n", KIND, 400, "no picture"),
        ({"predictions": []}, PICTURE % b"j" + b"--b--\r\n", KIND, 400, "deepstack takes a detector"),
        (ModelNotReady("still loading"), PICTURE % b"j" + b"--b--\r\n", KIND, 503, "still loading"),
    ],
)
def test_refusals_say_why_in_json(answer, body, kind, status, words):
    got, document, _ = detect(answer, body, kind)
    assert got == status
    assert (document["success"], document["code"]) == (False, status)
    assert words in document["error"]
    assert "predictions" not in document  # Frigate takes that for no objects
