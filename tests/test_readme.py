"""Every command of the README is run, and its answer is what the README says."""

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

from tests.bare_environment import add_packages, locked, make_environment, needed
from tests.servers import Server, free_port

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
ANSWER = json.loads(README.split("```json\n")[1].split("```")[0])


def test_the_commands_are_those_that_are_tested_here():
    assert COMMANDS == [
        "make serve",
        "make test",
        "curl --data-binary @docs/seven.png http://127.0.0.1:8000/predictions/digits",
        "cpuserve pull mobilenet_v2_1.0_224_quant",
        "cpuserve models",
        "cpuserve predict mobilenet_v2_1.0_224_quant photo.jpg",
        "cpuserve serve --workers 2",
        "pip install -e '.[quantize]'",
        "cpuserve convert person.tflite --name person --reverse_input_channels --scale_values 255",
        "cpuserve quantize person --calibration photos",
        "cpuserve cutpoints deeplab.pb",
        "cpuserve cut deeplab.pb --name deeplab --input 0:MobilenetV2/Conv/Conv2D --output ArgMax",
        "cpuserve bench serve person_int8 --images photos --concurrency-range 1:4:x2",
        "cpuserve tune digits --budget 5m",
        "cpuserve profile digits --seconds 10",
    ]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server that `make serve` starts, with the environment the tests run in."""
    port, log = free_port(), tmp_path_factory.mktemp("make") / "log"
    environment = Path(sys.executable).parent.parent
    for stamp in (".serve", ".test"):  # what make leaves when it has installed: here it is installed already
        if not (environment / stamp).exists():
            pytest.skip("the tests do not run in the environment that make creates")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "serve", f"VENV={environment}", f"ARGS=--port {port}"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        server.wait_until(lambda: " ready at http" in server.text(), "ready")
        yield server
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def test_make_serve_answers_the_request_with_the_answer_of_the_readme(served):
    got = served.post("/predictions/digits", (ROOT / "docs" / "seven.png").read_bytes())
    answer = got.json()
    assert list(answer) == list(ANSWER)
    assert [list(row) for row in answer["predictions"]] == [list(ANSWER["predictions"][0])] * 5
    first, promised = answer["predictions"][0], ANSWER["predictions"][0]
    assert (first["class_id"], first["label"]) == (promised["class_id"], promised["label"])
    assert first["probability"] == pytest.approx(promised["probability"], abs=0.02)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_request_as_curl_sends_it(served):
    command = shlex.split(COMMANDS[2].replace(":8000", f":{served.port}"))
    done = subprocess.run([*command, "--silent"], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "7"


def test_make_test_is_what_ci_runs():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    dry = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tests/run.sh" in dry.stdout
    assert "-m pytest" in (ROOT / "tests" / "run.sh").read_text()


@pytest.fixture(scope="module")
def serving_python(tmp_path_factory):
    """The Python of an environment as `make serve` makes it: the packages of its lock file, and no others."""
    python = make_environment(
        tmp_path_factory.mktemp("serve") / "venv", locked(ROOT / "requirements" / "serve.lock")
    )
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (site / "cpuserve.pth").write_text(f"{ROOT}\n")
    return python


@pytest.fixture
def run(data_dir, tmp_path, serving_python):
    """Runs a command of the README in a directory of its own, and returns what it prints."""
    environment = {**os.environ, "CPUSERVE_MIRROR": str(data_dir / "models")}

    def call(command, ends=(0,)):
        words = [serving_python, "-m", *shlex.split(command)]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in ends, done.stderr
        return done.stdout

    return call


def test_pull_models_predict_and_serve(data_dir, tmp_path, run):
    shutil.copy(data_dir / "images" / "zebra.jpeg", tmp_path / "photo.jpg")
    pull, models, predict = COMMANDS[3:6]
    run(pull)
    assert "mobilenet_v2_1.0_224_quant" in run(models)
    assert "zebra" in run(predict)


@pytest.mark.timeout(300)  # each command is a process of its own, which loads what it needs
def test_convert_quantize_and_measure(data_dir, tmp_path, run, serving_python):
    (tmp_path / "person.tflite").symlink_to(data_dir / "models" / "vww_96_float.tflite")
    (tmp_path / "photos").mkdir()
    for photo in ("people2.jpeg", "zebra.jpeg", "orange.png"):
        shutil.copy(data_dir / "images" / photo, tmp_path / "photos")
    extra, convert, quantize, _, _, bench = COMMANDS[7:13]
    assert "person/1 published" in run(convert)
    run(quantize, ends=(4,))  # so the README names the extra first
    (name,) = re.fullmatch(r"pip install -e '\.\[(\w+)\]'", extra).groups()
    add_packages(serving_python, needed(name))
    assert "person_int8/1 published" in run(quantize)
    # 3: the windows differ, as short ones on a busy machine do
    assert "Inferences" in run(f"{bench} --window-seconds 0.2 --max-windows 3", ends=(0, 3))


@pytest.mark.timeout(300)
def test_find_a_cut_and_cut(data_dir, tmp_path, run):
    (tmp_path / "deeplab.pb").symlink_to(data_dir / "models" / "deeplabv3_mnv2_dm05_257_frozen.pb")
    cutpoints, cut = COMMANDS[10:12]
    assert "MobilenetV2/Conv/BatchNorm/FusedBatchNorm" in run(cutpoints)
    report = run(cut)
    assert "deeplab/1 published" in report
    assert "pixel agreement 1, mean iou 1" in report


@pytest.mark.timeout(300)
def test_tune_and_profile(tmp_path, run):
    shutil.copytree(ROOT / "ir_models" / "digits", tmp_path / "ir_models" / "digits")
    tune, profile = COMMANDS[13:]
    found = json.loads(run(f"{tune} --max-trials 1 --window-seconds 0.2 --json"))
    assert found["trials"] == 1
    report = json.loads(run(profile.replace("10", "1") + " --json"))
    assert Path(tmp_path, report["html"]).is_file()
    assert 0 < report["accounted_share"] < 1.1  # the rest is the clients' own, on a busy machine most of it


def test_the_python_of_the_readme(monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(code, {})  # noqa: S102
    assert capsys.readouterr().out.strip() == code.rpartition("#")[2].strip()


def test_the_table_of_other_servers_is_that_of_the_results():
    def beside(name):
        """CPU at 16 connections over cpuserve's, each divided by the ceiling measured around it."""
        peers = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["peers"]
        cpu = {
            peer: found["loads"]["c16"]["cpu_ms"]["median"] / found["ceiling_cpu_ms"]["median"]
            for peer, found in peers.items()
        }
        return {peer: one / cpu["cpuserve"] for peer, one in cpu.items() if peer != "cpuserve"}

    def by_turns(name):
        """CPU over cpuserve's on the Xeon, from windows by turns."""
        return json.loads((ROOT / "docs" / "results" / f"paired-{name}-xeon.json").read_text())["summary"]

    def rate(name):
        peers = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["peers"]
        return peers["cpuserve"]["loads"]["c16"]["rps"]["median"]

    first, second, large = map(beside, ("rivals-640", "rivals-torchserve", "rivals-1080"))
    turns = [by_turns(size) for size in ("640", "1080")]
    for name, peer, other in (("mosec", "mosec", "mosec:nobatch"), ("Triton", "triton", "triton")):
        least, most = sorted((first.pop(peer), second.pop(peer)))
        xeon = " | ".join(f"{rows[other]['cpu_ratio']:.2f}" for rows in turns)
        assert f"\n| {name} | {least:.2f} to {most:.2f} | {large[peer]:.2f} | {xeon} |\n" in README
    others = [*first.values(), *second.values()]
    assert len(others) == 7
    assert f"\n| seven others | {min(others):.2f} to {max(others):.2f} | | | |\n" in README
    rates = [rate("rivals-640"), rate("rivals-1080"), *(rows["cpuserve"]["rps"] for rows in turns)]
    assert f"\n| images/s of cpuserve | {' | '.join(f'{one:.0f}' for one in rates)} |\n" in README
