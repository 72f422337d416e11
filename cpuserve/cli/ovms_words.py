"""OpenVINO Model Server's flags on `cpuserve serve`: those that are settings, and notes on the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from cpuserve.cli.sections import SectionedOption
from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS, Settings

__all__ = ["either_spelling", "ovms_options", "with_ovms_config", "without_ovms_words"]

# flag: the setting it is another name of
_SAME = {setting.ovms: name for name, setting in SETTINGS.items() if setting.ovms}
# flag: why it is not needed
_UNUSED = {
    "rest_workers": "the worker's threads follow its seat (--workers, --threads)",
    "grpc_workers": "gRPC is not served",
    "grpc_bind_address": "gRPC is not served",
    "nireq": "a worker runs as many requests at once as it has --threads, and lets --queue-size wait",
    "metrics_enable": "metrics are always on, at /metrics",
    "metrics_list": "all metrics are always on, at /metrics",
    "log_path": "the log goes to standard error",
    "cpu_extension": "only operations that OpenVINO has can be run",
}


def either_spelling(word: str) -> str:
    """Option names as click compares them: underscores are dashes."""
    return word.replace("_", "-")


def ovms_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags of OpenVINO Model Server that are not settings by the same name."""
    for word, why in reversed(_UNUSED.items()):
        flag = "--" + either_spelling(word)
        text = f"Accepted but not used: {why}."
        if word == "metrics_enable":
            command = _option(flag, word, is_flag=True, help=text)(command)
        else:
            command = _option(flag, word, metavar="TEXT", help=text)(command)
    command = _option("--target-device", metavar="TEXT", help="CPU or AUTO; nothing else is accepted.")(
        command
    )
    for word, name in reversed(_SAME.items()):
        text = f"The same as --{either_spelling(name)}."
        command = _option("--" + either_spelling(word), word, metavar="TEXT", help=text)(command)
    return command


_option = partial(click.option, cls=SectionedOption, section="OpenVINO Model Server's names")


def without_ovms_words(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn the words into settings.

    Returns:
        The settings' flags, and a sentence for each word that is read otherwise than it was meant.

    Raises:
        UsageError: two words ask for different things, or one for what cannot be done.
    """
    from cpuserve.models.ovms_config import batch_setting, check_device  # noqa: PLC0415

    flags = {name: value for name, value in given.items() if name not in {*_SAME, *_UNUSED, "target_device"}}
    notes = [
        f"--{either_spelling(word)} is not used: {why}" for word, why in _UNUSED.items() if given.get(word)
    ]
    if given.get("target_device"):
        check_device(given["target_device"])
    if given.get("batch_size"):
        found, note = batch_setting(given["batch_size"])
        given = {**given, "batch_size": found.get("max_batch")}
        notes += [note] if note else []
    for word, name in _SAME.items():
        value = given.get(word)
        if value is None:
            continue
        if name == "port" and flags["port"] is not None:
            notes.append(f"--port {flags['port']} is not used beside --rest-port: gRPC is not served")
        elif flags[name] not in (None, value):
            raise UsageError(
                f"--{either_spelling(name)} {flags[name]} and --{either_spelling(word)} {value} ask for "
                "different things: leave one out"
            )
        flags[name] = value
    return flags, notes


def with_ovms_config(settings: Settings) -> tuple[Settings, list[str]]:
    """Add what ``config_path`` says, and judge what is said of models.

    Raises:
        UsageError: the file is wrong, or the settings contradict each other.
    """
    from cpuserve.models.ov_properties import properties_of  # noqa: PLC0415
    from cpuserve.models.ovms_config import with_models_of  # noqa: PLC0415
    from cpuserve.models.versions import VersionPolicy  # noqa: PLC0415

    if settings.model_path and not settings.model_name:
        raise UsageError("model_path says where a model lies; model_name must say what it is called")
    if settings.config_path and settings.model_name:
        raise UsageError("config_path and model_name both say which models are served: leave one out")
    notes: list[str] = []
    if settings.config_path:
        settings, said = with_models_of(settings)
        notes += said
    VersionPolicy.parse(settings.model_version_policy)
    _, left = properties_of(settings.plugin_config)
    if left:
        notes.append(f"plugin_config: {', '.join(left)} follow the worker's seat (--workers, --threads)")
    return settings, notes
