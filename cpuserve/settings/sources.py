"""Reads settings from the command line, the environment and a settings file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.settings.settings import SETTINGS, Settings

__all__ = ["load"]


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Find the value of every setting.

    Args:
        flags: values given on the command line, by setting; None values do not count.
        file: a TOML settings file.
        environ: the environment variables.

    Raises:
        UsageError: a value is wrong, or the file has a key that is no setting.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    models: dict[str, dict[str, Any]] = {}
    if file is not None:
        top, models = _read_file(file)
        for name, value in top.items():
            values[name], origin[name] = value, str(file)
    for name, setting in SETTINGS.items():
        text = environ.get(setting.variable)
        if text is not None:
            values[name], origin[name] = setting.parse(text, setting.variable), setting.variable
    for name, value in (flags or {}).items():
        if value is not None:
            setting = SETTINGS[name]
            values[name], origin[name] = setting.parse(value, setting.flag), setting.flag
    return Settings(**values, models=models, origin=origin)


def _read_file(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings of the whole server, and those of single models by model."""
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise UsageError(f"settings file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"settings file {file} is not TOML: {error}") from error
    sections = document.pop("models", {})
    models: dict[str, dict[str, Any]] = {}
    if not isinstance(sections, dict):
        raise UsageError(f"{file}: models is a table of tables, [models.NAME]")
    for model, section in sections.items():
        models[model] = _check_keys(section, f"{file}, models.{model}", per_model=True)
    return _check_keys(document, str(file), per_model=False), models


def _check_keys(section: Mapping[str, Any], where: str, *, per_model: bool) -> dict[str, Any]:
    allowed = {name for name, setting in SETTINGS.items() if setting.per_model or not per_model}
    unknown = sorted(set(section) - allowed)
    if unknown:
        raise UsageError(f"{where}: unknown setting {unknown[0]!r}; there are {', '.join(sorted(allowed))}")
    return {name: SETTINGS[name].parse(value, where) for name, value in section.items()}
