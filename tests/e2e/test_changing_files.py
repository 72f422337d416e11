"""Files that change under a served model: in place, by halves, beside it, and ones that crash OpenVINO."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openvino as ov
import orjson
import pytest
from openvino import opset13 as ops

from benchmarks.fixtures.weights_model import INPUTS, write_weights_model
from cpuserve.models.cut_manifest import PYTHON, CutManifest, CutPart, CutPort
from tests.models.test_model_files import write_onnx
from tests.servers import Server, serving

MIB = 1 << 20


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a child process load models first, as servers do by default."""
    monkeypatch.setenv("CPUSERVE_CHECK_MODELS_IN_CHILD", "true")


def answer(server: Server, name: str, inputs: int) -> float:
    """What the model makes of ones, by the weight: all of its outputs have to be the same."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, inputs], "data": [1.0] * inputs}
    found = server.post(f"/v2/models/{name}/infer", orjson.dumps({"inputs": [tensor]}))
    assert found.status == 200, found.body[:300]
    (value,) = {*found.json()["outputs"][0]["data"]}
    return float(value) / inputs


def checksum(server: Server, name: str) -> str:
    config = server.get(f"/v2/models/{name}/config").json()
    return str(config["parameters"]["sha256"]["string_value"])


@contextmanager
def asked_all_the_time(server: Server, name: str) -> Iterator[set[float]]:
    """The answers of a model while the body runs."""
    seen: set[float] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.add(answer(server, name, INPUTS))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield seen
        finally:
            over.set()
        asking.result()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The weights file of the model with 1, 2 or 3 as its weights."""
    folder = tmp_path_factory.mktemp("weights")
    for value in (1, 2, 3):
        write_weights_model(folder / str(value), float(value))
    return {value: (folder / str(value) / "model.bin").read_bytes() for value in (1, 2, 3)}


ROWS = 1 << 16


def write_table_model(folder: Path) -> None:
    """Write y [N, 1, 16], rows of a table of ones: OpenVINO runs it on the constant as it was read."""
    x = ops.parameter([-1, 1], np.int64, name="x")
    table = ops.constant(np.ones((ROWS, 16), np.float32))
    y = ops.gather(table, x, ops.constant(np.int64(0)))
    model = ov.Model([ops.result(y, name="y")], [x], "table")
    model.inputs[0].set_names({"x"})
    folder.mkdir(parents=True)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def rows(server: Server) -> set[float]:
    """The numbers in the first and the last row of the table, often enough for both workers to answer."""
    seen: set[float] = set()
    for _ in range(20):
        tensor = {"name": "x", "datatype": "INT64", "shape": [2, 1], "data": [0, ROWS - 1]}
        found = server.post("/v2/models/table/infer", orjson.dumps({"inputs": [tensor]}))
        assert found.status == 200, found.body[:300]
        seen |= {*found.json()["outputs"][0]["data"]}
    return seen


def test_a_running_model_is_not_changed_by_its_files(tmp_path: Path) -> None:
    file = tmp_path / "models" / "table" / "1" / "model.bin"
    write_table_model(file.parent)
    words = ("--model-repository", str(tmp_path / "models"), "--workers", "2", "--cores-per-worker", "1")
    never = ("--file-system-poll-wait-seconds", "0")
    with serving(tmp_path / "log", *words, *never, ready=2) as server:
        workers = server.workers()
        with file.open("r+b") as data:
            data.write(bytes(file.stat().st_size))
        assert rows(server) == {1.0}
        os.truncate(file, 10)
        assert rows(server) == {1.0}
        file.unlink()
        assert rows(server) == {1.0}
        assert server.workers() == workers


def test_a_file_written_in_place_is_taken_when_it_is_whole(tmp_path: Path, weights: dict[int, bytes]) -> None:
    file = tmp_path / "models" / "w" / "1" / "model.bin"
    write_weights_model(file.parent, 1.0)
    words = ("--model-repository", str(tmp_path / "models"), "--workers", "2", "--cores-per-worker", "1")
    with serving(tmp_path / "log", *words, "--file-system-poll-wait-seconds", "0.2", ready=2) as server:
        workers, before = server.workers(), checksum(server, "w")
        with asked_all_the_time(server, "w") as seen:
            for value in (2, 3):
                with file.open("r+b") as data:  # as cp does it, by pieces
                    data.truncate(0)
                    for start in range(0, len(weights[value]), MIB):
                        data.write(weights[value][start : start + MIB])
                        data.flush()
                        answer(server, "w", INPUTS)
                server.wait_until(
                    lambda value=value: {answer(server, "w", INPUTS) for _ in range(10)} == {float(value)},
                    f"answers with {value}",
                )
        assert seen == {1.0, 2.0, 3.0}
        assert checksum(server, "w") != before
        assert server.workers() == workers


@pytest.mark.parametrize("copied", [False, True])
def test_external_data_of_an_onnx_model_is_followed(tmp_path: Path, copied: bool) -> None:
    model = write_onnx(tmp_path / "served", 1.0)
    data = model.parent / "odd name.weights"
    write_onnx(tmp_path / "new", 2.0)
    words = ("--model-path", str(model), "--model-name", "ext", "--workers", "1")
    with serving(tmp_path / "log", *words, "--file-system-poll-wait-seconds", "0.2") as server:
        assert answer(server, "ext", 4) == 1.0
        before = checksum(server, "ext")
        if copied:
            shutil.copyfile(tmp_path / "new" / data.name, data)
        else:
            (tmp_path / "new" / data.name).rename(data)
        server.wait_until(lambda: answer(server, "ext", 4) == 2.0, "answers with the new data")
        assert checksum(server, "ext") != before
        data.unlink()  # then the model cannot be loaded, and what serves goes on
        server.wait_until(lambda: "odd name.weights cannot be read" in server.text(), "missed")
        assert answer(server, "ext", 4) == 2.0


def test_a_version_that_crashes_openvino_ends_no_worker(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_weights_model(models / "good" / "1", 1.0)
    write_weights_model(tmp_path / "bad", 1.0)
    port = CutPort(("y",), "f32", (-1, 512))
    CutManifest(None, CutPart(PYTHON, "crashes:tail"), (port,), (port,)).write(tmp_path / "bad")
    (tmp_path / "crashes.py").write_text(f"import os\nos.kill(os.getpid(), {signal.SIGSEGV})\n")
    words = ("--model-repository", str(models), "--workers", "2", "--cores-per-worker", "1")
    more = ("--allow-callables", "--file-system-poll-wait-seconds", "0.2")
    with serving(tmp_path / "log", *words, *more, ready=2, PYTHONPATH=str(tmp_path)) as server:
        workers = server.workers()
        (models / "bad").mkdir()
        (tmp_path / "bad").rename(models / "bad" / "1")
        said = "model bad version 1 is not served: OpenVINO crashed (SIGSEGV)"
        server.wait_until(lambda: server.text().count(said) == 2, "refused by both workers")
        index = server.post("/v2/repository/index", b"{}").json()
        (bad,) = (row for row in index if row["name"] == "bad")
        assert bad["state"] == "UNAVAILABLE"
        assert "OpenVINO crashed (SIGSEGV)" in bad["reason"]
        assert answer(server, "good", INPUTS) == 1.0
        assert server.workers() == workers
