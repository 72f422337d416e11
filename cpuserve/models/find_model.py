"""Finds the model that a user names: in the repository, or by the path of a file or directory."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from cpuserve.errors import UnknownModel
from cpuserve.models.repository import ModelFile, Repository

__all__ = ["find_model"]

_IN_REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:/([1-9][0-9]{0,17}))?")


def find_model(model: str | Path, repository: Path) -> ModelFile:
    """The version of a model that a user names.

    Args:
        model: ``NAME`` or ``NAME/VERSION`` in the repository, or a path: a model file, the directory of a
            version, or a directory of versions. A string is looked for in the repository first.
        repository: the directory of models.

    Raises:
        UnknownModel: there is none.
        RepositoryError: its directory cannot be listed.
    """
    path, models = Path(model).resolve(), Repository(repository)
    named = None if isinstance(model, Path) else _IN_REPOSITORY.fullmatch(model)
    if named and (models.versions(named[1]) or not path.exists()):
        return models.find(named[1], int(named[2]) if named[2] else None)
    if not path.exists():
        raise UnknownModel(f"no model at {model}: give NAME, NAME/VERSION or the path of a file or directory")
    folder = path if path.is_dir() else path.parent
    inside = _IN_REPOSITORY.fullmatch(f"{folder.parent.name}/{folder.name}")
    own_name = path.name if path.is_dir() else path.stem
    name = inside[1] if inside else re.sub(r"^\W+|[^\w.-]", "", own_name, flags=re.ASCII) or "model"
    found = Repository(path.parent, {name: path}).find(name)
    return dataclasses.replace(found, version=int(inside[2])) if inside else found
