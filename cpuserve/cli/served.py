"""The settings of a server that runs, from the words and variables it was started with; it asks nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from cpuserve.cli.ovms_words import with_ovms_config, without_ovms_words
from cpuserve.cli.serve import command, launcher_words
from cpuserve.errors import CpuserveError
from cpuserve.settings import Settings, load, with_new_names

__all__ = ["served_settings"]


def served_settings(pid: int, root: Path = Path("/")) -> Settings:
    """The settings of the server whose arbiter a process is; directories as they are for this process.

    Files it was started with are read as they are now.

    Raises:
        CpuserveError: the process may not be looked into, or was started in another way.
    """
    folder = root / f"proc/{pid}"
    try:
        words = (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")[:-1]
        pairs = (folder / "environ").read_text(encoding="utf-8", errors="replace").split("\0")
        home = (folder / "cwd").readlink()
    except OSError as error:
        raise CpuserveError(f"how process {pid} was started cannot be read: {error.strerror}") from error
    if "serve" not in words:
        raise CpuserveError(f"process {pid} was not started by cpuserve serve")
    environ = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    try:
        context = command.make_context("serve", words[words.index("serve") + 1 :], resilient_parsing=False)
    except click.ClickException as error:
        raise CpuserveError(f"the words of process {pid} are not understood: {error.message}") from error
    flags = dict(context.params)
    config = flags.pop("config") or environ.get("CPUSERVE_CONFIG")
    flags, _ = with_new_names(flags, lambda setting: setting.name)
    flags, _ = without_ovms_words(launcher_words(flags))
    settings = load(flags, file=home / config if config else None, environ=environ)
    settings = dataclasses.replace(settings, model_repository=home / settings.model_repository)
    settings, _ = with_ovms_config(settings)
    from cpuserve.tune.preset_choice import apply_presets  # noqa: PLC0415  # not for --help

    tuned = dataclasses.replace(settings, tuning_dir=home / settings.tuning_dir)
    return apply_presets(tuned, environ).settings
