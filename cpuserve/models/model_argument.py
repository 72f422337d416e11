"""A model as it is named on a command line: one of the repository, or the path of files that lie anywhere."""

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

_IN_REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:/([1-9][0-9]{0,17}))?")


def find_model(model: str | Path, root: Path) -> ModelFile:
    """The version of a model that was asked for.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` in the repository, or a path: a model file, the directory of a
            version, or a directory of versions. A string is looked for in the repository first.
        root: the repository.

    Raises:
        UnknownModel: there is none.
        RepositoryError: its directory cannot be listed.
    """
    path, models = Path(model).resolve(), Repository(root)
    named = None if isinstance(model, Path) else _IN_REPOSITORY.fullmatch(model)
    if named and (models.versions(named[1]) or not path.exists()):
        return models.find(named[1], int(named[2]) if named[2] else None)
    if not path.exists():
        raise UnknownModel(f"no model at {model}: give NAME, NAME/VERSION or the path of a file or directory")
    name, version = _name_of(path)
    found = Repository(path.parent, {name: path}).find(name)
    return dataclasses.replace(found, version=version) if version else found


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


def _name_of(path: Path) -> tuple[str, int]:
    """Name and version that a path tells; the version is 0 where it tells none."""
    folder = path if path.is_dir() else path.parent
    inside = _IN_REPOSITORY.fullmatch(f"{folder.parent.name}/{folder.name}")
    if inside and inside[2]:
        return inside[1], int(inside[2])
    own_name = path.name if path.is_dir() else path.stem
    return re.sub(r"^\W+|[^\w.-]", "", own_name, flags=re.ASCII) or "model", 0
