"""Options made from the table of settings, so that flag, variable, default and help are said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cpuserve.settings import TABLE, Settings, load

__all__ = ["setting_options", "settings_from"]

_TABLE = {setting.name: setting for setting in TABLE}


def setting_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds ``--config`` and an option for each setting named; values arrive as text, None when not given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            setting = _TABLE[name]
            default = "auto" if setting.default is None else setting.default
            command = click.option(
                setting.flag,
                name,
                type=click.Choice(setting.choices) if setting.choices else str,
                metavar=None if setting.choices else setting.kind.__name__.upper().replace("STR", "TEXT"),
                help=f"{setting.help} [env {setting.variable}; default {default}]",
            )(command)
        return click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="CPUSERVE_CONFIG",
            help="Settings file (TOML); the command line and the environment win over it.",
        )(command)

    return decorate


def settings_from(config: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings in force for a command that was given ``flags``.

    Raises:
        UsageError: a value is wrong.
    """
    return load(flags, file=config)
