"""Places that cannot be written are refused before anything is measured, and figures are printed first."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cpuserve.cli import cli, figures
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.profiling.recording import FILE
from tests.conftest import ROOT


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """A directory that this user may not write, whoever runs the tests."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "there.json").write_text("{}")
    allowed = os.access

    def access(path, mode):
        inside = Path(path) == folder or folder in Path(path).parents
        return allowed(path, mode) and not (inside and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch):
    def started(*_args, **_more):
        raise AssertionError("a server was started")

    monkeypatch.setattr("cpuserve.measuring.local_server.local_server", started)


def run(*words):
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A directory that this user may not even look into, as /root, whoever runs the tests."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    stat = os.stat

    def look(path, *rest, **more):
        if folder in Path(os.fsdecode(path)).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *rest, **more)

    monkeypatch.setattr(os, "stat", look)
    return folder


PLACES = pytest.mark.parametrize(
    "words",
    [
        ("bench", "serve", "digits", "--out", "FOLDER/new.json"),
        ("bench", "serve", "digits", "--csv", "FOLDER/new.csv"),
        ("bench", "ceiling", "digits", "--out", "FOLDER/there.json"),
        ("bench", "networks", "--out", "FOLDER/new"),
        ("profile", "digits", "--out", "FOLDER/a/b"),
        ("tune", "digits", "--tuning-dir", "FOLDER/tuning"),
    ],
)


@PLACES
def test_a_place_that_cannot_be_reached_is_refused_first(hidden, words):
    done = run(*(word.replace("FOLDER", str(hidden)) for word in words))
    said = done.output if done.exception is None else f"{done.output}{done.exception}"
    assert isinstance(done.exception, (SystemExit, UsageError))
    assert "cannot be reached: Permission denied" in said
    assert words[-2].lstrip("-") in said


@PLACES
def test_a_place_that_cannot_be_written_is_refused_first(closed, words):
    done = run(*(word.replace("FOLDER", str(closed)) for word in words))
    said = done.output if done.exception is None else f"{done.output}{done.exception}"
    assert isinstance(done.exception, (SystemExit, UsageError))
    assert "cannot be written by this user" in said
    assert words[-2].lstrip("-") in said


def test_a_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"--tuning-dir: .*file is no directory"):
        figures.check_folder(tmp_path / "file" / "tuning", "--tuning-dir")


def test_figures_are_printed_before_the_disk_is_full(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cpuserve.measuring.results.write_result", full)
    with pytest.raises(CpuserveError, match=r"out\.json cannot be written: No space left"):
        figures.deliver({"speed": 3}, tmp_path / "out.json", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"speed": 3}


def test_a_profile_of_another_model_is_not_written_over(monkeypatch, tmp_path):
    from cpuserve.cli.profile import _check_own

    example = next((ROOT / "profiles" / "example").rglob(FILE))
    there = json.loads(example.read_text())["model"]
    _check_own(example.parent, there)
    _check_own(tmp_path, "other")
    with pytest.raises(UsageError, match=f"holds a profile of {there}, not of other"):
        _check_own(example.parent, "other")
