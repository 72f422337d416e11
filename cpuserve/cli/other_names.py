"""Other names for the settings of `cpuserve serve`, so that command lines written for other servers work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from cpuserve.cli.sections import SectionedOption
from cpuserve.errors import UsageError, install_command
from cpuserve.settings import SETTINGS

__all__ = ["other_name_options", "with_dashes", "without_other_names"]

# option: the setting, and its value where the option is a flag
_OTHER_NAMES: dict[str, tuple[str, str | None]] = {
    "ninstances": ("workers", None),
    "ncores_per_instance": ("cores_per_worker", None),
    "latency_mode": ("mode", "latency"),
    "throughput_mode": ("mode", "throughput"),
    "json": ("log_format", "json"),
    "quiet": ("log_level", "warning"),
}
_OVMS_NAMES = {setting.ovms: (name, None) for name, setting in SETTINGS.items() if setting.ovms}
_OVMS_NAMES["grpc_bind_address"] = ("host", None)  # HTTP and gRPC are answered at one address
_SAME = {**_OTHER_NAMES, **_OVMS_NAMES}
_NO_CHAT = "requests name no files and no addresses"
_NO_SEQUENCES = "there are no sequences of requests"
# option of OpenVINO Model Server: why it is not needed
_UNUSED = {
    "rest_workers": "the worker's threads follow its seat (--workers, --threads)",
    "grpc_workers": "every worker answers gRPC (--grpc-port)",
    "nireq": "a worker runs as many requests at once as it has --threads, and lets --queue-size wait",
    "metrics_enable": "metrics are always on, at /metrics",
    "metrics_list": "all metrics are always on, at /metrics",
    "log_path": "the log goes to standard error",
    "cpu_extension": "only operations that OpenVINO has can be run",
    "grpc_max_threads": "the threads of a worker answer gRPC too (--threads)",
    "grpc_memory_quota": "messages count against --max-unfinished-body-bytes",
    "grpc_channel_arguments": "gRPC has the limits of HTTP (--max-connections, --keep-alive-s)",
    "trace_path": "traces are at /v2/trace/requests",
    "allow_credentials": "pages of other origins (--allowed-origins) may send no cookies",
    "allowed_local_media_path": _NO_CHAT,
    "allowed_media_domains": _NO_CHAT,
    "custom_node_resources_cleaner_interval_seconds": "there are no custom nodes",
    "sequence_cleaner_poll_wait_minutes": _NO_SEQUENCES,
    "idle_sequence_cleanup": _NO_SEQUENCES,
    "max_sequence_number": _NO_SEQUENCES,
}
_STATEFUL = ("stateful", "low_latency_transformation")
_YES_OR_NO = {"metrics_enable", "allow_credentials", "idle_sequence_cleanup", *_STATEFUL}

_other = partial(click.option, cls=SectionedOption, section="Other names")
_ovms = partial(click.option, cls=SectionedOption, section="OpenVINO Model Server's names")


def with_dashes(option: str) -> str:
    """An option's name as click compares it, so that underscores work too."""
    return option.replace("_", "-")


def other_name_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the other names as options."""
    options = []
    for word, (name, fixed) in _SAME.items():
        option = _ovms if word in _OVMS_NAMES else _other
        text = f"The same as {SETTINGS[name].flag}{'' if fixed is None else f' {fixed}'}."
        value = {"metavar": "TEXT"} if fixed is None else {"is_flag": True}
        options.append(option("--" + with_dashes(word), word, help=text, **value))
    options.append(_ovms("--target-device", metavar="TEXT", help="CPU or AUTO; nothing else is accepted."))
    for word, why in _UNUSED.items():
        options.append(_ovms_option(word, f"Accepted but not used: {why}."))
    options += [_ovms_option(word, "Refused: stateful models are not served here.") for word in _STATEFUL]
    for add in reversed(options):
        command = add(command)
    return command


def _ovms_option(word: str, text: str) -> Callable[..., Any]:
    # --metrics_enable stands for --metrics_enable=true, as in OpenVINO Model Server
    flag: dict[str, Any] = {"is_flag": False, "flag_value": "true", "type": click.BOOL}
    value = flag if word in _YES_OR_NO else {"metavar": "TEXT"}
    return _ovms("--" + with_dashes(word), word, help=text, **value)


def without_other_names(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn the options of `cpuserve serve` into settings.

    Args:
        given: values by option; None or False where an option is not given.

    Returns:
        The settings, and a note for each option that is not used as it was meant.

    Raises:
        UsageError: two options contradict each other, or one asks for what cannot be done.
    """
    from cpuserve.models.ovms_config import batch_setting, check_device  # noqa: PLC0415

    notes = [
        f"--{with_dashes(word)} is not used: {why}"
        for word, why in _UNUSED.items()
        if given[word] is not None
    ]
    for word in _STATEFUL:
        if given[word]:
            raise UsageError(f"--{with_dashes(word)}: stateful models are not served here")
    if given["target_device"]:
        check_device(given["target_device"])
    if given["batch_size"]:
        found, note = batch_setting(given["batch_size"])
        given = {**given, "batch_size": found.get("max_batch")}
        notes += [note] if note else []
    flags = {name: given[name] for name in SETTINGS}
    typed = {name: f"{SETTINGS[name].flag} {value}" for name, value in flags.items()}
    for word, (name, fixed) in _SAME.items():
        if given[word] is None or given[word] is False:
            continue
        value = fixed or given[word]
        shown = f"--{with_dashes(word)}" + ("" if fixed else f" {value}")
        if word == "rest_port" and flags["port"] is not None:
            notes += _take_grpc_port(flags, typed)
        elif flags[name] not in (None, value):
            raise UsageError(f"{typed[name]} and {shown} ask for different things: leave one out")
        flags[name], typed[name] = value, shown
    for name in ("workers", "cores_per_worker"):
        if {flags["mode"], flags[name]}.isdisjoint({None, "auto"}):
            raise UsageError(
                f"{typed['mode']} and {typed[name]} both set the size of the seats: leave one out"
            )
    return flags, notes


def _take_grpc_port(flags: dict[str, Any], typed: Mapping[str, str]) -> list[str]:
    """Beside --rest-port, OpenVINO Model Server's --port is that of gRPC; a note where it cannot be served.

    Raises:
        UsageError: --grpc-port asks for another.
    """
    if importlib.util.find_spec("grpc") is None:
        return [f"{typed['port']} is not used beside --rest-port: gRPC needs {install_command('grpc')}"]
    if flags["grpc_port"] not in (None, flags["port"]):
        raise UsageError(
            f"{typed['port']} beside --rest-port and {typed['grpc_port']} ask for different things: "
            "leave one out"
        )
    flags["grpc_port"] = flags["port"]
    return []
