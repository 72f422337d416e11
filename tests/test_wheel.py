"""The wheel holds every file of the package, whatever its kind, and nothing else of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def packed(tracked, tmp_path_factory):
    """The names of the files in a wheel that is built of a copy of the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for name in tracked:
        if name.startswith(("cpuserve/", "benchmarks/", "ir_models/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,) = out.glob("cpuserve-*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_all_files_of_the_package_are_in_the_wheel(tracked, packed):
    wanted = {name for name in tracked if name.startswith("cpuserve/")}
    assert "cpuserve/py.typed" in wanted
    assert {name.rpartition(".")[2] for name in wanted} >= {"html", "js", "css", "toml", "yaml"}
    assert wanted - {*packed} == set(), "missing: see package-data in pyproject.toml"


def test_nothing_else_is_in_the_wheel(tracked, packed):
    outside = {name for name in packed if not name.startswith("cpuserve/")}
    assert {name.partition("/")[0].rpartition(".")[2] for name in outside} == {"dist-info"}
    assert {name for name in packed if name.startswith("cpuserve/")} <= {*tracked}
