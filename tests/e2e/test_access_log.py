"""A running server writes its access log, believes trusted proxies, and refuses pages of other sites."""

from __future__ import annotations

import json
import socket

import pytest

from tests.conftest import ROOT
from tests.servers import serving

SEVEN = ROOT / "docs" / "seven.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("access")
    file = place / "access.log"
    options = ["--access-log", str(file), "--log-format", "json", "--trusted-proxies", "127.0.0.1"]
    more = ["--log-level", "debug", "--workers", "1", "--queue-size", "1"]
    with serving(place / "log", *options, *more, ready=0) as running:
        running.wait_until(lambda: "ready at http" in running.text(), "ready")
        yield running, file


def test_each_answer_has_a_line_with_the_client_behind_the_proxy(server):
    server, file = server
    header = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
    assert server.request("POST", "/predictions/digits", SEVEN.read_bytes(), header).status == 200
    assert server.request("POST", "/predictions/digits", b"no picture", header).status == 415
    assert server.get("/nowhere").status == 404
    server.wait_until(lambda: file.read_text().count("\n") >= 3, "three lines")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    seen = [(one["client"], one["target"], one["status"]) for one in lines if "digits" in one["target"]]
    assert sorted(seen) == [("203.0.113.9", "/predictions/digits", status) for status in (200, 415)]
    assert ("127.0.0.1", "/nowhere", 404) in {(one["client"], one["target"], one["status"]) for one in lines}
    assert all(one["bytes"] > 0 for one in lines)


def test_a_head_that_cannot_be_read_has_a_line_too_and_debug_tells_why(server):
    server, file = server
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"NONSENSE\r\n\r\n")
        assert b" 400 " in client.recv(1000)
    server.wait_until(lambda: '"target": "-"' in file.read_text(), "its line")
    server.wait_until(lambda: "refused, 400" in server.text(), "the reason")


def test_debug_tells_what_the_application_refuses_and_no_answer(server):
    server, _ = server
    assert server.post("/predictions/digits?refused", b"no picture").status == 415
    assert server.post("/predictions/none?refused", SEVEN.read_bytes()).status == 404
    server.wait_until(lambda: server.text().count("?refused' from 127.0.0.1 refused, ") == 2, "both reasons")
    assert "refused, 415: the body is not a picture of a known format" in server.text()
    assert "refused, 404: " in server.text()
    before = server.text().count(" refused, ")
    assert server.post("/predictions/digits", SEVEN.read_bytes()).status == 200
    assert server.text().count(" refused, ") == before


def test_a_page_of_another_site_cannot_unload_a_model(server):
    server, _ = server
    path = "/v2/repository/models/digits/unload"
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}"):
        refused = server.post(path, b"", Origin=origin)
        assert refused.status == 403
        assert "allowed_origins" in refused.json()["error"]
    assert server.get("/v2/models/digits/ready").status == 200
    own = server.post("/v2/logging", b"{}", Origin=f"http://127.0.0.1:{server.port}")
    assert own.status == 200
    asked = server.post("/predictions/digits", SEVEN.read_bytes(), Origin="https://a.example")
    assert asked.status == 200  # it changes nothing
    assert server.post(path, b"").status == 200  # no browser
