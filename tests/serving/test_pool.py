"""The models of one worker: one model's failure stays that model's, and absence is no wish."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpuserve.errors import ModelChanging, ModelLoadError, ModelNotReady, UnknownModel
from cpuserve.models.aliases import write_aliases
from cpuserve.models.ovms_config import with_models_of
from cpuserve.serving import version_loader
from cpuserve.serving.model_problems import CONFIG, REPOSITORY
from cpuserve.serving.pool import Pool
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings
from tests.conftest import ROOT

DIGITS = ROOT / "ir_models" / "digits" / "1"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "models"
    for name in ("apple", "beech"):
        shutil.copytree(DIGITS, folder / name / "1")
    return folder


@pytest.fixture
def made(root):
    def make(**settings):
        control = ReloadControl(rows=2)
        control.join(0)
        # tests/serving/test_crash_check.py holds what a child process finds
        chosen = Settings(**{"model_repository": root, "check_models_in_child": False, **settings})
        return Pool(chosen, 1, Statistics(rows=1), control, 0)

    return make


def serving(pool):
    return {name: pool.ready_versions(name) for name in sorted(pool.models)}


def reasons(pool):
    return {(one.name, one.version): one.reason for one in pool.control.table.read() if one.reason}


@pytest.fixture
def raising(monkeypatch):
    """Loading a model that is named here raises what is given."""
    failures = {}

    def load(core, file, *rest, **words):
        if file.name in failures:
            raise failures[file.name]
        return load_pipeline(core, file, *rest, **words)

    load_pipeline = version_loader.load_pipeline
    monkeypatch.setattr(version_loader, "load_pipeline", load)
    return failures


def test_an_alias_names_a_model_as_soon_as_it_is_written(made, root):
    pool = made()
    pool.sync()
    with pytest.raises(UnknownModel, match="no model 'a'"):
        pool.get("a")
    write_aliases(root / "apple", ["a", "beech"])
    pool.sync()
    assert pool.get("a").name == pool.get("a", "1").name == pool.known("a").file.name == "apple"
    assert pool.get("beech").name == "beech"
    with pytest.raises(UnknownModel, match="'a' has no version 9"):
        pool.get("a", "9")


def test_a_version_is_found_by_its_number_and_the_newest_ready_one_without(made, root, raising):
    shutil.copytree(DIGITS, root / "apple" / "3")
    pool = made(model_version_policy="all")
    pool.sync()
    assert pool.get("apple").version == pool.known("apple").file.version == 3
    assert pool.get("apple", "1").version == 1
    # Triton's sample clients look for the words at the start
    unknown = "^Request for unknown model: "
    with pytest.raises(
        UnknownModel, match=f"{unknown}'apple' has no version 2; the versions served are: 1, 3"
    ):
        pool.get("apple", "2")
    with pytest.raises(
        UnknownModel, match=f"{unknown}there is no model 'cedar'; those served are: apple, beech"
    ):
        pool.get("cedar")
    wrong = "^failed to get model version from specified version string 'x1': the versions served are: 1, 3"
    with pytest.raises(UnknownModel, match=wrong):
        pool.get("apple", "x1")
    raising["beech"] = ModelLoadError("broken")
    pool.known("beech").signature = ()
    pool.sync()
    assert pool.get("beech").version == 1  # what was loaded before
    pool = made()
    pool.sync()
    with pytest.raises(ModelNotReady, match="'beech' is not ready: broken"):
        pool.get("beech")
    assert pool.ready_versions("beech") == []


@pytest.mark.parametrize(
    "error",
    [
        KeyError("tail"),
        MemoryError(),
        SystemExit(0),
        IndexError("of OpenVINO"),
        OSError(5, "x"),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_loading_raises_stays_that_models(made, raising, caplog, error):
    raising["apple"] = error
    pool = made()
    pool.sync()
    assert serving(pool) == {"apple": [], "beech": [1]}
    state = pool.known("apple")
    assert state.state == "UNAVAILABLE"
    assert type(error).__name__ in state.reason
    assert "model apple version 1 is not served" in caplog.text
    assert type(error).__name__ in reasons(pool)["apple", 1]
    assert pool.ready
    assert pool.control.applied(0) == pool.control.generation


def test_a_failed_version_is_tried_again_when_a_client_asks_and_when_its_files_change(made, raising, root):
    raising["apple"] = KeyError("tail")
    pool = made()
    pool.sync()
    raising.clear()
    pool.sync()
    pool.control.rescan()
    pool.sync()
    pool.control.load("beech")
    pool.sync()
    assert serving(pool)["apple"] == []  # nobody asked for it
    pool.control.load("apple")
    pool.sync()
    assert serving(pool)["apple"] == [1]
    assert reasons(pool) == {}

    raising["apple"] = KeyError("tail")
    os.utime(root / "apple" / "1" / "model.xml", ns=(1, 1))
    pool.sync()
    assert serving(pool)["apple"] == [1]  # as it was before
    assert "KeyError" in reasons(pool)["apple", 1]
    raising.clear()
    os.utime(root / "apple" / "1" / "model.xml", ns=(2, 2))
    pool.sync()
    assert reasons(pool) == {}


def test_what_is_wrong_with_a_model_as_a_whole_stops_no_other(made, root, monkeypatch, caplog):
    pool = made()
    pool.sync()
    shutil.copytree(DIGITS, root / "cedar" / "1")
    shutil.copytree(DIGITS, root / "beech" / "2")
    monkeypatch.setattr(
        pool, "_settings", Settings(model_repository=root, models={"apple": {"model_version_policy": "x"}})
    )
    for _ in range(3):
        pool.sync()
    assert serving(pool) == {"apple": [1], "beech": [2], "cedar": [1]}
    assert "model_version_policy" in reasons(pool)["apple", 0]
    assert sum("model_version_policy" in record.message for record in caplog.records) == 1
    assert pool.ready


def test_the_watch_survives_a_repository_that_cannot_be_followed(made, root, monkeypatch):
    pool = made(file_system_poll_wait_seconds=0.1)
    pool.sync()
    stop, calls = threading.Event(), []
    names = pool.repository.names

    def failing():
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("of the file system")
        return names()

    monkeypatch.setattr(pool.repository, "names", failing)
    thread = threading.Thread(target=pool.watch, args=(stop,))
    thread.start()
    generation = pool.control.rescan()
    assert pool.control.wait(generation, 60)  # whoever waits is not left waiting
    told = threading.Event()
    while len(calls) < 4 and not told.wait(0.01):
        assert thread.is_alive()
    stop.set()
    thread.join(60)
    assert serving(pool) == {"apple": [1], "beech": [1]}
    assert pool.problems == {}


@pytest.mark.parametrize("how", ["missing", "empty", "no directory"])
def test_a_repository_that_is_missing_or_suddenly_empty_unloads_nothing(made, root, how, caplog):
    pool = made(removal_grace_s=0)
    pool.sync()
    aside = root.with_name("aside")
    root.rename(aside)
    if how == "empty":
        root.mkdir()
    elif how == "no directory":
        root.touch()
    caplog.clear()
    for _ in range(3):
        pool.sync()
    assert serving(pool) == {"apple": [1], "beech": [1]}
    assert pool.ready
    assert "served on" in pool.problems[REPOSITORY]
    assert str(root.parent) not in pool.problems[REPOSITORY]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    pool.control.unload("beech")  # that is a wish
    pool.sync()
    assert serving(pool) == {"apple": [1]}
    if how != "missing":
        root.rmdir() if how == "empty" else root.unlink()
    aside.rename(root)
    pool.sync()
    assert pool.problems == {}
    assert serving(pool) == {"apple": [1]}


def test_a_file_system_that_answers_with_errors_unloads_nothing_and_starts_a_worker(made, root, monkeypatch):
    pool = made(removal_grace_s=0)
    pool.sync()

    def stale(_):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as broken:
        for name in ("exists", "is_file", "is_dir", "iterdir", "stat"):
            broken.setattr(Path, name, stale)
        pool.sync()
        late = made()
        late.sync()
        assert serving(pool) == {"apple": [1], "beech": [1]}
        assert pool.ready
        assert "Stale" in pool.problems[REPOSITORY]
        assert not late.ready
    for one in (pool, late):
        one.sync()
        assert serving(one) == {"apple": [1], "beech": [1]}
        assert one.problems == {}


def test_one_directory_that_cannot_be_listed_is_one_models_trouble(made, root, monkeypatch):
    def refusing(self, iterdir=Path.iterdir):
        if self.name == "apple":
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(self)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "iterdir", refusing)
        pool = made()
        pool.sync()
        assert serving(pool) == {"beech": [1]}
        assert "Permission denied" in reasons(pool)["apple", 0]
        assert pool.ready
    pool.sync()
    assert serving(pool) == {"apple": [1], "beech": [1]}


@pytest.mark.parametrize("unread", ["2", "2/warmup"])
def test_a_version_that_cannot_be_listed_is_its_own_trouble(made, root, monkeypatch, unread):
    shutil.copytree(DIGITS, root / "apple" / "2")
    (root / "apple" / "2" / "warmup").mkdir()
    running = made()
    running.sync()
    assert serving(running)["apple"] == [2]

    def refusing(self, iterdir=Path.iterdir):
        if self == root / "apple" / unread:
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(self)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "iterdir", refusing)
        running.sync()
        assert serving(running)["apple"] == [2]
        assert "Permission denied" in reasons(running)["apple", 0]
        fresh = made()
        fresh.sync()
        assert serving(fresh) == {"apple": [1], "beech": [1]}
        assert "Permission denied" in reasons(fresh)["apple", 0]
    for pool in (running, fresh):
        pool.sync()
        assert serving(pool)["apple"] == [2]
        assert pool.problems == {}


def test_a_worker_that_starts_while_the_repository_is_missing_waits_for_it(made, root):
    aside = root.with_name("aside")
    root.rename(aside)
    pool = made()
    pool.sync()
    assert not pool.ready
    assert "no model in models" in pool.problems[REPOSITORY]
    aside.rename(root)
    pool.sync()
    assert pool.ready
    assert pool.problems == {}


def test_a_removed_model_is_served_for_a_while_and_one_that_comes_back_for_good(made, root, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("cpuserve.serving.pool.time", SimpleNamespace(monotonic=lambda: now[0]))
    pool = made(removal_grace_s=30)
    pool.sync()
    shutil.rmtree(root / "apple")
    pool.sync()
    now[0] = 29
    pool.sync()
    assert serving(pool) == {"apple": [1], "beech": [1]}
    shutil.copytree(DIGITS, root / "apple" / "1")
    pool.sync()
    shutil.rmtree(root / "apple")
    pool.sync()
    now[0] = 58
    pool.sync()
    assert serving(pool) == {"apple": [1], "beech": [1]}
    now[0] = 59
    pool.sync()
    assert serving(pool) == {"beech": [1]}
    with pytest.raises(UnknownModel):
        pool.get("apple")


def test_a_removed_model_that_never_answered_is_forgotten_at_once(made, raising, root):
    raising["apple"] = KeyError("tail")
    pool = made()
    pool.sync()
    shutil.rmtree(root / "apple")
    pool.sync()
    assert serving(pool) == {"beech": [1]}
    assert reasons(pool) == {}


def test_ignored_directories_are_named_once(made, root, caplog):
    (root / "apple" / "v2").mkdir()
    (root / "my model").mkdir()
    (root / "model.xml").touch()
    (root / "torch" / "1").mkdir(parents=True)
    (root / "torch" / "1" / "model.pt").touch()
    (root / "apple" / "labels.txt").touch()
    (root / "flat").mkdir()
    (root / "flat" / "model.onnx").touch()
    pool = made()
    for _ in range(2):
        pool.sync()
    named = [record.args for record in caplog.records if "is ignored" in record.message]
    assert sorted(path for path, _ in named) == [
        *("apple/v2", "flat/model.onnx", "model.xml", "my model", "torch/1"),
    ]
    assert "cpuserve convert" in dict(named)["torch/1"]
    assert "whole number" in dict(named)["apple/v2"]


def test_strict_readiness_wants_every_model(made, raising):
    raising["apple"] = KeyError("tail")
    for strict in (False, True):
        pool = made(strict_readiness=strict)
        assert not pool.ready  # nothing was tried yet
        pool.sync()
        assert pool.ready is not strict
    raising["beech"] = KeyError("tail")
    pool = made()
    pool.sync()
    assert not pool.ready  # none answers


def test_a_worker_whose_loading_hangs_or_has_ended_is_not_ready(made, monkeypatch):
    pool = made()
    pool.sync()
    pool.dead = True
    assert not pool.ready
    pool = made()
    pool.sync()
    inside, go_on = threading.Event(), threading.Event()

    def hanging(*_, **__):
        inside.set()
        go_on.wait(60)
        raise KeyError("late")

    monkeypatch.setattr(version_loader, "load_pipeline", hanging)
    pool.known("apple").signature = ()
    thread = threading.Thread(target=pool.sync)
    thread.start()
    assert inside.wait(60)
    assert pool.ready  # it loads
    monkeypatch.setattr(version_loader, "_STUCK_S", 0)
    assert pool.stuck
    assert not pool.ready
    go_on.set()
    thread.join(60)
    assert pool.ready


def test_a_config_that_cannot_be_read_changes_nothing_and_is_said_once(tmp_path, root, caplog):
    config = tmp_path / "config.json"
    text = json.dumps({"model_config_list": [{"config": {"name": "m", "base_path": str(root / "apple")}}]})
    config.write_text(text)
    control = ReloadControl(rows=1)
    control.join(0)
    settings = with_models_of(Settings(config_path=str(config)))[0]
    pool = Pool(settings, 1, Statistics(rows=1), control, 0)
    pool.sync()
    config.write_text("{")
    for _ in range(3):
        pool.sync()
    assert serving(pool) == {"m": [1]}
    assert "is not JSON" in pool.problems[CONFIG]
    assert sum("is not JSON" in record.message for record in caplog.records) == 1
    config.write_text('{"model_config_list": []}')
    pool.sync()
    assert serving(pool) == {}  # it is no longer asked for
    assert pool.ready
    assert pool.problems == {}
    config.write_text(text)
    pool.sync()
    assert serving(pool) == {"m": [1]}


def test_a_worker_that_starts_waits_for_files_that_are_being_written(made, raising):
    class Written(threading.Event):
        """Ends the writing at the third look, as its waiting is counted."""

        looks = 0

        def wait(self, timeout=None):
            self.looks += 1
            if self.looks == 3:
                del raising["apple"]
            return False

    raising["apple"] = ModelChanging("apple/1 changes while it is read")
    stop, pool = Written(), made()
    pool.start(stop)
    assert (serving(pool), stop.looks) == ({"apple": [1], "beech": [1]}, 3)


def test_a_worker_that_starts_waits_not_for_ever_and_not_for_what_is_broken(made, raising, monkeypatch):
    monkeypatch.setattr("cpuserve.serving.pool._CHANGING_S", 0.0)
    raising["apple"] = ModelChanging("apple/1 changes while it is read")
    raising["beech"] = ModelLoadError("broken")
    stop, pool = threading.Event(), made()
    pool.start(stop)
    assert serving(pool) == {"apple": [], "beech": []}
    monkeypatch.setattr("cpuserve.serving.pool._CHANGING_S", 1e9)
    del raising["apple"]
    pool.start(stop)
    assert serving(pool) == {"apple": [1], "beech": []}


def test_what_is_loading_is_the_newest_version_that_is_wanted(made, root):
    shutil.copytree(root / "apple" / "1", root / "apple" / "4")
    for policy, version in (("latest", 4), ("specific:1,9", 1)):
        loading = [one for one in made(model_version_policy=policy).states() if one.name == "apple"]
        assert [(one.version, one.state) for one in loading] == [(version, "LOADING")]


def test_a_model_that_is_asked_for_and_not_there_is_told_of(tmp_path, root):
    config, away = tmp_path / "config.json", tmp_path / "away"
    entries = [{"config": {"name": name, "base_path": str(root / name)}} for name in ("apple", "cedar")]
    config.write_text(json.dumps({"model_config_list": entries}))
    control = ReloadControl(rows=1)
    control.join(0)
    settings = with_models_of(Settings(config_path=str(config), check_models_in_child=False))[0]
    pool = Pool(settings, 1, Statistics(rows=1), control, 0)
    pool.sync()
    assert (serving(pool), pool.ready) == ({"apple": [1]}, True)
    missing = "no model 'cedar' in cedar: there is no such file or directory"
    assert reasons(pool) == {("cedar", 0): missing}
    with pytest.raises(UnknownModel, match=missing):
        pool.get("cedar")
    (root / "apple").rename(away)
    (root / "cedar").symlink_to(away)
    pool.sync()
    assert serving(pool) == {"apple": [1], "cedar": [1]}  # apple is served on
    assert reasons(pool).keys() == {(REPOSITORY, 0)}
