"""The wheel holds every file of the package, whatever its kind, and nothing else of the repository."""

from __future__ import annotations

import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

import pytest

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
        if name.startswith(("cpuserve/", "benchmarks/", "ir_models/")) or "/" not in name:
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
    """A directory with the wheel's files, for PYTHONPATH."""
    place = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(place)
    return place


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
    command = [sys.executable, "-m", "cpuserve", "serve", "--workers", "1", "--port", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
    try:
        wait_ready(port)
        (said,) = re.findall(r"Its page is (\S+), a request (curl .*)", (tmp_path / "log").read_text())
        answer = json.loads(subprocess.run(shlex.split(said[1]), capture_output=True, check=True).stdout)
        assert (answer["model"], answer["predictions"][0]["label"]) == ("digits", "7")
        assert str(installed) in said[1]
        with urllib.request.urlopen(said[0]) as page:
            assert page.status == 200
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("words", [["--model-repository", "models"], ["digits"]])
def test_a_repository_that_was_named_must_hold_a_model(installed, tmp_path, words):
    command = [sys.executable, "-m", "cpuserve", "serve", *words]
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no model" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_metadata_name_the_versions_of_python_that_it_runs_on(wheel):
    with zipfile.ZipFile(wheel) as files:
        (name,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(files.read(name))
    versions = {word.rpartition(" :: ")[2] for word in metadata.get_all("Classifier")}
    assert {"3.11", "3.12", "3.13"} <= versions
    assert metadata["Requires-Python"] == ">=3.11"
