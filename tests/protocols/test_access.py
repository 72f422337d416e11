"""API keys and CORS: who is let in, what browsers are told, and that keys are nowhere to be read."""

from __future__ import annotations

import logging
import pickle
from base64 import b64encode

import pytest

from cpuserve.errors import RateLimited, Unauthorized, UsageError
from cpuserve.protocols.access import Access, AllowedOrigins, ApiKeys, Gate, client_of
from cpuserve.protocols.call import Call, error_reply
from cpuserve.protocols.rate_limit import RateLimit
from cpuserve.settings import Settings

KEYS = ApiKeys(["first-key", "schl\xfcssel"])


def asked(path="/predictions/m", method="POST", **headers):
    return Call(method, path, "", {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer  first-key "},
        {"authorization": "Basic " + b64encode(b"frigate:first-key").decode()},
        {"x_api_key": "first-key"},
        {"x_api_key": "schl\xfcssel".encode().decode("latin-1")},
        {"authorization": "Basic abc", "x_api_key": "first-key"},
    ],
)
def test_a_right_key_is_let_in(headers):
    assert KEYS.check(asked(**headers)) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Basic"},
        {"authorization": "Basic first-key"},
        {"authorization": "Basic " + b64encode(b"first-key").decode()},
        {"authorization": "Basic " + b64encode(b"first-key:").decode()},
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
    with pytest.raises(Unauthorized) as caught:
        KEYS.check(asked(**headers))
    reply = error_reply(caught.value)
    assert reply.status == 401
    assert ("WWW-Authenticate", "Bearer") in reply.headers
    assert b"X-API-Key" in reply.body
    assert b"first" not in reply.body


OPEN = ["/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/versions/1/ready"]


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(path):
    assert KEYS.check(asked(path, "GET")) is None
    assert KEYS.check(asked(path, "HEAD")) is None
    with pytest.raises(Unauthorized):
        KEYS.check(asked(path, "POST"))


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
    with pytest.raises(Unauthorized):
        KEYS.check(asked(path, "GET"))


def test_metrics_need_a_key_when_that_is_asked_for():
    assert KEYS.check(asked("/metrics", "GET")) is None
    with pytest.raises(Unauthorized):
        ApiKeys(["k"], for_metrics=True).check(asked("/metrics", "GET"))


def test_the_file_is_read_and_its_mode_is_judged(tmp_path, caplog):
    file = tmp_path / "keys"
    file.write_text("# team a\nfirst-key\n\n  second-key \n")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        keys = ApiKeys.read(file)
    assert not caplog.records
    assert keys.check(asked(x_api_key="second-key")) == "second-key"
    with pytest.raises(Unauthorized):
        keys.check(asked(x_api_key="# team a"))
    assert b"second-key" not in pickle.dumps(vars(keys))
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        ApiKeys.read(file)
    assert "chmod o-r" in caplog.text
    assert "first-key" not in caplog.text


@pytest.mark.parametrize(("text", "words"), [(b"# only\n\n", "holds no key"), (b"\xff\xfe", "UTF-8")])
def test_a_file_without_keys_is_refused(tmp_path, text, words):
    (tmp_path / "keys").write_bytes(text)
    with pytest.raises(UsageError, match=words):
        ApiKeys.read(tmp_path / "keys")
    with pytest.raises(UsageError, match="cannot be read"):
        Access.of(Settings(api_key_file=str(tmp_path / "none")))


ORIGIN = "https://a.example"


def access(**settings):
    made = Access.of(Settings(**settings))
    assert made is not None
    return made


def told(made, call):
    Gate(made, RateLimit(0, 1)).check(call)
    return dict(call.answer_headers)


def test_off_costs_nothing():
    assert Access.of(Settings()) is None
    assert Access(KEYS, None).headers(asked()) == []


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
    assert made.key(question) is None
    reply = made.preflight(question)
    assert reply is not None
    assert reply.status == 204
    assert dict(reply.headers)["Access-Control-Allow-Methods"] == "GET, PUT"
    assert "X-API-Key" in dict(reply.headers)["Access-Control-Allow-Headers"]
    stranger = made.preflight(
        asked(method="OPTIONS", origin="https://evil.example", access_control_request_method="POST")
    )
    assert stranger is not None
    assert stranger.headers == []
    assert made.preflight(asked(origin=ORIGIN)) is None
    with pytest.raises(Unauthorized):
        made.key(asked(origin=ORIGIN))


def test_other_options_requests_are_no_preflights():
    origins = AllowedOrigins([ORIGIN], ["GET"], ["*"])
    assert origins.preflight(asked(method="OPTIONS")) is None
    assert origins.preflight(asked(origin=ORIGIN, access_control_request_method="POST")) is None


def gate(keys=KEYS, per_second=0.001, burst=3):
    return Gate(Access(keys, None), RateLimit(per_second, burst))


def came(path="/predictions/m", method="POST", address="10.0.0.1", **headers):
    call = asked(path, method, **headers)
    call.client = client_of(address)
    return call


def count_allowed(made, requests):
    allowed = 0
    for call in requests:
        try:
            made.check(call)
        except RateLimited:
            continue
        allowed += 1
    return allowed


def test_another_word_beside_a_right_key_is_the_same_client():
    requests = [came(authorization=f"Bearer {n}", x_api_key="first-key", address=f"a{n}") for n in range(9)]
    assert count_allowed(gate(), requests) == 3
    assert {call.client for call in requests} == {"key first-key"}


def test_where_no_key_is_asked_for_none_makes_another_client():
    requests = [came(x_api_key=str(n)) for n in range(9)]
    assert count_allowed(Gate(None, RateLimit(0.001, 3)), requests) == 3
    assert count_allowed(Gate(None, RateLimit(0.001, 3)), [came(address=str(n)) for n in range(9)]) == 9


def test_all_addresses_of_one_network_are_one_client():
    requests = [came(address=f"2001:db8:1:2::{n:x}") for n in range(9)]
    assert count_allowed(gate(None), requests) == 3
    assert requests[0].client == "2001:db8:1:2::/64"
    assert count_allowed(gate(None), [came(address=f"2001:db8:1:{n}::1") for n in range(9)]) == 9
    assert count_allowed(gate(None), [came(address=f"::ffff:10.0.0.{n}") for n in range(9)]) == 9
    gate(None).check(came(address="fe80::1%eth0"))


def test_a_gate_is_needed_unless_it_lets_everybody_in():
    assert not Gate(None, RateLimit(0, 1)).needed
    assert Gate(None, RateLimit(0.001, 1)).needed
    assert Gate(Access(KEYS, None), RateLimit(0, 1)).needed
    assert Gate(Access(None, AllowedOrigins([ORIGIN], ["GET"], ["*"])), RateLimit(0, 1)).needed


def test_whoever_guesses_keys_is_slowed_by_its_address():
    made = gate()
    found = []
    for number in range(6):
        with pytest.raises((Unauthorized, RateLimited)) as caught:
            made.check(came(x_api_key=f"guess-{number}"))
        found.append(caught.value.status)
    assert found == [401] * 3 + [429] * 3
    made.check(came(x_api_key="first-key"))  # of the same address, with a right key


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/ping"])
def test_an_orchestrator_may_always_ask_for_health(path):
    assert count_allowed(gate(), [came(path, "GET") for _ in range(9)]) == 9
    assert count_allowed(gate(), [came("/metrics", "GET") for _ in range(9)]) == 3
