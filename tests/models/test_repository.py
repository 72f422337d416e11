"""The repository: what it finds, what it ignores, and that a publish is all or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpuserve.errors import RepositoryError, UnknownModel
from cpuserve.models.repository import Repository


def put(directory: Path, text: str = "<net/>", stem: str = "model") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{stem}.bin").write_bytes(b"weights")
    xml = directory / f"{stem}.xml"
    xml.write_text(text)
    return xml


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "ir_models"


@pytest.fixture
def repository(root: Path) -> Repository:
    return Repository(root)


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_the_latest_version_is_found_by_number_not_by_text(repository: Repository, root: Path):
    put(root / "cats" / "2")
    xml = put(root / "cats" / "10", stem="anything")
    assert repository.names() == ["cats"]
    assert repository.versions("cats") == [2, 10]
    assert repository.find("cats").version == 10
    assert repository.find("cats").xml == xml
    assert repository.find("cats", 2).version == 2


def test_what_is_no_version_is_ignored(repository: Repository, root: Path):
    put(root / "cats" / "1")
    put(root / "cats" / "0")
    put(root / "cats" / "01")
    put(root / "cats" / "v2")
    put(root / "cats" / "3")
    put(root / "cats" / "3", stem="second")
    put(root / "cats" / "4").with_suffix(".bin").unlink()
    put(root / ".hidden" / "1")
    (root / "cats" / "recipe.py").write_text("")
    (root / "cats" / "5").mkdir()
    (root / "README").write_text("")
    (root / "empty").mkdir()
    assert repository.names() == ["cats"]
    assert repository.versions("cats") == [1]


def test_an_absent_model_is_refused_with_what_there_is(repository: Repository, root: Path):
    with pytest.raises(UnknownModel, match="has no models"):
        repository.find("cats")
    put(root / "mobilenet" / "1")
    put(root / "deeplab" / "3")
    put(root / "broken" / "7").with_suffix(".bin").unlink()
    with pytest.raises(UnknownModel, match="did you mean mobilenet"):
        repository.find("mobilnet")
    with pytest.raises(UnknownModel, match="models: deeplab, mobilenet"):
        repository.find("zzz")
    with pytest.raises(UnknownModel, match=r"no version 9; versions: 3"):
        repository.find("deeplab", 9)
    with pytest.raises(UnknownModel, match=r"version 7 has no model.bin beside model.xml"):
        repository.find("broken")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "x" * 129]
)
def test_no_name_leads_out_of_the_repository(repository: Repository, root: Path, name: str):
    put(root / "x" / "1")
    put(root.parent / "x" / "1")
    with pytest.raises(UnknownModel):
        repository.find(name)
    with pytest.raises(RepositoryError, match="refused"), repository.publish(name, 1) as directory:
        put(directory)
    assert everything(root) == ["x", "x/1", "x/1/model.bin", "x/1/model.xml"]


def test_a_publish_appears_whole_and_readable(repository: Repository, root: Path):
    with repository.publish("cats", None) as directory:
        put(directory)
        assert directory.is_relative_to(root)
        assert repository.names() == []
    assert repository.find("cats").version == 1
    assert everything(root) == ["cats", "cats/1", "cats/1/model.bin", "cats/1/model.xml"]
    mask = os.umask(0)
    os.umask(mask)
    assert (root / "cats" / "1").stat().st_mode & 0o777 == 0o777 & ~mask
    with repository.publish("cats", None) as directory:
        put(directory)
    assert repository.versions("cats") == [1, 2]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_publish_leaves_no_trace(repository: Repository, root: Path, failure: type[BaseException]):
    with pytest.raises(failure), repository.publish("cats", 1) as directory:
        put(directory)
        raise failure
    assert not root.exists()
    put(root / "dogs" / "1")
    before = everything(root)
    with pytest.raises(failure), repository.publish("cats", 1) as directory:
        put(directory)
        raise failure
    assert everything(root) == before


def test_a_rename_that_fails_leaves_no_trace(
    repository: Repository, root: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_source: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    put(root / "dogs" / "1")
    before = everything(root)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RepositoryError, match="No space left"), repository.publish("cats", 1) as directory:
        put(directory)
    assert everything(root) == before


def test_a_publish_without_a_model_is_refused(repository: Repository, root: Path):
    with (
        pytest.raises(RepositoryError, match=r"nothing published as cats: 0 .xml files"),
        repository.publish("cats", 1),
    ):
        pass
    assert not root.exists()


def test_a_version_that_exists_is_replaced_only_when_asked(repository: Repository, root: Path):
    put(root / "cats" / "1", "old")
    with (
        pytest.raises(RepositoryError, match="version 1 of cats exists"),
        repository.publish("cats", 1) as directory,
    ):
        put(directory, "new")
    assert repository.find("cats").xml.read_text() == "old"
    with repository.publish("cats", 1, replace=True) as directory:
        put(directory, "new")
    assert repository.find("cats").xml.read_text() == "new"
    assert everything(root) == ["cats", "cats/1", "cats/1/model.bin", "cats/1/model.xml"]


def test_a_version_that_appears_meanwhile_is_not_overwritten(repository: Repository, root: Path):
    with pytest.raises(RepositoryError, match="exists"), repository.publish("cats", 1) as directory:
        put(directory, "late")
        put(root / "cats" / "1", "early")
    assert repository.find("cats").xml.read_text() == "early"


@pytest.mark.parametrize("version", [0, -1])
def test_versions_begin_at_one(repository: Repository, version: int):
    with pytest.raises(RepositoryError, match="from 1"), repository.publish("cats", version):
        pass


def test_a_root_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    repository = Repository(tmp_path / "file")
    assert repository.names() == []
    with (
        pytest.raises(RepositoryError, match="cannot write to model repository"),
        repository.publish("cats", 1),
    ):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from cpuserve.models.repository import Repository
with Repository(Path(sys.argv[1])).publish("cats", 1) as directory:
    (directory / "model.xml").write_text("half")
    print("inside", flush=True)
    signal.pause()
"""


def test_a_killed_publish_is_cleaned_and_a_live_one_is_not(repository: Repository, root: Path):
    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        return child

    with start() as dead, start() as alive:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert len(list(root.glob(".publish-*"))) == 2
        assert repository.names() == []
        with repository.publish("dogs", 1) as directory:
            put(directory)
        (left,) = root.glob(".publish-*/new")
        assert (left / "model.xml").read_text() == "half"
        alive.kill()
    with repository.publish("dogs", 2) as directory:
        put(directory)
    assert sorted(path.name for path in root.iterdir()) == ["dogs"]


def test_a_version_moved_aside_by_a_killed_replacement_comes_back(repository: Repository, root: Path):
    put(root / ".publish-0123456789ab" / "old" / "cats" / "1", "old")
    put(root / ".publish-0123456789ab" / "new", "new")
    with repository.publish("dogs", 1) as directory:
        put(directory)
    assert repository.names() == ["cats", "dogs"]
    assert repository.find("cats").xml.read_text() == "old"
    assert not list(root.glob(".publish-*"))
