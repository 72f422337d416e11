"""Answers to what went wrong: what the client reads, and what only the log says."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import RepositoryError, RequestError, UsageError
from cpuserve.web.exchange import Call, answer

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
