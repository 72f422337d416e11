"""What is in the wheel, what an index shows of it, and that it works alone: the commands of its page run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager

import onnx
import pytest
from packaging.metadata import Metadata

from tests.bare_environment import make_environment, needed
from tests.conftest import ROOT
from tests.servers import START_TIMEOUT_S, free_port


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory):
    """A wheel that is built of a copy of the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for name in tracked:
        kept = ("cpuserve/", "benchmarks/", "ir_models/", "docs/package.md")
        if name.startswith(kept) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,) = out.glob("cpuserve-*.whl")
    return wheel


@pytest.fixture(scope="module")
def packed(wheel):
    """The names of the files in the wheel."""
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The directory of programs of an environment with the wheel and what it needs, and nothing else."""
    python = make_environment(tmp_path_factory.mktemp("installed") / "venv", needed())
    words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return python.parent


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        return files.read(name)


def test_all_files_of_the_package_are_in_the_wheel(tracked, packed):
    wanted = {name for name in tracked if name.startswith("cpuserve/")}
    assert "cpuserve/py.typed" in wanted
    assert {name.rpartition(".")[2] for name in wanted} >= {"html", "js", "css", "toml", "yaml"}
    assert wanted - {*packed} == set(), "missing: see package-data in pyproject.toml"


def test_nothing_else_is_in_the_wheel(tracked, packed):
    outside = {name for name in packed if not name.startswith("cpuserve/")}
    assert {name.partition("/")[0].rpartition(".")[2] for name in outside} == {"dist-info"}
    assert {name for name in packed if name.startswith("cpuserve/")} <= {*tracked}


def wait_ready(port):
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")


def test_it_serves_in_an_empty_directory_and_says_what_to_try(installed, tmp_path):
    port = free_port()
    command = [installed / "cpuserve", "serve", "--workers", "1", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_ready(port)
        (said,) = re.findall(r"Its page is (\S+), a request (curl .*)", (tmp_path / "log").read_text())
        answer = json.loads(subprocess.run(shlex.split(said[1]), capture_output=True, check=True).stdout)
        assert (answer["model"], answer["predictions"][0]["label"]) == ("digits", "7")
        assert str(installed.parent) in said[1]
        with urllib.request.urlopen(said[0]) as page:
            assert page.status == 200
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("words", [["--model-repository", "models"], ["digits"]])
def test_a_repository_that_was_named_must_hold_a_model(installed, tmp_path, words):
    command = [installed / "cpuserve", "serve", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no model" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_metadata_name_the_versions_of_python_that_it_runs_on(metadata):
    read = Metadata.from_email(metadata, validate=True)  # as an index checks them
    versions = {word.rpartition(" :: ")[2] for word in read.classifiers}
    assert {"3.11", "3.12", "3.13"} <= versions
    assert str(read.requires_python) == ">=3.11"
    assert {"quantize", "grpc", "video"} <= {*read.provides_extra}


def test_an_index_shows_a_description_whose_links_all_lead_somewhere(metadata):
    read = Metadata.from_email(metadata, validate=True)
    assert read.description == (ROOT / "docs" / "package.md").read_text()
    assert read.description_content_type == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", read.description)
    assert "https://docs.openvino.ai" in links
    for link in (*links, *(read.project_urls or {}).values()):
        assert re.match(r"https://[\w.-]+\.[a-z]+(/|$)", link), f"{link} leads nowhere from an index"


def test_the_commands_of_its_description(installed, tmp_path):
    """Typed one after the other in an empty directory, on ports of their own."""
    page = (ROOT / "docs" / "package.md").read_text()
    lines = [
        line.partition("  #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
    ]
    assert lines.pop(0) == "pip install cpuserve"
    assert lines == [
        "cpuserve serve",
        "cpuserve health",
        "cpuserve pull",
        "cpuserve pull digits",
        "cpuserve models",
        "cpuserve predict digits photo.png",
        "cpuserve predict model.onnx photo.png",
        "cpuserve serve model.onnx --port 8001",
    ]
    (tmp_path / "photo.png").write_bytes((ROOT / "docs" / "seven.png").read_bytes())
    entry = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 16, 16])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    mean = onnx.helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    classes = onnx.helper.make_node("Softmax", ["m"], ["y"], axis=1)
    graph = onnx.helper.make_graph([mean, classes], "g", [entry], [result])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, str(tmp_path / "model.onnx"))
    first, *questions, second = lines
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]

    def typed(line, *more):
        words = [installed / "cpuserve", *shlex.split(line)[1:], *more]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with served(installed, tmp_path, first) as process:
        answers = {
            line: typed(line, *(["--pid", str(process.pid)] if "health" in line else []))
            for line in questions
        }
    assert "ready: 200" in answers["cpuserve health"]
    assert "mobilenet_v2" in answers["cpuserve pull"]
    assert "digits" in answers["cpuserve models"]
    assert "│ 7 " in answers["cpuserve predict digits photo.png"]
    assert "model/1" in answers["cpuserve predict model.onnx photo.png"]
    with served(installed, tmp_path, second.removesuffix(" --port 8001")) as process:
        typed("cpuserve health", "--pid", str(process.pid))
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\n"


@contextmanager
def served(installed, folder, line):
    """A server that was started by a line, on a free port."""
    port = free_port()
    words = [installed / "cpuserve", *shlex.split(line)[1:], "--workers", "1", "--port", str(port)]
    with (folder / "served.log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        wait_ready(port)
        yield process
    finally:
        process.terminate()
        process.wait(30)
