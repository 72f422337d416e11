from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fixtures.weights_model import write_weights_model
from cpuserve.errors import ModelChanging, ModelLoadError
from cpuserve.models.repository import ModelFile
from cpuserve.serving import model_snapshot
from cpuserve.serving.loader import load_pipeline
from cpuserve.serving.model_snapshot import snapshot
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    write_weights_model(tmp_path / "1", 1.0)
    return ModelFile("w", 1, tmp_path / "1" / "model.xml")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr(model_snapshot, "_OTHER_ROOTS", ())
    return place


def test_the_copy_is_whole_private_and_gone_after_the_load(file: ModelFile, temporary: Path) -> None:
    with snapshot(file, settle_s=0) as found:
        copy = found.file.xml
        assert copy.parent.parent == temporary
        assert [path.read_bytes() for path in found.file.files] == [path.read_bytes() for path in file.files]
        assert copy.parent.stat().st_mode & 0o077 == 0
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in file.files]
    assert found.checksum == hashlib.sha256("".join(sums).encode()).hexdigest()
    assert not [*temporary.iterdir()]


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let something change when the first file has been read."""
    read = model_snapshot._sum
    calls: list[object] = []

    def reading(*words: object) -> str:
        found = read(*words)  # type: ignore[arg-type]
        if not calls:
            change()
        calls.append(words)
        return found

    monkeypatch.setattr(model_snapshot, "_sum", reading)


@pytest.mark.parametrize("copy", [True, False])
def test_a_version_that_changes_while_it_is_read_is_not_taken(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    changing(monkeypatch, lambda: os.truncate(file.xml.with_suffix(".bin"), 100))
    with (
        pytest.raises(ModelChanging, match="changes while it is read"),
        snapshot(file, settle_s=0, copy=copy),
    ):
        pytest.fail("it was taken")
    with snapshot(file, settle_s=0, copy=copy):
        pass


def test_a_file_that_changed_a_moment_ago_is_waited_for(file: ModelFile) -> None:
    asked = time.time()
    file.xml.touch()
    with snapshot(file, settle_s=0.3):
        assert time.time() - asked >= 0.3


def test_a_version_that_goes_on_changing_is_not_taken(file: ModelFile) -> None:
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.005):
            file.xml.touch()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(ModelChanging), snapshot(file, settle_s=0.5):
            pytest.fail("it was taken")
    finally:
        over.set()
        writer.join()


def test_files_that_are_mapped_are_read_again_after_the_load(file: ModelFile) -> None:
    with pytest.raises(ModelChanging), snapshot(file, settle_s=0, copy=False) as found:
        assert found.file == file
        file.xml.with_suffix(".bin").write_bytes(bytes(8))


def test_a_missing_file_is_named(file: ModelFile) -> None:
    file.xml.with_suffix(".bin").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.bin cannot be read: No such file"):
        load_pipeline(openvino_core(), file, Settings(), 1)


def test_no_room_for_a_copy_names_the_place_and_the_ways_out(file: ModelFile, temporary: Path) -> None:
    temporary.rmdir()
    with pytest.raises(ModelLoadError, match="TMPDIR names another place, and `enable_mmap`"):
        load_pipeline(openvino_core(), file, Settings(), 1)


@pytest.mark.parametrize("why", ["none", "gone", "full"])
def test_without_temporary_files_or_room_for_them_the_copy_lies_in_shared_memory(
    file: ModelFile, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    shared = tmp_path / "shm"
    shared.mkdir()
    monkeypatch.setattr(model_snapshot, "_OTHER_ROOTS", (tmp_path / "nowhere", shared))
    if why == "none":

        def none() -> str:
            raise FileNotFoundError("No usable temporary directory found")

        monkeypatch.setattr("tempfile.gettempdir", none)
    elif why == "gone":
        temporary.rmdir()
    else:
        usage = shutil.disk_usage
        full = usage(temporary)._replace(free=1000)
        monkeypatch.setattr("shutil.disk_usage", lambda path: full if path == temporary else usage(path))
    model_snapshot.remove_abandoned(41)  # as the arbiter does
    with snapshot(file, settle_s=0) as found:
        assert found.file.xml.parent.parent == shared
    assert not [*shared.iterdir()]


def test_where_there_is_no_place_at_all_the_ways_out_are_named(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/none")
    with pytest.raises(ModelLoadError, match=r"below /none: .*TMPDIR names another place"):
        load_pipeline(openvino_core(), file, Settings(), 1)


def test_messages_name_the_file_where_it_lies(file: ModelFile, temporary: Path) -> None:
    file.xml.write_text("<net>")
    with pytest.raises(ModelLoadError) as caught:
        load_pipeline(openvino_core(), file, Settings(), 1)
    assert str(file.xml) in str(caught.value)
    assert str(temporary) not in str(caught.value)


def test_copies_of_killed_processes_are_removed_and_those_of_others_are_not(
    file: ModelFile, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = temporary / "cpuserve-model-left"
    left.mkdir()
    with snapshot(file, settle_s=0) as other:
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 60)
        with snapshot(file, settle_s=0):
            assert other.file.xml.is_file()
            assert not left.exists()


@pytest.mark.parametrize("cache", [False, True])
def test_nothing_of_the_repository_or_the_cache_stays_mapped(
    file: ModelFile, tmp_path: Path, cache: bool
) -> None:
    settings = Settings(cache_dir=str(tmp_path / "cache") if cache else "", max_batch=1)
    pipelines = [load_pipeline(openvino_core(), file, settings, 1) for _ in range(2)]
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path) not in maps
    mapped = load_pipeline(openvino_core(), file, Settings(enable_mmap=True, max_batch=1), 1)
    assert str(file.xml.with_suffix(".bin")) in Path("/proc/self/maps").read_text()
    assert {found.checksum for found in pipelines} == {mapped.checksum}


def test_the_copy_of_a_process_that_has_ended_is_removed_at_once_and_no_other(temporary: Path) -> None:
    for name in ("cpuserve-model-41-x", "cpuserve-model-4-x"):
        (temporary / name).mkdir()
    model_snapshot.remove_abandoned(41)
    assert [path.name for path in temporary.iterdir()] == ["cpuserve-model-4-x"]
