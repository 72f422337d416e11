"""Options that several commands share, and the options made from settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from cpuserve.cli.foreign_words import SuggestingChoice
from cpuserve.cli.local_path import LocalPath
from cpuserve.cli.sections import SectionedOption
from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS, Setting, Settings, load, with_new_names

__all__ = [
    "OWN_SERVER",
    "json_option",
    "model_and_version",
    "pictures_option",
    "print_notes",
    "report_options",
    "setting_options",
    "settings_from",
]

OWN_SERVER = (
    *("model_repository", "workers", "cores_per_worker", "threads", "decode", "precision", "max_batch"),
    *("max_queue_delay_us", "streams", "inference_threads", "plugin_config"),
)
"""Settings for a server that a command starts in order to measure it."""

pictures_option = click.option(
    "--images",
    type=LocalPath(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of pictures to send in turn; without it one picture is generated.",
)
"""``--images`` of commands that measure."""


def setting_options(
    *names: str, defaults: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds ``--config`` and an option for each setting; values arrive as text, or None when not given.

    Args:
        names: of the settings.
        defaults: of those whose default the command itself decides, for the help; the variable is not read.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        former = [setting for name in names if (setting := SETTINGS[name].former)]
        if former:
            command = _under_new_names(command)
        for setting in former:
            command = click.option(setting.flag, setting.name, hidden=True)(command)
        for name in reversed(names):
            command = _option(SETTINGS[name], (defaults or {}).get(name))(command)
        return click.option(
            "--config",
            type=LocalPath(dir_okay=False, path_type=Path),
            envvar="CPUSERVE_CONFIG",
            help="Settings file (TOML). Options and environment variables win over it.",
        )(command)

    return decorate


def _under_new_names(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, called with the new names of flags that were given by a former one, after a note."""

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        flags, notes = with_new_names(given, lambda setting: setting.name, lambda setting: setting.flag)
        print_notes(notes)
        return command(**flags)

    return call


def _option(
    setting: Setting, own_default: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = f"env {setting.variable}; default {setting.shown_default}"
    text = f"{setting.help} [{default if own_default is None else f'default {own_default}'}]"
    if setting.kind is bool:
        flag = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.option(
            flag, setting.name, cls=SectionedOption, section=setting.group, default=None, help=text
        )
    choices = [*setting.choices, "auto"] if setting.default is None else setting.choices
    return click.option(
        setting.flag,
        setting.name,
        cls=SectionedOption,
        section=setting.group,
        type=SuggestingChoice(choices, case_sensitive=False) if setting.choices else str,
        metavar=None if setting.choices else setting.metavar or _METAVAR[setting.kind],
        help=text,
    )


_METAVAR = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH", tuple: "INT,..."}


def json_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--json`` (``as_json``) with its help."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--json`` (``as_json``) and ``--quiet`` for commands that publish a model with a report."""
    command = click.option("--quiet", is_flag=True, help="Print errors only.")(command)
    return json_option("Print the report as one JSON object.")(command)


def settings_from(config: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings of a command that was called with ``flags``; prints notes on former names.

    Raises:
        UsageError: a value is wrong.
    """
    settings = load(flags, file=config)
    print_notes(settings.notes)
    return settings


def print_notes(notes: Iterable[str]) -> None:
    """Prints notes on the command line to stderr."""
    for note in notes:
        click.echo(f"cpuserve: note: {note}", err=True)


def model_and_version(text: str) -> tuple[str, int | None]:
    """Splits ``NAME`` or ``NAME/VERSION``; the version is None if it is not given.

    Raises:
        UsageError: the version is not a number.
    """
    name, slash, version = text.partition("/")
    if slash and not (version.isascii() and version.isdigit() and len(version) <= 18):
        raise UsageError(f"the version is a number, as in digits/1, not {version[:40]!r}")
    return name, int(version) if slash else None
