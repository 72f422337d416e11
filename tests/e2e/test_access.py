"""A server that asks for keys and talks to pages: every route, the log, and nothing of the keys in it."""

from __future__ import annotations

import signal

import pytest

from cpuserve.http.app import routes
from tests.conftest import ROOT
from tests.servers import serving

MODEL = "digits"
PATH = f"/predictions/{MODEL}"
KEY, OTHER = "k-3f9a61c07d52", "k-b81e22d9f400"
ORIGIN = "https://a.example"


@pytest.fixture(scope="module")
def guarded(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"# the keys\n{KEY}\n{OTHER}\n")
    (folder / "keys").chmod(0o644)
    arguments = ["--model-repository", str(digits), "--api_key_file", str(folder / "keys")]
    arguments += ["--workers", "1", "--allowed_origins", ORIGIN, "--log-level", "debug"]
    with serving(folder / "log", *arguments) as server:
        yield server


@pytest.fixture(scope="module")
def photo():
    return (ROOT / "docs" / "seven.png").read_bytes()


class Anything:
    """Stands for the pool where only the table of routes is wanted."""

    def __getattr__(self, name: str) -> Anything:
        return self


OPEN = ("/v2/health/", "/ping", "/metrics", "/page/")


def test_every_route_but_health_the_page_and_metrics_wants_a_key(guarded):
    table = routes(Anything())
    assert len(table) > 20
    for route in table:
        path = route.rule.replace("<model>", MODEL).replace("<version>", "1").replace("<name>", "app.js")
        status = guarded.request(route.method, path).status
        is_open = (
            path == "/"
            or path.startswith(OPEN)
            or (path.startswith("/v2/models/") and path.endswith("/ready"))
        )
        assert (status == 200) if is_open else (status == 401), f"{route.method} {path}"
    for path in ("/nothing", "/v2/models/%2e%2e/ready/x", "//v2/models", "/predictions", "*"):
        assert guarded.get(path).status in (400, 401), path


def test_both_headers_and_both_keys_are_let_in(guarded, photo):
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"X-API-Key": OTHER}):
        assert guarded.request("POST", PATH, photo, headers).status == 200
        assert guarded.request("GET", f"/v2/models/{MODEL}", None, headers).status == 200
    wrong = guarded.request("POST", PATH, photo, {"X-API-Key": KEY[:-1]})
    assert wrong.status == 401
    assert wrong.headers["WWW-Authenticate"] == "Bearer"


def test_a_body_without_a_key_is_not_looked_at(guarded):
    got = guarded.request("POST", PATH, b"no gzip", {"Content-Encoding": "gzip"})
    assert got.status == 401


def test_pages_may_ask_what_they_are_allowed_to(guarded, photo):
    question = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = guarded.request("OPTIONS", PATH, None, question)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Content-Length"] is None
    for path, body in ((PATH, photo), ("/v2", None)):
        method = "POST" if body else "GET"
        answer = guarded.request(method, path, body, {"Origin": ORIGIN, "X-API-Key": KEY})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
        assert "Origin" in answer.headers.get_all("Vary", [])
    stranger = guarded.request("POST", PATH, photo, {"Origin": "https://b.example", "X-API-Key": KEY})
    assert (stranger.status, stranger.headers["Access-Control-Allow-Origin"]) == (200, None)


def test_no_key_is_in_the_log_of_good_and_of_bad_requests(guarded, photo):
    for body in (photo, b"", b"text", b"x" * 40_000_000):
        guarded.request("POST", PATH, body, {"Authorization": f"Bearer {KEY}", "X-API-Key": OTHER})
    guarded.request("POST", f"/v2/models/{MODEL}/infer", b"{", {"X-API-Key": KEY, "Content-Encoding": "x"})
    log = guarded.text()
    assert "can be read by every user" in log
    assert KEY not in log
    assert OTHER not in log


def test_keys_are_changed_by_a_reload_and_kept_when_the_new_file_is_none(guarded):
    keys = guarded.log.parent / "keys"
    fresh = "k-0d4411ab92ce"

    def status(key):
        return guarded.request("GET", "/v2", None, {"X-API-Key": key}).status

    for text in (f"{fresh}\n", "# none\n"):
        before = guarded.workers()
        keys.write_text(text)
        guarded.process.send_signal(signal.SIGHUP)
        guarded.settle(1, gone=before)
        assert (status(KEY), status(fresh)) == (401, 200)
    assert "stay as they were" in guarded.text()
    assert fresh not in guarded.text()
