"""Answers to what went wrong: what the client reads, and what only the log says."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import RepositoryError, RequestError, UsageError
from cpuserve.protocols.call import Body, Call, answer

PATH = "/srv/models/a/1/model.xml"


@pytest.mark.parametrize(
    ("error", "status", "told", "logged"),
    [
        (RequestError("ask at /v2/models/NAME/infer"), 400, "ask at /v2/models/NAME/infer", False),
        (RepositoryError(f"cannot list {PATH}: denied"), 500, "cannot list model.xml: denied", True),
        (UsageError(f"{PATH} is not JSON"), 500, "model.xml is not JSON", True),
        (OSError(2, "No such file", PATH), 500, "internal error; the server's log says more", True),
        (KeyError(PATH), 500, "internal error; the server's log says more", True),
    ],
)
def test_the_client_reads_no_directory_and_the_log_has_it(error, status, told, logged, caplog):
    def fail(_call):
        raise error

    reply = answer(fail, Call({"REQUEST_METHOD": "POST", "PATH_INFO": "/x"}))
    assert (reply.status, json.loads(reply.body)) == (status, {"error": told})
    assert (PATH in caplog.text) is logged


def test_a_body_reads_as_wsgi_says():
    data = b"one\ntwo\nthree\nfour" + b"x" * 20_000
    body = Body(memoryview(data))
    assert (body.read(2), body.readline(), body.readline(2), body.read(2)) == (b"on", b"e\n", b"tw", b"o\n")
    assert body.readlines(1) == [b"three\n"]
    assert body.read() + body.read(9) == data[14:]
    assert list(Body(data)) == data.splitlines(keepends=True)
    assert Body(bytearray(data)).data == data
