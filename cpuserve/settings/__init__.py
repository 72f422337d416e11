"""The one table of settings that feeds the command line, the environment, settings files and the docs.

Precedence: command line > environment (``CPUSERVE_NAME``) > settings file (TOML) > tuned profile > a model's
own metadata (``decode``, ``precision``) > default.
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
from cpuserve.settings.setting import Setting
from cpuserve.settings.table import TABLE

__all__ = ["TABLE", "Setting", "Settings", "load"]

_BY_NAME = {setting.name: setting for setting in TABLE}


@dataclass(frozen=True)
class Settings:
    """The settings in force; fields are the rows of `TABLE`.

    Attributes:
        models: per-model settings from the settings file and the ``config.json``, by model name.
        own_models: those of the settings file alone, once a ``config.json`` has been read.
        tuned: per-model settings from tuned profiles, by model name.
        origin: where each value came from ("--port", "CPUSERVE_PORT", "cpuserve.toml", "default").
    """

    model_repository: Path = Path("ir_models")
    model_name: str = ""
    model_path: str = ""
    config_path: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int | None = None
    cores_per_worker: int | None = None
    node_id: tuple[int, ...] | None = None
    use_logical_core: bool = False
    mode: Literal["latency", "throughput"] | None = None
    threads: int | None = None
    streams: int | None = None
    inference_threads: int | None = None
    share_weights: bool | None = None
    enable_cpu_pinning: bool | None = None
    scheduling_core_type: str | None = None
    allocator: Literal["none", "auto", "jemalloc", "tcmalloc"] = "none"
    profile: str = "auto"
    tuning_dir: Path = Path("tuning")
    decode: str = "fast"
    precision: str = "auto"
    allow_unvalidated: bool = False
    model_version_policy: str = "latest"
    file_system_poll_wait_seconds: float = 1.0
    removal_grace_s: float = 10.0
    strict_readiness: bool = False
    plugin_config: str = ""
    cache_dir: str = ""
    enable_mmap: bool = False
    check_models_in_child: bool = True
    model_check_timeout_s: float = 300.0
    shape: str = ""
    layout: str = ""
    mean: str = ""
    scale: str = ""
    color_format: str = ""
    max_batch: int | None = None
    max_queue_delay_us: float = 0.0
    result_cache_bytes: int = 0
    allow_callables: bool = False
    deepdetect_data_root: str = ""
    max_body_bytes: int = 32 << 20
    max_unfinished_body_bytes: int = 256 << 20
    max_json_elements: int = 2_000_000
    max_answer_bytes: int = 256 << 20
    max_pictures: int = 1024
    max_pixels: int = 32_000_000
    max_jpeg_scan_pixels: int = 640_000_000
    guarded_decoding: Literal["none", "rare", "all"] = "rare"
    decode_timeout_ms: float = 5_000.0
    queue_size: int = 64
    max_connections: int = 1000
    priority_from: Literal["anyone", "keys", "nobody"] = "keys"
    deadline_ms: float = 10_000.0
    rate_limit: float = 0.0
    rate_burst: float = 20.0
    api_key_file: str = ""
    api_key_for_metrics: bool = False
    otel_endpoint: str = ""
    allowed_origins: str = ""
    allowed_methods: str = "GET,POST"
    allowed_headers: str = (
        "Authorization,Content-Type,Inference-Header-Content-Length,X-API-Key,X-Request-Timeout-Ms"
    )
    keep_alive_s: float = 75.0
    request_timeout_s: float = 30.0
    shutdown_timeout_s: float = 30.0
    log_format: str = "text"
    log_level: str = "info"
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_models: Mapping[str, Mapping[str, Any]] | None = None
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
            elif source == "default" and setting.name in self.tuned.get(name, {}):
                changes[setting.name] = self.tuned[name][setting.name]
                origin[setting.name] = "profile"
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
