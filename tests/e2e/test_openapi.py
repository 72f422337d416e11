"""openapi.yaml against the routes, and against what a running server answers to anything it allows."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import hypothesis
import pytest
import schemathesis
import yaml  # type: ignore[import-untyped]
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi

import cpuserve
from cpuserve.http.app import routes
from tests.servers import serving

WEB = Path(cpuserve.__file__).parent / "protocols" / "page"
MODEL = "digits"
CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
]
DOCUMENT = yaml.safe_load((WEB / "openapi.yaml").read_text())


def narrowed():
    """The document with names that exist and one that does not, and deadlines that can be met.

    Other names would all be 404, and a deadline of a millisecond is 503 or 504, as it should be.
    """
    document = json.loads(json.dumps(DOCUMENT))
    parameters = document["components"]["parameters"]
    parameters["model"]["schema"] = {"enum": [MODEL, "nothing"]}
    parameters["version"]["schema"] = {"enum": ["1", "2"]}
    parameters["timeout"]["schema"] = {"type": "integer", "minimum": 20_000}
    body = document["components"]["schemas"]["InferRequest"]["properties"]["parameters"]
    body["properties"]["timeout"]["minimum"] = 20_000_000
    for path, item in document["paths"].items():
        if path.startswith("/v2/repository/models/"):  # the one that is there must stay
            item["parameters"] = [
                {"name": "model", "in": "path", "required": True, "schema": {"enum": ["nothing", "a b"]}}
            ]
    return document


SCHEMA = schemathesis.openapi.from_dict(narrowed())


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    log = tmp_path_factory.mktemp("openapi") / "log"
    with serving(log, "--model-repository", str(digits), "--workers", "1") as server:
        yield server
        assert "Traceback" not in server.text()


@pytest.fixture(scope="module")
def picture():
    return (Path(cpuserve.__file__).parent.parent / "docs" / "seven.png").read_bytes()


def test_every_route_is_described_and_nothing_else():
    class Pool:
        repository = None

    there = {(route.method, re.sub(r"<(\w+)>", r"{\1}", route.rule)) for route in routes(Pool())}
    described = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item.keys() - {"parameters"}
    }
    assert described == there


def test_names_are_given_once_and_the_version_is_ours():
    operations = [
        operation
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert {tag for operation in operations for tag in operation["tags"]} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }
    assert DOCUMENT["info"]["version"] == cpuserve.__version__


def test_it_is_served_as_it_is_kept(server):
    assert server.get("/openapi.yaml").body == (WEB / "openapi.yaml").read_bytes()
    assert server.get("/openapi.json").json() == DOCUMENT


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_whatever_is_sent_the_answer_is_one_of_those_described(case, server):
    case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", checks=CHECKS)


def bodies(picture):
    text = base64.b64encode(picture).decode()
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [text]}
    yield "/predictions/{model}", picture, "application/octet-stream", {}
    yield "/v2/models/{model}/infer", {"id": "7", "inputs": [tensor]}, "application/json", {}
    whole = {"Inference-Header-Content-Length": "0"}
    yield "/v2/models/{model}/infer", picture, "application/octet-stream", whole
    yield "/v1/models/{model}:predict", {"instances": [{"b64": text}]}, "application/json", {}
    yield "/v1/models/{model}:predict", {"inputs": {"b64": text}}, "application/json", {}


def test_requests_that_succeed_are_answered_as_described(server, picture):
    name = server.get(f"/v2/models/{MODEL}").json()["inputs"][0]["name"]
    for path, body, kind, headers in bodies(picture):
        if isinstance(body, dict) and path.endswith("/infer"):
            body["inputs"][0]["name"] = name
        case = SCHEMA[path]["POST"].Case(
            path_parameters={"model": MODEL}, body=body, media_type=kind, headers=headers
        )
        answer = case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", checks=CHECKS)
        assert answer.status_code == 200
