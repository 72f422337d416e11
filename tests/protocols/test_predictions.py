"""Pictures in forms, and the forms of answers: what can be taken or given, and what is refused."""

from __future__ import annotations

import gzip
import re
import tempfile

import orjson
import pytest

from cpuserve.errors import BodyTooLarge, RequestError
from cpuserve.protocols import predictions as images
from cpuserve.protocols.call import Call, answer

PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def form(*parts):
    return b"".join(PART % part for part in parts) + b"--b--\r\n"


def picture(body, **headers):
    kind = "multipart/form-data; boundary=b"
    return images._picture(Call("POST", "/", "", {"content-type": kind, **headers}, body))


def test_the_first_file_counts_and_the_fields_beside_it_do_not():
    body = form(
        (b"name", b"", b"value"), (b"a", b'; filename="a"', b"one"), (b"b", b'; filename="b"', b"two")
    )
    assert bytes(picture(body)) == b"one"
    assert bytes(picture(gzip.compress(body), **{"content-encoding": "gzip"})) == b"one"


def test_a_large_file_is_not_written_to_disk(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    assert picture(form((b"a", b'; filename="a"', b"x" * 2_000_000))).nbytes == 2_000_000


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (form((b"name", b"", b"value")), RequestError, "no file"),
        (form((b"name", b"", b"v" * 600_000)), BodyTooLarge, "500 kB"),
        (form(*[(b"name", b"", b"v")] * 1001), BodyTooLarge, "too many parts"),
        (b"--b\r\nnonsense", RequestError, "no file"),
    ],
)
def test_forms_that_are_refused(body, error, words):
    with pytest.raises(error, match=words):
        picture(body)


class Pipeline:
    """Answers whatever it is asked, by what it was asked for."""

    name, version = "m", 1

    def predict(self, picture, request, topk):
        return {"predictions": [], "topk": topk}

    def render(self, picture, request, topk, *, mask):
        return b"mask" if mask else b"overlay"


class Pool:
    def pick(self, _model, _version, _headers):
        return Pipeline()


def predict(accept, query=""):
    call = Call("POST", "/", query, {} if accept is None else {"accept": accept}, b"x")
    return answer(images.Predictions(Pool()).predict, call, "m")


@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        (None, "", "application/json"),
        ("", "", "application/json"),
        ("*/*", "topk=3", "application/json"),
        ("application/*", "", "application/json"),
        ("text/html, */*;q=0.1", "", "application/json"),
        ("image/png;q=0.5, application/json", "", "application/json"),
        ("image/png", "", b"overlay"),
        ("image/*", "topk=3", b"overlay"),
        ("application/json;q=0.5, image/png", "render=overlay", b"overlay"),
        ("image/png", "render=mask", b"mask"),
        ("*/*", "render=mask", b"mask"),
        (None, "render=mask&render=overlay", b"overlay"),
    ],
)
def test_what_accept_and_render_ask_for(accept, query, kind):
    reply = predict(accept, query)
    headers = dict(reply.headers)
    assert reply.status == 200
    assert "decode;dur=" in headers["Server-Timing"]
    if isinstance(kind, bytes):
        assert (headers["Content-Type"], reply.body) == ("image/png", kind)
    else:
        assert headers["Content-Type"] == kind
        assert orjson.loads(reply.body)["topk"] == (3 if "topk" in query else None)


@pytest.mark.parametrize(
    ("accept", "query", "status", "words"),
    [
        ("text/html", "", 406, "application/json or image/png; .* 'text/html'"),
        ("image/webp", "", 406, "image/webp"),
        ("image/png;q=0", "", 406, "image/png;q=0"),
        ("application/json", "render=mask", 406, "the answer is image/png"),
        ("nonsense", "", 406, "nonsense"),
        ("*/*", "render=boxes", 400, "one of overlay, mask, not 'boxes'"),
        ("image/png", "render=", 400, "one of overlay, mask"),
        ("image/png", "topk=many", 400, "'many'"),
    ],
)
def test_answers_that_cannot_be_given(accept, query, status, words):
    reply = predict(accept, query)
    assert reply.status == status
    assert re.search(words, orjson.loads(reply.body)["error"])
