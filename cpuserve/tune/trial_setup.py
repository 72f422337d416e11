"""What a trial starts with: the settings, environment, models and pictures of one point."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cpuserve.measuring.load_window import LoadWindow
from cpuserve.models.repository import Repository
from cpuserve.settings import SETTINGS

__all__ = ["RunningTrial", "TrialSetup", "repository_of"]

_CLEAN = frozenset(
    one.variable for setting in SETTINGS.values() for one in (setting, setting.former) if one
) | {"CPUSERVE_CONFIG"}


class RunningTrial(Protocol):
    """Processes with a point's settings, loaded and ready."""

    def window(self, number: int, seconds: float) -> LoadWindow:
        """Measure one window."""

    def facts(self) -> dict[str, Any]:
        """What is in force: placement, workers, properties, mapped runtimes."""


@dataclass(frozen=True)
class TrialSetup:
    """What is started for a trial.

    Attributes:
        models: names, each once.
        turns: names in the order in which requests go to them.
        repository: a directory with these models and no others.
        settings: by name.
        environ: variables of the workers, beside this process's.
        files: pictures.
    """

    models: Sequence[str]
    turns: Sequence[str]
    repository: Path
    settings: Mapping[str, Any]
    environ: Mapping[str, str]
    files: Sequence[Path] = field(default=())

    @property
    def flags(self) -> dict[str, str]:
        """The settings as text."""
        words = {**self.settings, "model_repository": self.repository, "preset": "off"}
        return {name: _text(value) for name, value in words.items()}

    def environment(self, *, with_settings: bool) -> dict[str, str]:
        """The environment of the processes, without this process's own settings of cpuserve."""
        clean = {name: text for name, text in os.environ.items() if name not in _CLEAN}
        flags = (
            {"CPUSERVE_" + name.upper(): text for name, text in self.flags.items()} if with_settings else {}
        )
        return {**clean, **self.environ, **flags}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def repository_of(models: Sequence[str], root: Path) -> Iterator[Path]:
    """A temporary repository with links to some of another's models.

    Raises:
        UnknownModel: one is not there.
    """
    repository = Repository(root)
    for model in models:
        repository.find(model)
    with tempfile.TemporaryDirectory(prefix="cpuserve-tune-") as folder:
        for model in models:
            (Path(folder) / model).symlink_to((root / model).absolute(), target_is_directory=True)
        yield Path(folder)
