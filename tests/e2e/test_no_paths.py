"""No answer says where the repository, the package or the pictures lie, whatever is asked or wrong."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import cpuserve
from cpuserve.http.app import deepdetect_routes, deepstack_routes, routes
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from tests.conftest import ROOT
from tests.e2e.test_access import Anything
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
BODIES = [
    b"",
    b"{}",
    b"{",
    SEVEN,
    b'{"ready": true}',
    b'{"instances": [[1, 2]]}',
    json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}).encode(),
    b'{"service": "digits", "data": ["nothing.png"]}',
    b'{"service": "digits", "data": ["link.png"]}',
    b'{"service": "digits", "data": ["text.png"]}',
    b'{"service": "damaged", "data": ["text.png"]}',
    b'{"model": {"repository": "/srv/models/nothing"}}',
]


def broken(folder: Path, digits: Path) -> list[str]:
    """Fill a repository with a model that works and some that fail, each in its own way."""
    shutil.copytree(digits / "digits", folder / "digits")

    def one(name: str) -> Path:
        shutil.copytree(digits / "digits" / "1", folder / name / "1")
        (xml,) = (folder / name / "1").glob("*.xml")
        return xml

    one("damaged").write_text("<net")
    one("no_ir").write_text("<html></html>")
    one("empty").write_bytes(b"")
    with one("short").with_suffix(".bin").open("r+b") as weights:
        weights.truncate(10)
    one("no_weights").with_suffix(".bin").unlink()
    shutil.copy(one("two"), folder / "two" / "1" / "second.xml")
    xml = one("layer")
    xml.write_text(xml.read_text().replace('type="Convolution"', 'type="Nonsense"'))
    (one("parts").parent / "cut.json").write_text("{")
    xml = one("head")
    xml.write_text(xml.read_text().replace('value="Classification"', 'value="SSD"'))
    return [each.name for each in folder.iterdir()]


@pytest.fixture(scope="module")
def asked(digits, tmp_path_factory):
    """All answers of a server: (what was asked, status, headers and body), the roots, and its log."""
    folder = tmp_path_factory.mktemp("a place of its own")
    models, data = folder / "models", folder / "data"
    models.mkdir()
    data.mkdir()
    (data / "text.png").write_text("no picture")
    (data / "link.png").symlink_to(folder / "elsewhere.png")
    names = [*broken(models, digits), "nothing"]
    deepdetect = deepdetect_routes(Anything(), DeepDetectNames(), data)
    table = (*routes(Anything()), *deepdetect, *deepstack_routes(Anything(), "digits"))
    answers = []
    words = ["--model-repository", str(models), "--workers", "1", "--deepdetect-data-root", str(data)]
    words += ["--deepstack", "digits"]

    def ask(server, method, path, body=b""):
        got = server.request(method, path, body)
        answers.append((f"{method} {path} {body[:60]!r}", got.status, f"{got.headers}".encode() + got.body))

    def ask_all(server):
        for route in table:
            if route.rule.startswith("/page") or route.rule.endswith("unload"):
                continue
            path = route.rule.replace("<version>", "1").replace("<name>", "nothing")
            of_models = "<model>" in path or "<service>" in path
            for name in names if of_models else [""]:
                filled = path.replace("<model>", name).replace("<service>", name)
                for body in BODIES if route.method == "POST" and not filled.endswith("load") else BODIES[:1]:
                    ask(server, route.method, filled, body)

    with serving(folder / "log", *words) as server:
        ask_all(server)
        models.rename(folder / "gone")
        for method, path in (("POST", "/v2/repository/index"), ("GET", "/v2/health/ready")):
            ask(server, method, path)
        ask(server, "POST", "/v2/repository/models/digits/load")
        (folder / "gone").rename(models)
        log = server.text()
    return answers, (models, data, folder, Path(cpuserve.__file__).parent, Path(sys.prefix)), log


def test_answers_name_no_place_of_this_machine(asked):
    answers, roots, _ = asked
    assert len(answers) > 300
    hidden = [
        *map(str, roots),
        roots[0].parent.name,
    ]  # the latter: a part of a path is told by nothing either
    wrong = [(what, body[-400:]) for what, _, body in answers for each in hidden if each.encode() in body]
    assert not wrong, wrong[:5]


def test_what_is_wrong_is_named_all_the_same(asked):
    answers, (models, *_), log = asked
    index = next(json.loads(body.partition(b"\n\n")[2]) for what, _, body in answers if "index b''" in what)
    reasons = {row["name"]: row["reason"] for row in index if row["state"] != "READY"}
    for name in ("damaged", "no_ir", "empty", "short", "layer"):
        assert reasons[name].startswith(f"{name}/1/model.xml cannot be read"), reasons
    assert reasons["parts"].startswith("parts/1/cut.json"), reasons
    assert str(models) in log  # for those who run the server
    assert {status for _, status, _ in answers} >= {200, 400, 404, 503}
