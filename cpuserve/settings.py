"""The one table of settings that feeds the command line, the environment, settings files and the docs.

Precedence: command line > environment (``CPUSERVE_NAME``) > settings file (TOML) > default.
A model's own metadata (``decode``, ``precision``) stands between the settings file and the default.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpuserve.errors import UsageError

__all__ = ["TABLE", "Setting", "Settings", "load"]


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        name: key in settings files, and field of `Settings`.
        kind: type the text of an environment variable is turned into.
        default: value when nothing sets it; None means "decided on this machine".
        help: one sentence for ``--help`` and the docs, with the unit.
        choices: the words that are allowed, if only some are.
        minimum: the least number allowed.
        per_model: a settings file may also give it for one model, in ``[models.NAME]``.
    """

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    per_model: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "CPUSERVE_" + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as ``--help`` and the docs write it."""
        if self.default is None:
            return "auto"
        return str(self.default).lower() if self.kind is bool else str(self.default)

    def parse(self, value: object, where: str) -> Any:
        """Turn ``value`` into this setting's type.

        Raises:
            UsageError: the value is not of that type, not one of the words, or too small.
        """
        try:
            parsed = self._convert(value)
        except (TypeError, ValueError, KeyError):
            raise UsageError(f"{where}: {self.name} takes {_ARTICLE[self.kind]}, not {value!r}") from None
        if self.choices and parsed is not None and parsed not in self.choices:
            raise UsageError(f"{where}: {self.name} is one of {', '.join(self.choices)}, not {value!r}")
        numbers = parsed if isinstance(parsed, tuple) else (parsed,)
        if self.minimum is not None and any(n is not None and n < self.minimum for n in numbers):
            raise UsageError(f"{where}: {self.name} is at least {self.minimum:g}, not {value!r}")
        return parsed

    def _convert(self, value: object) -> Any:
        if self.name in _AUTO and value == "auto":
            return None
        if self.kind is bool:
            return _BOOLS[value.lower() if isinstance(value, str) else value]
        if self.kind is tuple:
            return _numbers(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
            raise TypeError
        return self.kind(value)


def _numbers(value: object) -> tuple[int, ...]:
    """``0,1`` from the command line or the environment; a number or a list of them from a file."""
    parts: list[Any] = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    )
    if not parts or any(isinstance(part, (bool, float)) for part in parts):
        raise TypeError
    return tuple(sorted({int(part) for part in parts}))


_ARTICLE = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    Path: "a path",
    bool: "true or false",
    tuple: "whole numbers with commas between",
}
_BOOLS: Mapping[object, bool] = {
    True: True,
    "true": True,
    "1": True,
    False: False,
    "false": False,
    "0": False,
}
_AUTO = frozenset({"workers", "threads", "cores_per_worker", "node_id", "mode"})

TABLE: tuple[Setting, ...] = (
    Setting("model_repository", Path, Path("ir_models"), "Directory of NAME/VERSION/model.xml."),
    Setting("host", str, "127.0.0.1", "Address to listen on; 0.0.0.0 for every interface."),
    Setting("port", int, 8000, "TCP port to listen on.", minimum=0),
    Setting(
        "workers",
        int,
        None,
        "Worker processes, each in a seat of its own cores; auto: one a core up to 4 cores, else one for 8.",
        minimum=1,
    ),
    Setting("cores_per_worker", int, None, "Physical cores of one seat; auto: see workers.", minimum=1),
    Setting(
        "node_id",
        tuple,
        None,
        "NUMA nodes to sit on, such as 0 or 0,1; auto: every node this process may use.",
        minimum=0,
    ),
    Setting(
        "use_logical_core",
        bool,
        False,
        "Count a thread for each logical CPU of a seat, not for each physical core.",
    ),
    Setting(
        "mode",
        str,
        None,
        "How seats are cut: latency is a seat for every 4 cores, throughput one a node; auto: see workers.",
        choices=("latency", "throughput"),
    ),
    Setting(
        "threads",
        int,
        None,
        "Serving threads of one worker; auto: one for each core of its seat.",
        minimum=1,
    ),
    Setting(
        "decode",
        str,
        "fast",
        "How JPEG is decoded: fast (scaled by the decoder) or exact (every pixel, then resized).",
        choices=("fast", "exact"),
        per_model=True,
    ),
    Setting(
        "precision",
        str,
        "auto",
        "INFERENCE_PRECISION_HINT: auto lets OpenVINO choose (bf16 where the CPU has it), f32 for parity.",
        choices=("auto", "f32", "bf16", "f16"),
        per_model=True,
    ),
    Setting(
        "model_version_policy",
        str,
        "latest",
        "Versions served: latest, latest:N, all, specific:1,2, or OpenVINO Model Server's JSON.",
        per_model=True,
    ),
    Setting(
        "file_system_poll_wait_seconds",
        float,
        1.0,
        "Seconds between two looks at the repository; 0 looks only when asked.",
        minimum=0,
    ),
    Setting(
        "max_batch",
        int,
        8,
        "Largest batch that is compiled (1, 2, 4, 8, ... up to it); requests may hold any number of images.",
        minimum=1,
        per_model=True,
    ),
    Setting("max_body_bytes", int, 32 << 20, "Largest request body, in bytes.", minimum=1),
    Setting("max_pixels", int, 32_000_000, "Largest picture, in pixels, read from its header.", minimum=1),
    Setting(
        "queue_size", int, 64, "Requests one worker lets wait for a thread; more are answered 503.", minimum=1
    ),
    Setting(
        "deadline_ms",
        float,
        10_000.0,
        "Milliseconds a request may take; clients may ask for less (X-Request-Timeout-Ms).",
        minimum=1,
    ),
    Setting(
        "rate_limit", float, 0.0, "Requests a second from one client (API key or address); 0: any.", minimum=0
    ),
    Setting("rate_burst", float, 20.0, "Requests one client may send at once under rate_limit.", minimum=1),
    Setting("keep_alive_s", float, 75.0, "Seconds an idle connection is kept open.", minimum=0),
    Setting("request_timeout_s", float, 30.0, "Seconds a client has to send one request.", minimum=0.1),
    Setting("shutdown_timeout_s", float, 30.0, "Seconds a stopping worker has to finish.", minimum=0),
    Setting(
        "log_level",
        str,
        "info",
        "What is logged.",
        choices=("debug", "info", "warning", "error"),
    ),
)

_BY_NAME = {setting.name: setting for setting in TABLE}


@dataclass(frozen=True)
class Settings:
    """The settings in force; fields are the rows of `TABLE`.

    Attributes:
        models: per-model settings from the settings file, by model name.
        origin: where each value came from ("--port", "CPUSERVE_PORT", "cpuserve.toml", "default").
    """

    model_repository: Path = Path("ir_models")
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int | None = None
    cores_per_worker: int | None = None
    node_id: tuple[int, ...] | None = None
    use_logical_core: bool = False
    mode: Literal["latency", "throughput"] | None = None
    threads: int | None = None
    decode: str = "fast"
    precision: str = "auto"
    model_version_policy: str = "latest"
    file_system_poll_wait_seconds: float = 1.0
    max_batch: int = 8
    max_body_bytes: int = 32 << 20
    max_pixels: int = 32_000_000
    queue_size: int = 64
    deadline_ms: float = 10_000.0
    rate_limit: float = 0.0
    rate_burst: float = 20.0
    keep_alive_s: float = 75.0
    request_timeout_s: float = 30.0
    shutdown_timeout_s: float = 30.0
    log_level: str = "info"
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def for_model(self, name: str, metadata: Mapping[str, Any]) -> Settings:
        """These settings as they hold for one model.

        Args:
            name: the model.
            metadata: what the model's own metadata asks for, by setting; empty values do not count.
        """
        changes: dict[str, Any] = {}
        origin = dict(self.origin)
        for setting in TABLE:
            if not setting.per_model:
                continue
            source = self.origin.get(setting.name, "default")
            if source.startswith(("--", "CPUSERVE_")):
                continue
            if setting.name in self.models.get(name, {}):
                changes[setting.name] = self.models[name][setting.name]
                origin[setting.name] = f"models.{name}"
            elif source == "default" and metadata.get(setting.name):
                changes[setting.name] = setting.parse(metadata[setting.name], f"metadata of {name}")
                origin[setting.name] = "metadata"
        return dataclasses.replace(self, **changes, origin=origin)


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settle every setting.

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
    for setting in TABLE:
        text = environ.get(setting.variable)
        if text is not None:
            values[setting.name] = setting.parse(text, setting.variable)
            origin[setting.name] = setting.variable
    for name, value in (flags or {}).items():
        if value is not None:
            setting = _BY_NAME[name]
            values[name], origin[name] = setting.parse(value, setting.flag), setting.flag
    return Settings(**values, models=models, origin=origin)


def _read_file(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
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
    allowed = {name for name, setting in _BY_NAME.items() if setting.per_model or not per_model}
    unknown = sorted(set(section) - allowed)
    if unknown:
        raise UsageError(f"{where}: unknown setting {unknown[0]!r}; there are {', '.join(sorted(allowed))}")
    return {name: _BY_NAME[name].parse(value, where) for name, value in section.items()}
