"""The model that comes with the package, so that a server has something to serve from the start."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from cpuserve.models.repository import ModelFile, Repository
from cpuserve.settings import Settings

__all__ = [
    "EXAMPLE",
    "EXAMPLE_LICENCE",
    "EXAMPLE_PICTURE",
    "example_bytes",
    "publish_example",
    "with_example_model",
]

EXAMPLE, EXAMPLE_LICENCE = "digits", "Apache-2.0"
_FILES = Path(__file__).with_name("example") / "1"
EXAMPLE_PICTURE = _FILES.with_name("seven.png")
"""A picture for it, of a seven."""


def example_bytes() -> int:
    """The size of its files."""
    return sum(file.stat().st_size for file in _FILES.iterdir())


def publish_example(repository: Repository, name: str = EXAMPLE, *, replace: bool = False) -> ModelFile:
    """Copies it into a repository as version 1.

    Raises:
        RepositoryError: the repository cannot be written, or has the version.
    """
    with repository.publish(name, 1, replace=replace) as folder:
        for file in _FILES.iterdir():
            shutil.copyfile(file, folder / file.name)
    return repository.find(name, 1)


def with_example_model(settings: Settings) -> Settings | None:
    """The settings with the model that comes along beside the repository; None where it is not wanted.

    It is wanted where nobody said what to serve: no model and no repository is named, and the directory that
    is looked in by default holds no model. Elsewhere an empty repository is a mistake, such as a volume that
    is not mounted.
    """
    named = settings.only or settings.model_name or settings.config_path or settings.models
    if named or "model_repository" in settings.origin or Repository(settings.model_repository).names():
        return None
    return dataclasses.replace(settings, models={EXAMPLE: {"model_path": str(_FILES.parent)}})
