"""The steps of docs/python-steps.md in a real server, over HTTP and gRPC, and what happens when one fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton_grpc
from tritonclient import http as triton_http
from tritonclient.utils import InferenceServerException

from cpuserve.cli import main
from tests.conftest import ROOT
from tests.servers import Server, free_port, serving

PAGE = (ROOT / "docs" / "python-steps.md").read_text()
BROKEN = """
import sys
import numpy as np

def fails_on_ink(probabilities):
    if probabilities.max() > 0.5:
        raise KeyError("no such ink")
    return probabilities

def several(a, b):
    return a + b, a * 2

class Bad:
    def __init__(self):
        raise OSError("no table")
"""


def put(models: Path, name: str, **steps: object) -> None:
    """The digits model with a `steps.json` that is written by hand."""
    shutil.copytree(ROOT / "ir_models" / "digits" / "1", models / name / "1")
    (models / name / "1" / "steps.json").write_text(json.dumps(steps))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("steps")
    models = folder / "models"
    (folder / "digit_steps.py").write_text(PAGE.split("```python\n")[1].partition("```")[0])
    (folder / "broken_steps.py").write_text(BROKEN)
    source = str(ROOT / "ir_models" / "digits" / "1" / "model.xml")
    steps = ("--before", "digit_steps:stretch", "--after", "digit_steps:Parity")
    into = ("--name", "digit_parity", "--model-repository", str(models), "--quiet", "--no-parity")
    with pytest.raises(SystemExit, match="0"):
        main(["convert", source, *into, *steps])
    shutil.copytree(ROOT / "ir_models" / "digits", models / "digits")
    put(models, "before_only", before="digit_steps:stretch")
    put(models, "fails", after="broken_steps:fails_on_ink")
    put(models, "missing", after="broken_steps:nothing")
    put(models, "bad", before="broken_steps:Bad")
    port = free_port()
    words = (
        "--model-repository",
        str(models),
        "--workers",
        "1",
        "--grpc-port",
        str(port),
        "--precision",
        "f32",
    )
    more = ("--precision", "f32", "--allow-callables", "--max-batch", "2")
    with serving(folder / "log", *words, *more, PYTHONPATH=str(folder)) as server:
        server.grpc_port = port
        yield server


@pytest.fixture
def seven() -> bytes:
    return (ROOT / "docs" / "seven.png").read_bytes()


@pytest.mark.parametrize("module", [triton_http, triton_grpc])
def test_both_steps_run_over_http_and_grpc(served: Server, seven: bytes, module: object) -> None:
    port = served.grpc_port if module is triton_grpc else served.port
    client = module.InferenceServerClient(f"127.0.0.1:{port}")  # type: ignore[attr-defined]
    pixels = np.random.default_rng(1).integers(50, 90, (3, 96, 96, 3), np.uint8)
    for sent, kind in ((np.array([seven], object), "BYTES"), (pixels, "UINT8")):
        entry = module.InferInput("image", list(sent.shape), kind)  # type: ignore[attr-defined]
        entry.set_data_from_numpy(sent)
        answer = client.infer("digit_parity", [entry])
        probabilities, even = answer.as_numpy("probabilities"), answer.as_numpy("even")
        assert probabilities.shape == (len(sent), 10)
        assert even == pytest.approx(probabilities[:, ::2].sum(axis=1, keepdims=True), abs=1e-6)
    low, high = (side(pixels, axis=(1, 2, 3), keepdims=True).astype(np.float32) for side in (np.min, np.max))
    stretched = (pixels - low) * (255 / (high - low))
    entry = module.InferInput("image", [3, 96, 96, 3], "FP32")  # type: ignore[attr-defined]
    entry.set_data_from_numpy(stretched.astype(np.float32))
    plain = client.infer("digits", [entry]).as_numpy("probabilities")
    assert probabilities == pytest.approx(plain, abs=1e-4)
    client.close()


def test_the_client_of_the_page(served: Server) -> None:
    code = PAGE.split("```python\n")[2].partition("```")[0]
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    said = re.fullmatch(r"(\d) \[\[([-\d.e]+)\]\]\n", done.stdout)
    assert said is not None
    assert said[1] == "7"
    assert float(said[2]) < 0.5


def test_a_step_before_alone_keeps_the_answer_of_the_model(served: Server, seven: bytes) -> None:
    for name in ("before_only", "digits"):
        answer = served.post(f"/predictions/{name}", seven, **{"Content-Type": "image/png"})
        assert answer.status == 200, answer.body
        assert answer.json()["predictions"][0]["label"] == "7"


def test_a_step_that_fails_is_a_500_of_its_model_alone(served: Server, seven: bytes) -> None:
    answer = served.post("/predictions/fails", seven, **{"Content-Type": "image/png"})
    assert answer.status == 500
    assert b"KeyError: 'no such ink'" in answer.body
    assert "broken_steps:fails_on_ink failed" in served.text()
    assert served.post("/predictions/digits", seven, **{"Content-Type": "image/png"}).status == 200
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{served.grpc_port}")
    entry = triton_grpc.InferInput("image", [1], "BYTES")
    entry.set_data_from_numpy(np.array([seven], object))
    with pytest.raises(InferenceServerException, match="no such ink"):
        client.infer("fails", [entry])
    client.close()


def test_a_step_that_cannot_be_made_says_why_and_others_live(served: Server) -> None:
    text = served.text()
    assert "broken_steps:nothing cannot be imported" in text
    assert "broken_steps:Bad() fails: OSError: no table" in text
    for name in ("missing", "bad"):
        assert served.get(f"/v2/models/{name}/ready").status != 200
    assert served.get("/v2/models/digits/ready").status == 200
