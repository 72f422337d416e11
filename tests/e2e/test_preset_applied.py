"""A server finds the preset that was tuned for it, says which, and survives those that are wrong."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from cpuserve.machine.launch import find_library
from cpuserve.models.repository import Repository
from cpuserve.tune.preset import Preset
from cpuserve.tune.preset_key import PresetKey
from cpuserve.tune.preset_store import PresetStore
from tests.servers import serving
from tests.tune import made_presets as made

MODEL = "digits"


@pytest.fixture
def key(digits):
    return PresetKey.read(Repository(digits).find(MODEL))


@pytest.fixture
def keep(tmp_path):
    """Keeps a preset in a directory of its own; gives that."""

    def call(key, **knobs):
        PresetStore(tmp_path / "tuning").write(Preset.of_trials(MODEL, key, made.trial(**knobs)))
        return tmp_path / "tuning"

    return call


@pytest.fixture
def start(tmp_path, digits):
    def call(folder, *arguments, **environment):
        words = ("--model-repository", str(digits), "--tuning-dir", str(folder), *arguments)
        return serving(tmp_path / "log", *words, **{"CPUSERVE_PRESET": "auto", **environment})

    return call


def test_the_exact_preset_is_applied_and_named(keep, key, start):
    folder = keep(key, workers=1, threads=3, max_batch=2, streams=1, **{"env.OMP_NUM_THREADS": 1})
    with start(folder) as server:
        shown = server.get("/v2/placement").json()
        (worker,) = server.workers()
        said = server.text()
    preset = shown["preset"]
    assert (preset["match"], preset["layout_from"]) == ("exact", MODEL)
    one = preset["models"][MODEL]
    assert one["path"] == str(folder / key.fingerprint / f"{MODEL}.json")
    assert one["applied"] == {"max_batch": 2, "streams": 1, "threads": 3, "workers": 1}
    assert one["expected"]["images_per_s"] == 100.0
    assert (len(shown["seats"]), shown["workers"][0]["pid"]) == (1, worker)
    assert "OMP_NUM_THREADS=1" in shown["workers"][0]["libraries"]["variables"]
    assert f"preset of {MODEL}: {one['path']}, exact: applied" in said
    assert "NUM_STREAMS=1" in said
    assert "batches [1, 2]" in said


def test_one_of_another_machine_is_a_warning_and_a_broken_one_too(keep, key, start):
    machine = {**key.machine, "cores": 64, "cpus": 64, "threads": 64, "cpu": "Another CPU"}
    folder = keep(dataclasses.replace(key, fingerprint="far", machine=machine), workers=32, max_batch=4)
    (folder / "broken").mkdir()
    (folder / "broken" / f"{MODEL}.json").write_text('{"schema": 1, "model":')
    with start(folder) as server:
        preset = server.get("/v2/placement").json()["preset"]
        said = [line for line in server.text().splitlines() if "preset" in line]
    assert preset["match"] == "nearest"
    assert preset["models"][MODEL]["differs"]["cores"]["preset"] == 64
    assert preset["models"][MODEL]["applied"]["max_batch"] == 4
    (broken,) = preset["refused"]
    assert "is not JSON" in broken
    warned = [line for line in said if "WARNING" in line]
    assert any("is not JSON" in line for line in warned)
    assert any("Another CPU there" in line and "cpuserve tune" in line for line in warned)


def test_an_allocator_is_loaded_ahead_of_all_processes(keep, key, start, tmp_path):
    # any library does for the test: it is loaded under the allocator's name
    folder = tmp_path / ".local" / "lib"
    folder.mkdir(parents=True)
    maps = Path("/proc/self/maps").read_text()
    shutil.copy(re.findall(r"/\S*/libm\.so\S*", maps)[0], folder / "libjemalloc.so.2")
    assert find_library("jemalloc", [folder])
    tuning = keep(key, allocator="jemalloc", workers=1)
    with start(tuning, HOME=str(tmp_path)) as server:
        shown = server.get("/v2/placement").json()
    assert shown["workers"][0]["libraries"]["allocator"] == "jemalloc"
