"""Every command of the tutorial is run in a directory of its own, and prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import serving

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "tutorial.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
ANSWER = json.loads(PAGE.split("```json\n")[1].split("```")[0])
REFUSED = 3  # the exit code of quantize that the page names


def test_the_commands_are_those_that_are_tested_here():
    assert COMMANDS == [
        "pip install 'cpuserve[onnx,quantize,vision]'",
        "cpuserve convert yolo.onnx --name yolo --model_type YOLOX --labels labels.txt --images photos",
        "cpuserve predict yolo photos/zebra.jpeg --output seen.png",
        "cpuserve quantize yolo --calibration photos --subset-size 100",
        "cpuserve quantize yolo --calibration empty --name yolo_empty",
        "cpuserve tune yolo_int8 --budget 5m",
        "cpuserve serve yolo_int8 --port 8000",
        "cpuserve health",
        "curl --fail http://127.0.0.1:8000/v2/health/ready",
        "curl --data-binary @photos/zebra.jpeg http://127.0.0.1:8000/predictions/yolo_int8",
        "curl http://127.0.0.1:8000/metrics",
        "cpuserve doctor",
        "cpuserve profile --url http://127.0.0.1:8000 --load photos --seconds 10",
    ]


@pytest.fixture
def here(data_dir, tmp_path):
    """A directory with what the page starts from."""
    for folder, pictures in {"photos": ("people2.jpeg", "zebra.jpeg"), "empty": ("bee.jpeg",)}.items():
        (tmp_path / folder).mkdir()
        for picture in pictures:
            shutil.copy(data_dir / "images" / picture, tmp_path / folder)
    shutil.copy(data_dir / "models" / "yolox_nano_416.onnx", tmp_path / "yolo.onnx")
    shutil.copy(data_dir / "models" / "coco_labels_80.txt", tmp_path / "labels.txt")
    return tmp_path


def only_with_the_extras_of_the_page(folder):
    """Variables with which Python finds no package of an extra that the page does not install."""
    extras = {
        "frigate": "zmq", "grpc": "grpc", "onnx": "onnxruntime", "quantize": "nncf", "remote": "fsspec",
        "tflite": "ai_edge_litert", "tune": "optuna", "video": "av", "vision": "model_api",
    }  # fmt: skip
    installed = COMMANDS[0].partition("[")[2].partition("]")[0].split(",")
    hidden = sorted(name for extra, name in extras.items() if extra not in installed)
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(
        f"import sys\nfor name in {hidden!r}:\n    sys.modules[name] = None\n"
    )
    return {"PYTHONPATH": str(folder / "hidden")}


@pytest.mark.timeout(600)  # each command is a process of its own, which loads what it needs
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_from_a_file_to_a_server_that_is_watched(here):
    environ = only_with_the_extras_of_the_page(here)

    def run(command, ends=(0,)):
        words = shlex.split(command)
        if words[0] == "cpuserve":
            words[:1] = [sys.executable, "-m", "cpuserve"]
        done = subprocess.run(
            words, cwd=here, env={**os.environ, **environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode in ends, done.stderr
        return done

    convert, predict, quantize, refused, tune, serve, health, ready, ask, metrics, doctor, profile = COMMANDS[
        1:
    ]
    report = run(convert).stdout
    assert "yolo/1 published: ir_models/yolo/1/model.xml" in report
    assert "against onnxruntime" in report
    assert re.search(r"zebra\.jpeg.*zebra 0\.9", report)
    assert "zebra" in run(predict).stdout
    assert (here / "seen.png").stat().st_size > 0

    kept = run(quantize, ends=(0, REFUSED))  # a CPU without VNNI may lose too much
    name = "yolo" if kept.returncode == REFUSED else "yolo_int8"
    assert ("yolo_int8/1 published" in kept.stdout) == (name == "yolo_int8")
    said = run(refused, ends=(REFUSED,)).stderr.strip().splitlines()[-1]
    assert f"\n{said}\n" in PAGE

    assert "preset: " in run(f"{tune} --max-trials 1 --window-seconds 0.2".replace("yolo_int8", name)).stdout

    words = shlex.split(serve.replace("yolo_int8", name))[2:-2]  # without the port of the page
    with serving(here / "log", *words, "--model-repository", str(here / "ir_models"), **environ) as server:

        def at(command):
            return run(command.replace(":8000", f":{server.port}").replace("yolo_int8", name)).stdout

        run(f"{health} --pid {server.process.pid}")
        assert json.loads(at(ready))["ready"] is True
        answer = json.loads(at(ask))
        assert list(answer) == list(ANSWER)
        (found,), (promised,) = answer["detections"], ANSWER["detections"]
        assert list(found) == list(promised)
        assert found["label"] == promised["label"]
        assert found["box"] == pytest.approx(promised["box"], abs=15)
        shown = at(metrics)
        assert {metric for metric in re.findall(r"\| `(\w+)` \|", PAGE) if metric not in shown} == set()
        run(f"{doctor} --pid {server.process.pid}", ends=(0, 1))  # 1: a busy machine has findings
        assert "infer" in at(profile.replace("10", "1"))
    assert list(here.glob("profiles/*/index.html"))
