"""Finds the models that a user names: in the repository, or by the path of a file or directory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpuserve.errors import UnknownModel, UsageError
from cpuserve.models.repository import ModelFile, Repository

if TYPE_CHECKING:
    from cpuserve.settings import Settings

__all__ = ["find_model", "serving_only"]

_LONGEST_PATH = 4095  # of Linux
_IN_REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:/([1-9][0-9]{0,17}))?")


def find_model(model: str | Path, repository: Path) -> ModelFile:
    """The version of a model that a user names.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` in the repository, or a path: a model file, the directory of a
            version, or a directory of versions. A string is looked for in the repository first.
        repository: the directory of models.

    Raises:
        UnknownModel: there is none.
        UsageError: what stands behind the name is no version.
        RepositoryError: its directory cannot be listed.
    """
    path, models = Path(model).resolve(), Repository(repository)
    named = None if isinstance(model, Path) else _IN_REPOSITORY.fullmatch(model)
    there = len(str(model)) <= _LONGEST_PATH and path.exists()
    if named and (models.versions(named[1]) or not there):
        return models.find(named[1], int(named[2]) if named[2] else None)
    if not there:
        name, slash, version = str(model).partition("/")
        if slash and models.versions(name):
            raise UsageError(f"the version is a number, as in {name}/1, not {version[:40]!r}")
        raise UnknownModel(
            f"no model at {str(model)[:200]}: give NAME, NAME/VERSION or the path of a file or directory"
        )
    folder = path if path.is_dir() else path.parent
    inside = _IN_REPOSITORY.fullmatch(f"{folder.parent.name}/{folder.name}")
    own_name = path.name if path.is_dir() else path.stem
    name = inside[1] if inside else re.sub(r"^\W+|[^\w.-]", "", own_name, flags=re.ASCII) or "model"
    found = Repository(path.parent, {name: path}).find(name)
    return dataclasses.replace(found, version=int(inside[2])) if inside else found


def serving_only(settings: Settings, models: Sequence[str]) -> Settings:
    """The settings that serve the named models alone; without any, those that are given.

    Args:
        settings: the settings in force.
        models: each as for `find_model`. A version that is named is served alone, also when others come.

    Raises:
        UsageError: two models have the same name, or model_name or config_path say which are served, too.
        UnknownModel: there is no such model.
        RepositoryError: its directory cannot be listed.
    """
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
        if named is None or named[1] != name or not Repository(settings.model_repository).versions(name):
            sections.setdefault(name, {})["model_path"] = str(Path(model).resolve())
        elif named[2]:
            policy = f"specific:{found.version}"
            sections.setdefault(name, {})["model_version_policy"] = policy
    return dataclasses.replace(settings, models=sections, only=tuple(only))
