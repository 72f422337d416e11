"""A model is named by its place in the repository or by a path."""

from __future__ import annotations

import shutil

import pytest

from cpuserve.errors import UnknownModel, UsageError
from cpuserve.models.find_model import find_model, serving_only
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings


@pytest.fixture
def root(tmp_path):
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        place = tmp_path / "models" / name / str(version)
        place.mkdir(parents=True)
        for ending in ("xml", "bin"):
            (place / f"model.{ending}").write_text("x")
    (tmp_path / "other.onnx").write_text("x")
    return tmp_path / "models"


def served(settings):
    repository = Repository.of(settings)
    return {name: repository.find(name).xml for name in repository.names()}


def test_without_names_all_are_served(root):
    settings = Settings(model_repository=root)
    assert serving_only(settings, []) is settings
    assert [*served(settings)] == ["a", "b"]


def test_names_and_paths_are_served_alone(root):
    settings = serving_only(Settings(model_repository=root), ["b", str(root.parent / "other.onnx")])
    assert served(settings) == {"b": root / "b/1/model.xml", "other": root.parent / "other.onnx"}
    again = Settings.from_json(settings.to_json())
    assert (again.only, again.models) == (settings.only, settings.models)


def test_a_version_that_is_named_is_served_alone(root):
    settings = serving_only(Settings(model_repository=root), ["a/1"])
    assert settings.for_model("a", {}).model_version_policy == "specific:1"
    assert settings.for_model("b", {}).model_version_policy == "latest"


@pytest.mark.parametrize("place", ["a", "a/2", "a/2/model.xml"])
def test_a_path_into_a_repository_keeps_its_name(root, place):
    found = find_model(root / place, root.parent / "none")
    assert (found.name, found.version, found.xml) == ("a", 2, root / "a/2/model.xml")
    settings = serving_only(Settings(model_repository=root.parent / "none"), [str(root / place)])
    assert served(settings) == {"a": root / "a/2/model.xml"}


def test_a_link_is_served_wherever_it_points_later(root, tmp_path, monkeypatch):
    link, other = tmp_path / "current", tmp_path / "other" / "b"
    link.symlink_to(root / "b")
    shutil.copytree(root / "b", other)
    (other / "1").rename(other / "7")
    monkeypatch.chdir(tmp_path)
    settings = serving_only(Settings(model_repository=root), ["./current"])
    monkeypatch.chdir(root)
    link.unlink()
    link.symlink_to(other)
    assert 7 in Repository.of(settings).versions("b")


def test_what_is_not_there_is_refused_with_what_is(root):
    settings = Settings(model_repository=root)
    with pytest.raises(UnknownModel, match=r"no model 'c'.*models: a, b"):
        serving_only(settings, ["c"])
    with pytest.raises(UnknownModel, match=r"no model at nowhere/model\.xml"):
        serving_only(settings, ["nowhere/model.xml"])


def test_contradictions_are_refused(root):
    settings = Settings(model_repository=root)
    with pytest.raises(UsageError, match="two models to serve have the name a"):
        serving_only(settings, ["a", "a/1"])
    with pytest.raises(UsageError, match="model_name both say"):
        serving_only(Settings(model_repository=root, model_name="a"), ["b"])
    with pytest.raises(UsageError, match="config_path both say"):
        serving_only(Settings(model_repository=root, config_path="config.json"), ["b"])
