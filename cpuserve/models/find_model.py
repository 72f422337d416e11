"""Finds the models that a user names: in the repository, or by the path of a file or directory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpuserve.errors import RepositoryError, UnknownModel, UsageError
from cpuserve.models.repository import ModelFile, Repository

if TYPE_CHECKING:
    from cpuserve.settings import Settings

__all__ = ["find_model", "serving_only"]

_LONGEST_PATH = 4095  # of Linux
_IN_REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:/([1-9][0-9]{0,17}))?")


def find_model(model: str | Path, repository: Path) -> ModelFile:
    """The version of a model that a user names.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` in the repository, where NAME may be an alias, or a path: a model
            file, the directory of a version, or a directory of versions. A string is looked for in the
            repository first.
        repository: the directory of models.

    Raises:
        UnknownModel: there is none.
        UsageError: what stands behind the name is no version.
        RepositoryError: its directory cannot be listed, or the path cannot be reached.
    """
    path, models = Path(model).resolve(), Repository(repository)
    named = None if isinstance(model, Path) else _IN_REPOSITORY.fullmatch(model)
    try:
        there = len(str(model)) <= _LONGEST_PATH and path.exists()
    except OSError as error:
        raise RepositoryError(f"{str(model)[:200]} cannot be read: {error.strerror}") from error
    if named and (models.versions(models.own_name(named[1])) or not there):
        return models.find(named[1], int(named[2]) if named[2] else None)
    if not there:
        name, slash, version = str(model).partition("/")
        if slash and models.versions(models.own_name(name)):
            raise UsageError(f"the version is a number, as in {name}/1, not {version[:40]!r}")
        raise UnknownModel(
            f"no model at {str(model)[:200]}: give NAME, NAME/VERSION or the path of a file or directory",
            name,
        )
    folder = path if path.is_dir() else path.parent
    inside = _IN_REPOSITORY.fullmatch(f"{folder.parent.name}/{folder.name}")
    own_name = path.name if path.is_dir() else path.stem
    name = inside[1] if inside else re.sub(r"^\W+|[^\w.-]", "", own_name, flags=re.ASCII) or "model"
    found = Repository(path.parent, {name: path}).find(name)
    return dataclasses.replace(found, version=int(inside[2])) if inside else found


def serving_only(settings: Settings, models: Sequence[str]) -> Settings:
    """The settings that serve the named models alone; without any, those that are given, by own names.

    Args:
        settings: the settings in force.
        models: each as for `find_model`. A version that is named is served alone, also when others come.

    Raises:
        UsageError: two models have the same name, or model_name or config_path say which are served, too.
        UnknownModel: there is no such model.
        RepositoryError: its directory cannot be listed.
    """
    settings = _by_own_names(settings)
    if not models:
        return settings
    if settings.model_name or settings.config_path:
        other = "model_name" if settings.model_name else "config_path"
        raise UsageError(f"{models[0]} and {other} both say which models are served: leave one out")
    sections = {name: dict(section) for name, section in settings.models.items()}
    only: list[str] = []
    for model in models:
        found = find_model(model, settings.model_repository)
        name = found.name
        if name in only:
            raise UsageError(f"two models to serve have the name {name}: leave one out")
        only.append(name)
        named = _IN_REPOSITORY.fullmatch(model)
        repository = Repository(settings.model_repository)
        if named is None or repository.own_name(named[1]) != name or not repository.versions(name):
            place = Path(model).absolute()  # not resolved: a link may point elsewhere later
            sections.setdefault(name, {})["model_path"] = str(place)
        elif named[2]:
            policy = f"specific:{found.version}"
            sections.setdefault(name, {})["model_version_policy"] = policy
    return dataclasses.replace(settings, models=sections, only=tuple(only))


def _by_own_names(settings: Settings) -> Settings:
    """The settings, with models of the repository named by their own names wherever an alias stands.

    Raises:
        UsageError: a model has settings under two names.
    """
    if settings.config_path:  # its models are named there, and none of the repository is served
        return settings
    repository = Repository(settings.model_repository)
    said = {settings.deepstack, settings.zmq_model, settings.model_name, *settings.models}
    own = {word: name for word in said - {""} if (name := repository.own_name(word)) != word}
    if not own:
        return settings
    sections: dict[str, Mapping[str, Any]] = {}
    for word, section in settings.models.items():
        name = word if section.get("model_path") else own.get(word, word)
        if name in sections or (name != word and name in settings.models):
            raise UsageError(f"[models.{word}] and [models.{name}] are the same model: leave one out")
        sections[name] = section
    model_name = settings.model_name
    return dataclasses.replace(
        settings,
        models=sections,
        model_name=model_name if settings.model_path else own.get(model_name, model_name),
        deepstack=own.get(settings.deepstack, settings.deepstack),
        zmq_model=own.get(settings.zmq_model, settings.zmq_model),
    )
