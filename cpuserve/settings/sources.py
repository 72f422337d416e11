"""Reads settings from the command line, the environment and a settings file."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.settings.setting import Setting
from cpuserve.settings.settings import SETTINGS, Settings

__all__ = ["load", "with_new_names"]

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_REMOVED = "0.2"  # removes the former names of settings


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

    A variable is not looked at where the command line gives its setting. Kubernetes sets ``CPUSERVE_PORT`` to
    ``tcp://...`` in pods beside a Service named cpuserve: such a value is left out with a note.

    Raises:
        UsageError: a value is wrong, or the file has a key that is no setting.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    models: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    if file is not None:
        top, models, notes = _read_file(file)
        for name, value in top.items():
            values[name], origin[name] = value, str(file)
    variables, more = with_new_names(environ, lambda setting: setting.variable)
    for name, setting in SETTINGS.items():
        text = variables.get(setting.variable)
        if text is None or name in given:
            continue
        if name.endswith("port") and _SERVICE_LINK.match(text):
            more.append(
                f"{setting.variable}={text} is not used: Kubernetes sets it for a Service of that name"
            )
            continue
        values[name], origin[name] = setting.parse(text, setting.variable), setting.variable
    for name, value in given.items():
        setting = SETTINGS[name]
        values[name], origin[name] = setting.parse(value, setting.flag), setting.flag
    return Settings(**values, models=models, origin=origin, notes=(*notes, *more))


def with_new_names(
    given: Mapping[str, Any], key: Callable[[Setting], str], shown: Callable[[Setting], str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Turn former names of settings into their new ones.

    Args:
        given: values by key; None values do not count.
        key: the key of a setting.
        shown: the key as the user writes it, if that differs.

    Returns:
        The values, and a note for each former name.

    Raises:
        UsageError: a setting is given under both of its names.
    """
    shown = shown or key
    values, notes = dict(given), []
    for setting in SETTINGS.values():
        former = setting.former
        if former is None:
            continue
        value = values.pop(key(former), None)
        if value is None:
            continue
        if values.get(key(setting)) is not None:
            raise UsageError(f"{shown(former)} is the former name of {shown(setting)}: leave it out")
        values[key(setting)] = value
        notes.append(f"{shown(former)} is called {shown(setting)} now and goes in version {_REMOVED}")
    return values, notes


def _read_file(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[str]]:
    """The settings of the whole server, those of single models by model, and notes on former names."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
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
    document, notes = with_new_names(document, lambda setting: setting.name)
    return _check_keys(document, str(file), per_model=False), models, [f"{file}: {note}" for note in notes]


def _check_keys(section: Mapping[str, Any], where: str, *, per_model: bool) -> dict[str, Any]:
    allowed = {name for name, setting in SETTINGS.items() if setting.per_model or not per_model}
    unknown = sorted(set(section) - allowed)
    if unknown:
        alike = difflib.get_close_matches(unknown[0], allowed, cutoff=0.5)
        hint = f"did you mean {' or '.join(alike)}?" if alike else "`cpuserve serve --help` lists all"
        if unknown[0] in SETTINGS:
            hint = "it is one of the whole server, not of a model"
        raise UsageError(f"{where}: unknown setting {unknown[0]!r}; {hint}")
    return {name: SETTINGS[name].parse(value, where) for name, value in section.items()}
