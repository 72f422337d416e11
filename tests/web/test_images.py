"""Forms that bring pictures: read in memory, and refused with a reason when they are none."""

from __future__ import annotations

import gzip
import tempfile

import pytest

from cpuserve.errors import BodyTooLarge, RequestError
from cpuserve.web import images
from cpuserve.web.exchange import Body, Call

PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def form(*parts):
    return b"".join(PART % part for part in parts) + b"--b--\r\n"


def picture(body, **headers):
    kind = "multipart/form-data; boundary=b"
    return images._picture(Call({"CONTENT_TYPE": kind, "wsgi.input": Body(body), **headers}))


def test_the_first_file_counts_and_the_fields_beside_it_do_not():
    body = form(
        (b"name", b"", b"value"), (b"a", b'; filename="a"', b"one"), (b"b", b'; filename="b"', b"two")
    )
    assert bytes(picture(body)) == b"one"
    assert bytes(picture(gzip.compress(body), HTTP_CONTENT_ENCODING="gzip")) == b"one"


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
