"""API keys and CORS: who is let in, what browsers are told, and that keys are nowhere to be read."""

from __future__ import annotations

import logging
import pickle

import pytest

from cpuserve.errors import UsageError
from cpuserve.settings import Settings
from cpuserve.web.access import Access, Keys, Origins

KEYS = Keys(["first-key", "schl\xfcssel"])


def asked(path="/predictions/m", method="POST", **headers):
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        **{f"HTTP_{k.upper()}": v for k, v in headers.items()},
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer  first-key "},
        {"x_api_key": "first-key"},
        {"x_api_key": "schl\xfcssel".encode().decode("latin-1")},
        {"authorization": "Basic abc", "x_api_key": "first-key"},
    ],
)
def test_a_right_key_is_let_in(headers):
    assert KEYS.refusal(asked(**headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "first-key"},
        {"authorization": "Basic first-key"},
        {"authorization": "Bearer first-ke"},
        {"authorization": "Bearer first-key2"},
        {"x_api_key": ""},
        {"x_api_key": "first-key,first-key"},
        {"x_api_key": "\xff\xfe"},
    ],
)
def test_anything_else_is_401(headers):
    reply = KEYS.refusal(asked(**headers))
    assert reply is not None
    assert reply.status == 401
    assert ("WWW-Authenticate", "Bearer") in reply.headers
    assert b"X-API-Key" in reply.body
    assert b"first" not in reply.body


OPEN = ["/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/versions/1/ready"]


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(path):
    assert KEYS.refusal(asked(path, "GET")) is None
    assert KEYS.refusal(asked(path, "HEAD")) is None
    assert KEYS.refusal(asked(path, "POST")) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/m",
        "/v2/health",
        "/v2/health/live/x",
        "//ping",
        "/ping/",
        "/v2/models/m/x/ready",
        "",
        "*",
        "/v2",
    ],
)
def test_what_is_not_health_needs_one(path):
    assert KEYS.refusal(asked(path, "GET")) is not None


def test_metrics_need_a_key_when_that_is_asked_for():
    assert KEYS.refusal(asked("/metrics", "GET")) is None
    assert Keys(["k"], for_metrics=True).refusal(asked("/metrics", "GET")) is not None


def test_the_file_is_read_and_its_mode_is_judged(tmp_path, caplog):
    file = tmp_path / "keys"
    file.write_text("# team a\nfirst-key\n\n  second-key \n")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        keys = Keys.read(file)
    assert not caplog.records
    assert keys.refusal(asked(x_api_key="second-key")) is None
    assert keys.refusal(asked(x_api_key="# team a")) is not None
    assert b"second-key" not in pickle.dumps(vars(keys))
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Keys.read(file)
    assert "chmod o-r" in caplog.text
    assert "first-key" not in caplog.text


@pytest.mark.parametrize(("text", "words"), [(b"# only\n\n", "holds no key"), (b"\xff\xfe", "UTF-8")])
def test_a_file_without_keys_is_refused(tmp_path, text, words):
    (tmp_path / "keys").write_bytes(text)
    with pytest.raises(UsageError, match=words):
        Keys.read(tmp_path / "keys")
    with pytest.raises(UsageError, match="cannot be read"):
        Access.of(Settings(api_key_file=str(tmp_path / "none")))


ORIGIN = "https://a.example"


def access(**settings):
    made = Access.of(Settings(**settings))
    assert made is not None
    return made


def told(made, environ):
    seen = []
    made.telling(environ, lambda status, headers, *_: seen.extend(headers))("200 OK", [("A", "b")])
    assert seen[0] == ("A", "b")
    return dict(seen[1:])


def test_off_costs_nothing():
    assert Access.of(Settings()) is None
    start = object()
    assert Access(KEYS, None).telling(asked(), start) is start


def test_an_allowed_page_is_told_so_and_others_are_not():
    made = access(allowed_origins=f"{ORIGIN}/, https://b.example")
    headers = told(made, asked(origin=ORIGIN))
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["Vary"] == "Origin"
    assert "Server-Timing" in headers["Access-Control-Expose-Headers"]
    for other in ("https://evil.example", f"{ORIGIN}.evil.example", "null", ""):
        assert told(made, asked(origin=other)) == {"Vary": "Origin"}
    assert told(access(allowed_origins="*"), asked(origin="null"))["Access-Control-Allow-Origin"] == "*"


def test_a_preflight_is_answered_before_a_key_is_asked_for(tmp_path):
    (tmp_path / "keys").write_text("k")
    made = access(api_key_file=str(tmp_path / "keys"), allowed_origins=ORIGIN, allowed_methods="GET, PUT")
    question = asked(method="OPTIONS", origin=ORIGIN, access_control_request_method="POST")
    reply = made.refusal(question)
    assert reply is not None
    assert reply.status == 204
    assert dict(reply.headers)["Access-Control-Allow-Methods"] == "GET, PUT"
    assert "X-API-Key" in dict(reply.headers)["Access-Control-Allow-Headers"]
    stranger = made.refusal({**question, "HTTP_ORIGIN": "https://evil.example"})
    assert stranger is not None
    assert stranger.headers == []
    real = made.refusal(asked(origin=ORIGIN))
    assert real is not None
    assert real.status == 401


def test_other_options_requests_are_no_preflights():
    origins = Origins([ORIGIN], ["GET"], ["*"])
    assert origins.preflight(asked(method="OPTIONS")) is None
    assert origins.preflight(asked(origin=ORIGIN, access_control_request_method="POST")) is None
