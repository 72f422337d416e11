"""A call parses its JSON once; of an error the client reads the text and the log the directories."""

from __future__ import annotations

import json

import pytest

from cpuserve.errors import RepositoryError, RequestError, TooManyElements, UsageError
from cpuserve.protocols import call as module
from cpuserve.protocols.call import Call, answer
from cpuserve.protocols.client_limits import ClientLimits

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

    reply = answer(fail, Call("POST", "/x"))
    assert (reply.status, json.loads(reply.body)) == (status, {"error": told})
    assert (PATH in caplog.text) is logged


def test_a_document_that_was_peeked_at_is_parsed_no_second_time(monkeypatch):
    parsed = []

    def read(data, *_):
        parsed.append(bytes(data))
        return {"parameters": {}}

    monkeypatch.setattr(module, "read_json", read)
    call = Call("POST", "/v2/models/m/infer", data=b'{"parameters": {}}tensor')
    assert call.peek_json(18) == {"parameters": {}}
    assert call.read_json(call.body()[:18]) == {"parameters": {}}
    assert parsed == [b'{"parameters": {}}']
    call.read_json(call.body())  # not the same bytes
    assert len(parsed) == 2
    call.drop_body()
    assert (call.body().nbytes, call.document()) == (0, {})


def test_what_cannot_be_peeked_at_is_refused_when_it_is_read():
    limits = ClientLimits(max_json_elements=3)
    for data, error in ((b"{", RequestError), (b'{"a": [1, 2, 3, 4]}', TooManyElements)):
        call = Call("POST", "/", data=data, limits=limits)
        assert call.peek_json(len(data)) is None
        with pytest.raises(error):
            call.json()
