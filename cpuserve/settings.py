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
from cpuserve.setting import Setting

__all__ = ["TABLE", "Setting", "Settings", "load"]

TABLE: tuple[Setting, ...] = (
    Setting("model_repository", Path, Path("ir_models"), "Directory of NAME/VERSION/model.xml."),
    Setting(
        "model_name",
        str,
        "",
        "Serve this one model only: the one at model_path, else the repository's of that name.",
    ),
    Setting(
        "model_path",
        str,
        "",
        "Where a model lies that is not in the repository: a directory of versions, one version, or a file.",
        per_model=True,
    ),
    Setting("config_path", str, "", "OpenVINO Model Server's config.json: serve the models it lists."),
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
        "allow_unvalidated",
        bool,
        False,
        "Serve models that NNCF quantised and whose accuracy nobody recorded; cpuserve quantize records it.",
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
        "plugin_config",
        str,
        "",
        'More properties of OpenVINO\'s CPU plugin as JSON, such as {"ENABLE_MMAP": false}.',
        per_model=True,
    ),
    Setting(
        "cache_dir",
        str,
        "",
        "Directory where OpenVINO keeps compiled models for the next start.",
        per_model=True,
    ),
    Setting(
        "shape",
        str,
        "",
        'Shape to give the input, such as (1,3,224,224) or {"input": "(1,3,224,224)"}; the batch stays free.',
        per_model=True,
    ),
    Setting(
        "layout",
        str,
        "",
        "Layout of the input: NCHW says what the model has, NHWC:NCHW what is sent and what it has.",
        per_model=True,
    ),
    Setting(
        "mean",
        str,
        "",
        "Subtracted from every input value, one number or one a channel, inside the graph: 127.5 or [1,2,3].",
        per_model=True,
    ),
    Setting(
        "scale", str, "", "Divides every input value after mean: one number or one a channel.", per_model=True
    ),
    Setting(
        "color_format",
        str,
        "",
        "Channel order: RGB says what the model has, BGR:RGB what is sent and what it has.",
        per_model=True,
    ),
    Setting(
        "max_batch",
        int,
        8,
        "Largest batch that is compiled (1, 2, 4, 8, ... up to it); requests may hold any number of images.",
        minimum=1,
        per_model=True,
    ),
    Setting(
        "allow_callables",
        bool,
        True,
        "Whether a cut model may have an installed Python function (MODULE:FUNCTION) as head or tail.",
    ),
    Setting(
        "deepdetect_data_root",
        str,
        "",
        "Answer DeepDetect's REST calls, and read the pictures that they name from this directory only.",
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
    Setting("api_key_file", str, "", "File of API keys, one a line; when given, requests need one of them."),
    Setting("api_key_for_metrics", bool, False, "Whether /metrics needs a key too."),
    Setting(
        "allowed_origins",
        str,
        "",
        "Web pages that browsers let ask this server (CORS): https://a.example,https://b.example or *.",
    ),
    Setting("allowed_methods", str, "GET,POST", "Methods that pages of allowed_origins may use."),
    Setting(
        "allowed_headers",
        str,
        "Authorization,Content-Type,Inference-Header-Content-Length,X-API-Key,X-Request-Timeout-Ms",
        "Headers that pages of allowed_origins may send.",
    ),
    Setting("keep_alive_s", float, 75.0, "Seconds an idle connection is kept open.", minimum=0),
    Setting("request_timeout_s", float, 30.0, "Seconds a client has to send one request.", minimum=0.1),
    Setting("shutdown_timeout_s", float, 30.0, "Seconds a stopping worker has to finish.", minimum=0),
    Setting("log_format", str, "text", "How a line of the log is written.", choices=("text", "json")),
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
        models: per-model settings from the settings file and the ``config.json``, by model name.
        own_models: those of the settings file alone, once a ``config.json`` has been read.
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
    decode: str = "fast"
    precision: str = "auto"
    allow_unvalidated: bool = False
    model_version_policy: str = "latest"
    file_system_poll_wait_seconds: float = 1.0
    plugin_config: str = ""
    cache_dir: str = ""
    shape: str = ""
    layout: str = ""
    mean: str = ""
    scale: str = ""
    color_format: str = ""
    max_batch: int = 8
    allow_callables: bool = True
    deepdetect_data_root: str = ""
    max_body_bytes: int = 32 << 20
    max_pixels: int = 32_000_000
    queue_size: int = 64
    deadline_ms: float = 10_000.0
    rate_limit: float = 0.0
    rate_burst: float = 20.0
    api_key_file: str = ""
    api_key_for_metrics: bool = False
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
