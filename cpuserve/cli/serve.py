"""`cpuserve serve`: starts the server and stays until it is stopped."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from cpuserve.cli.options import setting_options, settings_from
from cpuserve.cli.ovms_words import either_spelling, ovms_options, with_ovms_config, without_ovms_words
from cpuserve.cli.sections import SectionedCommand, SectionedOption
from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS

__all__ = ["command", "launcher_words"]


_same_as = partial(click.option, cls=SectionedOption, section="Other names")


@click.command("serve", cls=SectionedCommand, context_settings={"token_normalize_func": either_spelling})
@setting_options(*SETTINGS)
@_same_as("--ninstances", metavar="INT", help="The same as --workers.")
@_same_as("--ncores-per-instance", metavar="INT", help="The same as --cores-per-worker.")
@_same_as("--latency-mode", is_flag=True, help="The same as --mode latency.")
@_same_as("--throughput-mode", is_flag=True, help="The same as --mode throughput.")
@_same_as("--json", "as_json", is_flag=True, help="The same as --log-format json.")
@_same_as("--quiet", is_flag=True, help="The same as --log-level warning.")
@ovms_options
def command(config: Path | None, **flags: Any) -> None:
    """Serve every model of the repository over HTTP.

    One worker process a seat: a set of CPUs inside one NUMA node that no other worker uses. SIGTERM or Ctrl-C
    finishes what was begun and ends. Flags may be written with underscores, as OpenVINO Model Server's are.
    The preset that cpuserve tune wrote for this machine gives the settings that nothing else gives; the log
    says which.

    \b
    Example:
      cpuserve serve --workers 2 --port 8000
      cpuserve serve --ninstances 4 --ncores-per-instance 8 --node-id 0,1
      cpuserve serve --model_name resnet --model_path /mnt/models --rest_port 8080
      cpuserve serve --preset off
      curl --data-binary @photo.jpg http://127.0.0.1:8000/predictions/digits
    """
    from cpuserve.machine.launch import relaunch  # noqa: PLC0415
    from cpuserve.server.gunicorn_server import Server  # noqa: PLC0415  # gunicorn only when it is needed
    from cpuserve.tune.preset_choice import apply_presets  # noqa: PLC0415

    words, notes = without_ovms_words(launcher_words(flags))
    settings, more = with_ovms_config(settings_from(config, words))
    applied = apply_presets(settings)
    relaunch(applied.settings.allocator, applied.environ)
    for note in (*notes, *more):
        click.echo(f"cpuserve: note: {note}", err=True)
    Server(applied.settings, applied.document, applied.said).run()


def launcher_words(given: dict[str, Any]) -> dict[str, Any]:
    """Turn the words that other launchers use into settings.

    Raises:
        UsageError: two words on the command line ask for different things.
    """
    flags = {name: value for name, value in given.items() if name not in _SAME}
    # a setting to the words that asked for it, as they were typed
    said = {name: f"--{name.replace('_', '-')} {value}" for name, value in flags.items() if value is not None}
    for word, (name, fixed) in _SAME.items():
        if not given[word]:
            continue
        value = fixed or given[word]
        typed = "--" + word.removeprefix("as_").replace("_", "-") + ("" if fixed else f" {value}")
        if flags[name] not in (None, value):
            raise UsageError(f"{said[name]} and {typed} ask for different things: leave one out")
        flags[name], said[name] = value, typed
    for name in ("workers", "cores_per_worker"):
        if {flags["mode"], flags[name]}.isdisjoint({None, "auto"}):
            raise UsageError(
                f"{said['mode']} and {said[name]} both decide how the seats are cut: leave one out"
            )
    return flags


_SAME: dict[str, tuple[str, str | None]] = {
    "ninstances": ("workers", None),
    "ncores_per_instance": ("cores_per_worker", None),
    "latency_mode": ("mode", "latency"),
    "throughput_mode": ("mode", "throughput"),
    "as_json": ("log_format", "json"),
    "quiet": ("log_level", "warning"),
}
