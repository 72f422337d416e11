"""Registries: files and addresses with the servers that are ready."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from cpuserve.endpoints.registry import read_registry, urls_of
from cpuserve.errors import CpuserveError, UsageError

STATUS = {
    "endpoints": [
        {"url": "http://a:8000", "ready": True, "node": "n1"},
        {"url": "http://b:8000/", "ready": True},
        {"url": "http://c:8000", "ready": False},
        {"url": None, "ready": False},
        {"url": "http://a:8000", "ready": True},
    ]
}
READY = ["http://a:8000", "http://b:8000"]


@pytest.mark.parametrize(
    "text", [json.dumps(STATUS), "# all\nhttp://a:8000\n\nhttp://b:8000/\nhttp://a:8000\n"]
)
def test_a_file_names_the_servers_that_are_ready(tmp_path, text):
    (tmp_path / "endpoints").write_text(text)
    assert read_registry(f"@{tmp_path}/endpoints") == READY
    assert urls_of(["http://z:1/", f"@{tmp_path}/endpoints"]) == ["http://z:1", *READY]


def test_an_address_answers_with_the_same():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/endpoints" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(STATUS).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        place = f"@http://127.0.0.1:{server.server_port}"
        assert read_registry(f"{place}/endpoints") == READY
        with pytest.raises(CpuserveError, match="Not Found"):
            read_registry(f"{place}/other")
        server.shutdown()
    with pytest.raises(CpuserveError, match="does not answer"):
        read_registry(f"{place}/endpoints")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no list of endpoints"),
        (b'{"endpoints": 3}', "no list of endpoints"),
        (b'{"endpoints": [{"ready": true}]}', "no list of endpoints"),
        (b"http://a:1\nrm -rf\n", "no URL: 'rm -rf'"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_registry_is_refused(tmp_path, content, words):
    (tmp_path / "endpoints").write_bytes(content)
    with pytest.raises(CpuserveError, match=words):
        read_registry(f"@{tmp_path}/endpoints")


def test_no_server_at_all_is_refused(tmp_path):
    (tmp_path / "endpoints").write_text('{"endpoints": []}')
    for words in ([], [""], [f"@{tmp_path}/endpoints"]):
        with pytest.raises(UsageError, match="no server is named"):
            urls_of(words)
    with pytest.raises(CpuserveError, match="cannot be read"):
        urls_of([f"@{tmp_path}/gone"])
