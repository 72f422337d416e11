"""The page: it loads only what the server has, asks only what the server answers, and needs no key itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cpuserve
from tests.servers import serving

PAGE = Path(cpuserve.__file__).parent / "protocols" / "page"


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "keys").write_text("secret\n")
    (folder / "keys").chmod(0o600)
    words = ["--model-repository", str(digits), "--workers", "1", "--api-key-file", str(folder / "keys")]
    with serving(folder / "log", *words) as server:
        yield server


def test_the_page_and_its_parts_are_open_and_what_they_show_is_not(server):
    page = server.get("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    parts = re.findall(r'(?:href|src)="(page/[^"]+)"', page.body.decode())
    assert sorted(parts) == [
        *(f"page/{name}.js" for name in ("app", "clock", "history", "picture")),
        "page/style.css",
    ]
    for part in parts:
        found = server.get(f"/{part}")
        assert (found.status, found.body) == (200, (PAGE / Path(part).name).read_bytes())
    assert server.get("/page/secrets.txt").status == 404
    assert server.get("/page/..%2fopenapi.yaml").status in (401, 404)
    assert server.get("/v2/placement").status == 401
    assert server.get("/v2/models/stats").status == 401


def test_nothing_comes_from_elsewhere(server):
    policy = server.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for file in (*PAGE.glob("*.js"), PAGE / "index.html", PAGE / "style.css"):
        text = file.read_text().replace('"http://www.w3.org/2000/svg"', "")  # a name that is not loaded
        assert not re.search(r"https?://|//[a-z]+\.", text), file
    assert "<style" not in (PAGE / "index.html").read_text()  # the policy would stop it
    assert not re.search(r"\sstyle=|\son[a-z]+=", (PAGE / "index.html").read_text())


def test_the_script_asks_what_the_server_answers(server):
    key = {"X-API-Key": "secret"}
    script = "\n".join(file.read_text() for file in sorted(PAGE.glob("*.js")))
    asked = set(re.findall(r'(?:json|ask|fetch)\(["`]([^"`$]+)["`]', script))
    assert asked >= {"v2", "v2/repository/index", "v2/models/stats", "metrics", "v2/placement"}
    for path in asked:
        method = "POST" if path == "v2/repository/index" else "GET"
        assert server.request(method, f"/{path}", headers=key).status == 200, path
    row = server.request("GET", "/v2/models/stats", headers=key).json()["model_stats"][0]
    for word in re.findall(r"^const STAGES = \{(.*)\}", script, re.MULTILINE)[0].split(", "):
        assert "ns" in row["inference_stats"][word.strip().split(":")[0]]
    metrics = server.get("/metrics").body.decode()
    bucket = r'^ovms_request_time_us_bucket\{.*name="(.*)",version="(.*)",le="(.*)"\} (\d+)$'
    assert bucket.replace("\\{", "{") in script.replace("\\{", "{")
    assert re.search(bucket, metrics, re.MULTILINE)
    seat = server.request("GET", "/v2/placement", headers=key).json()
    assert {"index", "node", "cpus"} <= seat["seats"][0].keys()
    assert {"seat", "pid", "state", "share_on_node"} <= seat["workers"][0].keys()
