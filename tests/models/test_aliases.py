"""An alias names a model of the repository wherever its own name would."""

from __future__ import annotations

import pytest

from cpuserve.errors import RepositoryError, UnknownModel, UsageError
from cpuserve.models.aliases import read_aliases, write_aliases
from cpuserve.models.find_model import find_model, serving_only
from cpuserve.models.listing import list_models
from cpuserve.models.repository import Repository
from cpuserve.settings import Settings


@pytest.fixture
def root(tmp_path):
    for name, version in (("long_name", 1), ("long_name", 2), ("other", 1)):
        place = tmp_path / "models" / name / str(version)
        place.mkdir(parents=True)
        for ending in ("xml", "bin"):
            (place / f"model.{ending}").write_text("x")
    write_aliases(tmp_path / "models" / "long_name", ["short", "s"])
    return tmp_path / "models"


def test_what_is_written_is_read(tmp_path):
    assert read_aliases(tmp_path) == ()
    write_aliases(tmp_path, ["a", "b.c"])
    assert read_aliases(tmp_path) == ("a", "b.c")
    write_aliases(tmp_path, ["d"])
    assert read_aliases(tmp_path) == ("d",)
    assert [file.name for file in tmp_path.iterdir()] == ["aliases"]


@pytest.mark.parametrize("text", [b"../a\n/b\n.c\n-d\n \n", b"\xff\xfe\n", b"\0" * 9, b"a" * 129, b"a b"])
def test_lines_that_are_no_names_count_for_nothing(tmp_path, text):
    (tmp_path / "aliases").write_bytes(text + b"\r\nright\n")
    assert read_aliases(tmp_path) == ("right",)


def test_a_directory_in_the_place_of_the_file_is_none_and_cannot_be_written(tmp_path):
    (tmp_path / "aliases").mkdir()
    assert read_aliases(tmp_path) == ()
    with pytest.raises(RepositoryError, match=r"cannot write .*aliases"):
        write_aliases(tmp_path, ["a"])


def test_a_model_and_its_versions_are_found_by_an_alias(root):
    repository = Repository(root)
    for found in (repository.find("short"), find_model("s", root), find_model("short/2", root)):
        assert (found.name, found.version) == ("long_name", 2)
    assert find_model("short/1", root).xml == root / "long_name/1/model.xml"
    with pytest.raises(UnknownModel, match="model long_name has no version 7; versions: 1, 2"):
        repository.find("short", 7)
    with pytest.raises(UsageError, match="as in short/1, not 'x'"):
        find_model("short/x", root)


def test_a_models_own_name_wins_and_an_alias_of_two_is_of_none(root):
    write_aliases(root / "other", ["long_name", "s"])
    repository = Repository(root)
    assert repository.aliases() == {"short": "long_name"}
    assert repository.find("long_name").name == "long_name"
    with pytest.raises(UnknownModel, match=r"'s' .*an alias of long_name and other"):
        repository.find("s")


def test_the_file_is_no_version_that_would_be_reported_as_ignored(root):
    assert Repository(root).ignored() == {}


def test_a_path_is_not_hidden_by_an_alias_and_a_model_elsewhere_has_aliases_too(root, tmp_path):
    (tmp_path / "model.onnx").write_text("x")
    write_aliases(root / "other", ["model"])
    assert find_model(tmp_path / "model.onnx", root).xml == tmp_path / "model.onnx"
    assert Repository(tmp_path, {"mine": root / "long_name"}).find("short").name == "mine"


@pytest.mark.parametrize("word", ["short", "short/1"])
def test_a_model_is_served_by_its_alias_under_its_own_name(root, word):
    settings = serving_only(Settings(model_repository=root), [word])
    assert settings.only == ("long_name",)
    assert "model_path" not in settings.models.get("long_name", {})
    assert Repository.of(settings).find("long_name").version == 2
    policy = settings.for_model("long_name", {}).model_version_policy
    assert policy == ("specific:1" if "/" in word else "latest")


def test_settings_may_name_models_by_aliases(root):
    given = Settings(
        model_repository=root,
        model_name="s",
        deepstack="short",
        zmq_model="s",
        models={"short": {"max_batch": 3}},
    )
    settings = serving_only(given, [])
    assert (settings.model_name, settings.deepstack, settings.zmq_model) == ("long_name",) * 3
    assert settings.for_model("long_name", {}).max_batch == 3
    assert Repository.of(settings).names() == ["long_name"]


def test_settings_of_a_model_under_two_names_are_refused(root):
    for pair in ({"short": {}, "long_name": {}}, {"s": {}, "short": {}}):
        with pytest.raises(UsageError, match=r"\[models\.\w+\] and \[models\.long_name\] are the same model"):
            serving_only(Settings(model_repository=root, models=pair), [])


def test_a_path_with_a_name_is_no_alias(root):
    elsewhere = Settings(model_repository=root, models={"short": {"model_path": str(root / "other")}})
    assert serving_only(elsewhere, []) is not None
    assert Repository.of(serving_only(elsewhere, [])).find("short").xml == root / "other/1/model.xml"
    one = Settings(model_repository=root, model_name="short", model_path=str(root / "other"))
    assert Repository.of(serving_only(one, [])).names() == ["short"]


def test_the_list_of_models_has_the_aliases(root):
    rows = list_models(Repository(root), lambda _: {})
    assert {row["name"]: row["aliases"] for row in rows} == {"long_name": ["s", "short"], "other": []}
