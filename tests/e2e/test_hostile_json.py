"""Small or large JSON that means harm: each is refused, no worker ends, and a polite client sees no error."""

from __future__ import annotations

import base64
import json
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.servers import serving

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
TEXT = base64.b64encode(SEVEN).decode()
INFER, PREDICT = "/v2/models/digits/infer", "/v1/models/digits:predict"
LARGE = 3_000_000


@pytest.fixture(scope="module")
def server(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile-json")
    (folder / "data").mkdir()
    words = ["--model-repository", str(digits), "--workers", "2", "--threads", "1"]
    words += [
        "--deepdetect-data-root",
        str(folder / "data"),
        "--max-pictures",
        "64",
        "--max-answer-bytes",
        "2000",
    ]
    with serving(folder / "log", *words, ready=2) as running:
        yield running
        assert "Traceback" not in running.text()


@contextmanager
def polite(server):
    """Another client, which asks for predictions and liveness all the while; all it gets is 200."""
    before, over, seen = server.workers(), threading.Event(), []

    def ask():
        while not over.is_set():
            seen.append(server.post("/predictions/digits", SEVEN).status)
            seen.append(server.get("/v2/health/live").status)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
        asked = len(seen)
        server.wait_until(lambda: len(seen) > asked + 4, "answering the polite client")
    finally:
        over.set()
        thread.join()
    assert set(seen) == {200}
    assert server.workers() == before


def tensor(**fields):
    made = {"name": "image", "datatype": "FP32", "shape": [1], "data": [1]}
    return json.dumps({"inputs": [made | fields]}).encode()


def shape_of(sizes):
    return b'{"inputs":[{"name":"image","shape":[%b],"datatype":"FP32","data":[1]}]}' % sizes


def request(**fields):
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    return json.dumps({"inputs": [image], **fields}).encode()


def numbers(path, values):
    field = b'{"inputs":[{"name":"image","shape":[1],"datatype":"FP32","data":[%b]}]}'
    return (field if path == INFER else b'{"instances":[%b]}') % values


def many_empty_elements(count):
    head = b'{"inputs":[{"name":"image","shape":[%d],"datatype":"BYTES"}]}' % count
    return head + bytes(4 * LARGE), {"Inference-Header-Content-Length": str(len(head))}


ATTACKS = {
    "250,000 sizes": (INFER, shape_of(b",".join([b"18446744073709551615"] * 250_000)), 400, "64"),
    "300 sizes": (INFER, shape_of(b",".join([b"%d" % 10**18] * 300)), 400, "64"),
    "64 huge sizes": (INFER, shape_of(b",".join([b"18446744073709551615"] * 64)), 400, "no array"),
    "a size of 5000 digits": (INFER, shape_of(b"9" * 5000), 400, "not JSON"),
    "a negative size": (INFER, tensor(shape=[-1]), 400, "whole numbers"),
    "a fraction as size": (INFER, tensor(shape=[1.5]), 400, "whole numbers"),
    "a truth value as size": (INFER, tensor(shape=[True]), 400, "whole numbers"),
    "more shape than data": (INFER, tensor(shape=[1 << 40]), 400, "1 were sent"),
    "numbers": (INFER, numbers(INFER, b"0," * LARGE + b"0"), 413, "max_json_elements"),
    "lists": (INFER, numbers(INFER, b"[]," * LARGE + b"[]"), 413, "max_json_elements"),
    "rows": (PREDICT, numbers(PREDICT, b"0," * LARGE + b"0"), 413, "binary data"),
    "nested": (INFER, numbers(INFER, b"[" * 900 + b"]" * 900), 400, "deeper than 64"),
    "nested too deep": (INFER, numbers(INFER, b"[" * 500_000 + b"]" * 500_000), 400, "not JSON"),
    "nested rows": (PREDICT, numbers(PREDICT, b"[" * 900 + b"]" * 900), 400, "deeper than 64"),
    "a size beyond 64 bits": (INFER, shape_of(b"9" * 30), 400, "whole numbers"),
    "a number of 5000 digits": (INFER, numbers(INFER, b"9" * 5000), 400, "not JSON"),
    "numbers beyond any": (INFER, numbers(INFER, b"1e999"), 400, "not JSON"),
    "numbers beyond FP32": (INFER, numbers(INFER, b"1e300"), 400, "do not fit"),
    "a million outputs": (INFER, request(outputs=[{"name": str(n)} for n in range(400_000)]), 400, "1024"),
    "a long name": (INFER, tensor(name="\U0010ffff" * 1_000_000), 400, "1024 characters"),
    "a long datatype": (INFER, tensor(datatype="\U0010ffff" * 1_000_000), 400, "1024 characters"),
    "a long name of an output": (INFER, request(outputs=[{"name": "n" * 10_000}]), 400, "1024 characters"),
    "a long id": (INFER, request(id="i" * 1_000_000), 400, "id"),
    "an id of lists": (INFER, request(id=[[]] * 400_000), 400, "id"),
    "a long key": (PREDICT, json.dumps({"instances": [{"k" * 1_000_000: 1}]}).encode(), 400, "no input"),
    "65 pictures": (INFER, tensor(datatype="BYTES", shape=[65], data=[TEXT] * 65), 400, "max_pictures"),
    "65 rows of b64": (PREDICT, json.dumps({"inputs": [{"b64": TEXT}] * 65}).encode(), 400, "max_pictures"),
    "64 answers": (INFER, tensor(datatype="BYTES", shape=[64], data=[TEXT] * 64), 400, "max_answer_bytes"),
    "negative classes": (
        INFER,
        request(outputs=[{"name": "digit", "parameters": {"classification": -1}}]),
        400,
        "number of classes",
    ),
    "log settings": (
        "/v2/logging",
        json.dumps({f"{n}": n for n in range(900_000)}).encode(),
        400,
        "no log setting",
    ),
    "a long log setting": (
        "/v2/logging",
        json.dumps({"log_info": "x" * 1_000_000}).encode(),
        400,
        "log_info",
    ),
    "a long trace setting": (
        "/v2/trace/setting",
        json.dumps({"trace_level": ["x" * 1_000_000]}).encode(),
        400,
        "trace_level",
    ),
    "a long number of classes": (
        "/predict",
        json.dumps(
            {"service": "digits", "data": [TEXT], "parameters": {"output": {"best": "9" * 1_000_000}}}
        ).encode(),
        400,
        "not a number",
    ),
    "trace settings": ("/v2/trace/setting", b"{" + b'"a":1,' * LARGE + b'"a":1}', 413, "max_json_elements"),
    "load": ("/v2/repository/models/digits/load", b'{"parameters":{"a":' + b"[" * 2000, 400, "not JSON"),
    "65 paths": ("/predict", json.dumps({"service": "digits", "data": ["a"] * 65}).encode(), 400, "max_pict"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_while_others_are_served(server, name):
    path, body, status, word = ATTACKS[name]
    with polite(server):
        for _ in "12":
            answer = server.post(path, body)
            assert answer.status == status, answer.body[:300]
            assert word in answer.body.decode()[:3000]
            assert len(answer.body) < 5000


def test_binary_elements_beyond_the_shape_are_not_collected(server):
    with polite(server):
        for count, word in ((1, b"more than 1 element"), (LARGE, b"max_pictures")):
            body, headers = many_empty_elements(count)
            answer = server.post(INFER, body, **headers)
            assert (answer.status, word in answer.body) == (400, True), answer.body[:300]


def test_classes_are_as_many_as_there_are(server):
    name = server.get("/v2/models/digits").json()["outputs"][0]["name"]
    for count in (10, 1 << 62):
        answer = server.post(
            INFER, request(outputs=[{"name": name, "parameters": {"classification": count}}])
        )
        assert answer.status == 200
        assert len(answer.json()["outputs"][0]["data"]) == 10


def resident(server):
    """Bytes of memory that the workers hold."""
    pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in server.workers())
    return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("path", ["/predictions/digits", "/predictions/digits/1", PREDICT])
def test_large_bodies_do_not_pile_up(server, path):
    """Those in forms and on Flask's routes lived until the cycle collector came, a gigabyte later."""
    size = 8 << 20
    begin = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    body = begin + SEVEN + bytes(size) + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    if path == PREDICT:
        body, headers = b'{"inputs": {"b64": "' + TEXT.encode() + b"A" * size + b'"}}', {}
    held = []
    for _ in range(40):
        assert server.post(path, body, **headers).status in (200, 400)
        held.append(resident(server))
    assert max(held[8:]) - min(held[:8]) < 12 * size, [each >> 20 for each in held]


@pytest.mark.parametrize("query", ["topk=" + "9" * 5000, "topk=" + "9" * 4000, "topk=-1", "topk=%00"])
def test_numbers_in_a_query(server, query):
    answer = server.post(f"/predictions/digits?{query}", SEVEN)
    assert answer.status == 400
    assert b"topk" in answer.body
    assert len(answer.body) < 500


def test_thousands_of_parameters_in_a_query(server):
    with polite(server):
        assert server.post("/predictions/digits?" + "a&" * 4000, SEVEN).status == 200
        assert server.post("/predictions/digits?" + "topk=0&" * 1000 + "topk=1", SEVEN).status == 200
