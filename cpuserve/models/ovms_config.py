"""Reads OpenVINO Model Server's ``config.json`` as settings of the models it lists."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.models.ov_properties import properties_of
from cpuserve.models.versions import VersionPolicy
from cpuserve.settings import SETTINGS, Settings

__all__ = [
    "OvmsConfig",
    "batch_setting",
    "check_device",
    "check_model_settings",
    "read_ovms_config",
    "with_models_of",
]

_NOT_SERVED = {
    "pipeline_config_list": "pipelines",
    "mediapipe_config_list": "MediaPipe graphs",
    "custom_node_library_config_list": "custom nodes",
    "custom_loader_config_list": "custom loaders",
}
_IMPOSSIBLE = {
    "graph_path": "MediaPipe graphs",
    "subconfig": "MediaPipe graphs",
    "stateful": "stateful models",
    "low_latency_transformation": "stateful models",
}
_NO_SEQUENCES = "is not used: there are no sequences of requests"
NIREQ = "nireq is not used: a worker runs as many requests at once as it has --threads, --queue-size wait"
DEVICES = ("CPU", "AUTO")


@dataclass(frozen=True)
class OvmsConfig:
    """The content of a ``config.json``.

    Attributes:
        models: settings by model name, as a settings file has them in ``[models.NAME]``.
        notes: keys that are read differently from what they say, one sentence each.
    """

    models: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]


def read_ovms_config(file: Path) -> OvmsConfig:
    """Read the file.

    Keys that mean nothing here, or nothing at all, are named in ``notes``.

    Raises:
        UsageError: it is not such a file, or asks for something that is not supported.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("model_config_list"), list):
        raise UsageError(f'{file} has no list "model_config_list"')
    notes: list[str] = []
    for key, value in document.items():
        if key in _NOT_SERVED:
            if value:
                raise UsageError(f"{file}: {key}: {_NOT_SERVED[key]} are not served here; remove the key")
        elif key == "monitoring":
            notes.append(f"{file}: monitoring: metrics are always on, at /metrics")
        elif key != "model_config_list":
            notes.append(f"{file}: unknown key {key!r} is not used")
    models: dict[str, Mapping[str, Any]] = {}
    for place, entry in enumerate(document["model_config_list"]):
        where = f"{file}, model {place}"
        name, settings, said = _model(entry, where, file.parent)
        if name in models:
            raise UsageError(f"{where}: the name {name!r} is taken by another model")
        models[name] = settings
        notes += said
    return OvmsConfig(models, tuple(notes))


def check_model_settings(settings: Settings) -> tuple[Settings, list[str]]:
    """Check the settings that say which models are served, and add those of the ``config.json``.

    Returns:
        The settings, and a note for each value that is not used as it was written.

    Raises:
        UsageError: the file is wrong, or the settings contradict each other.
    """
    if settings.model_path and not settings.model_name:
        raise UsageError("model_path needs model_name, the name to serve that model under")
    if settings.config_path and settings.model_name:
        raise UsageError("config_path and model_name both say which models are served: leave one out")
    notes: list[str] = []
    if settings.config_path:
        settings, said = with_models_of(settings)
        notes += said
    VersionPolicy.parse(settings.model_version_policy)
    return settings, notes + ([note] if (note := _plugin(settings.plugin_config)[1]) else [])


def with_models_of(settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """The settings with what their ``config_path`` says of models now, and its notes.

    A settings file's ``[models.NAME]`` wins over the ``config.json``.

    Raises:
        UsageError: it is not such a file, or asks for something that is not supported.
    """
    found = read_ovms_config(Path(settings.config_path))
    own = settings.models if settings.own_models is None else settings.own_models
    models = {name: {**found.models.get(name, {}), **own.get(name, {})} for name in {*found.models, *own}}
    return dataclasses.replace(settings, models=models, own_models=own), found.notes


def _model(entry: Any, where: str, folder: Path) -> tuple[str, dict[str, Any], list[str]]:
    config = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(config, dict):
        raise UsageError(f'{where} is not an object {{"config": {{...}}}}')
    notes = [f"{where}: unknown key {key!r} is not used" for key in entry if key != "config"]
    name, path = config.get("name"), config.get("base_path")
    for key, value in (("name", name), ("base_path", path)):
        if not isinstance(value, str) or not value:
            raise UsageError(f'{where} needs a text "{key}"')
    where = f"{where} ({name})"
    if "://" in str(path):
        raise UsageError(f"{where}: base_path {path!r}: models are read from local directories only")
    settings: dict[str, Any] = {"model_path": str(folder / str(path))}
    for key, value in config.items():
        if key in ("name", "base_path"):
            continue
        if key in _IMPOSSIBLE:
            if value:
                raise UsageError(f"{where}: {key}: {_IMPOSSIBLE[key]} are not served here")
            continue
        take = _KEYS.get(key)
        if take is None:
            notes.append(f"{where}: unknown key {key!r} is not used")
            continue
        try:
            found, note = take(value)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        settings |= found
        if note:
            notes.append(f"{where}: {note}")
    return str(name), settings, notes


Taken = tuple[dict[str, Any], str]


def _text_or_object(key: str) -> Callable[[Any], Taken]:
    def take(value: Any) -> Taken:
        if key == "layout" and value == "auto":
            return {}, "layout auto is not used: it follows from the model"
        if isinstance(value, dict):
            return {key: json.dumps(value)}, ""
        if not isinstance(value, str):
            raise UsageError(f"{key} is a text or an object, not {value!r}")
        return {key: value}, ""

    return take


def _number_or_list(key: str) -> Callable[[Any], Taken]:
    def take(value: Any) -> Taken:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
            raise UsageError(f"{key} is a number or a list of numbers, not {value!r}")
        return {key: str(value)}, ""

    return take


def batch_setting(value: object) -> Taken:
    """OVMS's ``batch_size`` as ``max_batch``, and what to say about it.

    Raises:
        UsageError: it is neither a whole number nor "auto".
    """
    if value in ("auto", 0, "0"):
        return {}, ""
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal():
        raise UsageError(f"batch_size is a whole number or auto, not {value!r}")
    note = f"batch_size {text} is read as max_batch {text}: requests may hold any number of rows"
    return {"max_batch": int(text)}, note


def check_device(value: object) -> None:
    """Whether ``target_device`` can be served.

    Raises:
        UsageError: it is not a CPU.
    """
    text = str(value).upper()
    parts = [part for part in text.replace("AUTO:", "").replace("MULTI:", "").split(",") if part]
    if not parts or not all(part in DEVICES for part in parts):
        raise UsageError(f"target_device {value!r}: models run on {' or '.join(DEVICES)} only")


def _device(value: Any) -> Taken:
    check_device(value)
    return {}, ""


def _plugin(value: Any) -> Taken:
    text = value if isinstance(value, str) else json.dumps(value)
    _, left = properties_of(text)
    note = f"plugin_config: {', '.join(left)} follow the worker's seat (--workers, --threads)" if left else ""
    return {"plugin_config": text}, note


def _policy(value: Any) -> Taken:
    text = value if isinstance(value, str) else json.dumps(value)
    VersionPolicy.parse(text)
    return {"model_version_policy": text}, ""


def _own(value: Any) -> Taken:
    rows = {name: setting for name, setting in SETTINGS.items() if setting.per_model}
    if not isinstance(value, dict) or not value.keys() <= rows.keys():
        raise UsageError(f'"cpuserve" is an object of these settings: {", ".join(rows)}')
    return {key: rows[key].parse(one, "cpuserve") for key, one in value.items()}, ""


def _unused(note: str) -> Callable[[Any], Taken]:
    return lambda _value: ({}, note)


_KEYS: dict[str, Callable[[Any], Taken]] = {
    "batch_size": batch_setting,
    "shape": _text_or_object("shape"),
    "layout": _text_or_object("layout"),
    "mean": _number_or_list("mean"),
    "scale": _number_or_list("scale"),
    "color_format": _text_or_object("color_format"),
    "nireq": _unused(NIREQ),
    "target_device": _device,
    "plugin_config": _plugin,
    "model_version_policy": _policy,
    "allow_cache": _unused("allow_cache is not used: compiled models are kept when --cache-dir is given"),
    "idle_sequence_cleanup": _unused(f"idle_sequence_cleanup {_NO_SEQUENCES}"),
    "max_sequence_number": _unused(f"max_sequence_number {_NO_SEQUENCES}"),
    "cpuserve": _own,
}
