from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fixtures.weights_model import write_weights_model
from cpuserve.errors import ModelLoadError
from cpuserve.models.cut_manifest import PYTHON, CutManifest, CutPart, CutPort
from cpuserve.models.repository import ModelFile
from cpuserve.serving.crash_check import CrashChecks
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    write_weights_model(tmp_path / "1", 1.0)
    return ModelFile("w", 1, tmp_path / "1" / "model.xml")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands of the children that were started."""
    run, seen = subprocess.run, []

    def watched(command: Sequence[str], **words: Any) -> Any:
        seen.append(command)
        return run(command, **words)

    monkeypatch.setattr("subprocess.run", watched)
    return seen


def write_tail(file: ModelFile, tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the model a tail whose import runs ``code``."""
    (tmp_path / "a_tail.py").write_text(f"{code}\ndef tail(y):\n    return y\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    port = CutPort(("y",), "f32", (-1, 512))
    CutManifest(None, CutPart(PYTHON, "a_tail:tail"), (port,), (port,)).write(file.xml.parent)


def test_a_version_is_tried_once_whoever_loads_it(file: ModelFile, started: list[Sequence[str]]) -> None:
    crash_checks = CrashChecks()
    for _ in range(3):
        crash_checks.check(file, "sum", Settings(), 1)
    assert len(started) == 1
    crash_checks.check(file, "another sum", Settings(), 1)
    crash_checks.check(file, "sum", Settings(max_batch=2), 1)
    crash_checks.check(file, "sum", Settings(), 2)
    assert len(started) == 4


def test_a_result_is_found_until_many_others_took_its_place(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpuserve.serving.crash_check._try", lambda *_: 0)
    crash_checks = CrashChecks()
    for number in range(513):
        crash_checks.check(file, str(number), Settings(), 1)
    monkeypatch.setattr("cpuserve.serving.crash_check._try", lambda *_: pytest.fail("tried"))
    crash_checks.check(file, "1", Settings(), 1)
    with pytest.raises(pytest.fail.Exception, match="tried"):
        crash_checks.check(file, "0", Settings(), 1)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_of_the_child_is_the_reason_for_all_workers(
    file: ModelFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Sequence[str]],
    number: signal.Signals,
) -> None:
    write_tail(file, tmp_path, f"import os\nos.kill(os.getpid(), {number})", monkeypatch)
    crash_checks = CrashChecks()
    for _ in range(2):
        with pytest.raises(ModelLoadError, match=rf"OpenVINO crashed \({number.name}\).* w/1"):
            load_pipeline(openvino_core(), file, Settings(allow_callables=True), 1, crash_checks=crash_checks)
    assert len(started) == 1


def test_a_child_that_something_else_ended_is_no_crash_and_is_tried_again(
    file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Sequence[str]]
) -> None:
    crash_checks, settings = CrashChecks(), Settings(allow_callables=True)
    write_tail(file, tmp_path, f"import os\nos.kill(os.getpid(), {signal.SIGKILL})", monkeypatch)
    with pytest.raises(ModelLoadError, match="was ended by SIGKILL"):
        crash_checks.check(file, "sum", settings, 1)
    write_tail(file, tmp_path, "import os\nos._exit(3)", monkeypatch)
    with pytest.raises(ModelLoadError, match="was ended with 3"):
        crash_checks.check(file, "sum", settings, 1)
    assert len(started) == 2


def test_a_child_that_hangs_is_ended_and_named(
    file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tail(file, tmp_path, "import signal\nsignal.pause()", monkeypatch)
    settings = Settings(allow_callables=True, model_check_timeout_s=5)
    with pytest.raises(ModelLoadError, match=r"within 5 s \(setting model_check_timeout_s\)"):
        CrashChecks().check(file, "sum", settings, 1)


def test_a_model_that_the_child_refuses_is_refused_by_its_own_load(
    file: ModelFile, capfd: pytest.CaptureFixture[str]
) -> None:
    file.xml.write_text("<net>")
    crash_checks = CrashChecks()
    crash_checks.check(file, "sum", Settings(), 1)
    assert capfd.readouterr().err == ""  # the child says nothing unless it fails
    with pytest.raises(ModelLoadError, match="cannot be read"):
        load_pipeline(openvino_core(), file, Settings(), 1, crash_checks=crash_checks)


def test_the_arbiter_can_have_trials_without_openvino() -> None:
    code = "import sys, cpuserve.serving.crash_check; sys.exit('openvino' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
