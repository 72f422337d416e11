"""Every setting, declared once: command line, environment, settings files, help and docs follow from here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from cpuserve.errors import UsageError
from cpuserve.settings.setting import Group, Setting, described

__all__ = ["SETTINGS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """The settings in force.

    Attributes:
        models: per-model settings from the settings file and the ``config.json``, by model name.
        own_models: those of the settings file alone, once a ``config.json`` has been read.
        tuned: per-model settings from presets, by model name.
        origin: where each value came from ("--port", "CPUSERVE_PORT", "cpuserve.toml", "preset").
        notes: sentences for the user about names that will be removed.
    """

    host: str = Group.NETWORK.setting(
        "127.0.0.1", "Address to listen on; 0.0.0.0 listens on every interface.", ovms="rest_bind_address"
    )
    port: int = Group.NETWORK.setting(8000, "TCP port to listen on.", minimum=0, ovms="rest_port")
    grpc_port: int = Group.NETWORK.setting(
        0, "TCP port to answer gRPC on; 0 answers none. It needs the extra grpc.", minimum=0
    )
    max_connections: int = Group.NETWORK.setting(
        1000,
        "Most open connections of one worker. A further one closes the connection that has been idle "
        "longest, or is answered 503 if none is idle.",
        minimum=1,
    )
    keep_alive_s: float = Group.NETWORK.setting(
        75.0, "Seconds after which an idle connection is closed.", minimum=0
    )
    request_timeout_s: float = Group.NETWORK.setting(
        30.0, "Seconds a client has to send one request.", minimum=0.1
    )
    shutdown_timeout_s: float = Group.NETWORK.setting(
        30.0, "Seconds a worker has to finish its requests when it is stopped.", minimum=0
    )
    deepdetect_data_root: str = Group.NETWORK.setting(
        "",
        "Also answer DeepDetect's REST calls. Pictures they name by path are read from this directory only.",
    )

    workers: int | None = Group.SEATS.setting(
        None,
        "Number of worker processes. Each has a seat: cores that no other worker uses. "
        "auto: one worker a core up to 4 cores, above that one for every 8 cores.",
        minimum=1,
    )
    cores_per_worker: int | None = Group.SEATS.setting(
        None, "Physical cores of one seat; auto follows from workers.", minimum=1
    )
    node_id: tuple[int, ...] | None = Group.SEATS.setting(
        None, "NUMA nodes to use, such as 0 or 0,1; auto: all that are allowed.", minimum=0
    )
    use_logical_core: bool = Group.SEATS.setting(
        False, "Run one thread for each logical CPU of a seat instead of one for each core."
    )
    mode: Literal["latency", "throughput"] | None = Group.SEATS.setting(
        None,
        "Size of the seats: latency is 4 cores, throughput a whole NUMA node; auto follows from workers.",
    )
    threads: int | None = Group.SEATS.setting(
        None, "Threads of one worker that serve requests; auto: one for each core.", minimum=1
    )
    allocator: Literal["none", "auto", "jemalloc", "tcmalloc"] = Group.SEATS.setting(
        "none",
        "Memory allocator, loaded by LD_PRELOAD: auto takes jemalloc if it is installed, else tcmalloc; "
        "none keeps the C library's.",
    )
    preset: str = Group.SEATS.setting(
        "auto",
        "Tuned settings to apply: auto takes for each model the preset in tuning_dir that fits best, off "
        "takes none, anything else is the file of a preset.",
        formerly="profile",
        metavar="auto|off|FILE",
    )
    tuning_dir: Path = Group.SEATS.setting(
        Path("tuning"), "Directory of the presets that cpuserve tune wrote, by machine."
    )

    model_repository: Path = Group.MODELS.setting(
        Path("ir_models"),
        "Directory of the models, each as NAME/VERSION/model.xml.",
        ovms="model_repository_path",
    )
    model_name: str = Group.MODELS.setting(
        "",
        "Serve only this model: the one at model_path, or else the one of this name in the repository.",
    )
    model_path: str = Group.MODELS.setting(
        "",
        "Path of a model outside the repository: a directory of versions, one version, or a file.",
        per_model=True,
    )
    config_path: str = Group.MODELS.setting(
        "", "config.json of OpenVINO Model Server; the models it lists are served.", metavar="FILE"
    )
    model_version_policy: str = Group.MODELS.setting(
        "latest",
        "Versions to serve: latest, latest:N, all, specific:1,2, or OpenVINO Model Server's JSON.",
        per_model=True,
    )
    file_system_poll_wait_seconds: float = Group.MODELS.setting(
        1.0,
        "Seconds between two checks of the repository for changes; 0 checks only on a reload call.",
        minimum=0,
    )
    removal_grace_s: float = Group.MODELS.setting(
        10.0,
        "Seconds a model is still served after its files are gone. An unload call acts at once.",
        minimum=0,
    )
    strict_readiness: bool = Group.MODELS.setting(
        False, "Answer 503 on /v2/health/ready while any model has no version that is ready."
    )
    check_models_in_child: bool = Group.MODELS.setting(
        True,
        "Load a new version in a child process first, so that a model that crashes OpenVINO stops no worker.",
    )
    model_check_timeout_s: float = Group.MODELS.setting(
        300.0, "Seconds the child process has to load a version.", minimum=1
    )
    allow_unvalidated: bool = Group.MODELS.setting(
        False,
        "Also serve models quantized by NNCF without recorded accuracy. cpuserve quantize records it.",
        per_model=True,
    )
    decode: Literal["fast", "exact"] = Group.MODELS.setting(
        "fast",
        "JPEG decoding: fast lets the decoder scale down, exact decodes every pixel and then resizes.",
        per_model=True,
    )
    shape: str = Group.MODELS.setting(
        "",
        'Shape of the input, such as (1,3,224,224) or {"input": "(1,3,224,224)"}. A side may be -1 (any) '
        "or a range such as 200:500; auto lets every side vary that may. The batch size stays free.",
        per_model=True,
    )
    layout: str = Group.MODELS.setting(
        "",
        "Layout of the input: NCHW is the model's layout; in NHWC:NCHW clients send the first and the model "
        "has the second.",
        per_model=True,
    )
    mean: str = Group.MODELS.setting(
        "",
        "Subtracted from every input value inside the graph: one number or one for each channel, such as "
        "127.5 or [1,2,3].",
        per_model=True,
    )
    scale: str = Group.MODELS.setting(
        "", "Divides every input value after mean: one number or one for each channel.", per_model=True
    )
    color_format: str = Group.MODELS.setting(
        "",
        "Channel order: RGB is the model's; in BGR:RGB clients send the first and the model has the second.",
        per_model=True,
    )

    streams: int | None = Group.INFERENCE.setting(
        None,
        "Batches one worker runs at the same time (NUM_STREAMS); auto: one for each core of its seat.",
        minimum=1,
        per_model=True,
    )
    inference_threads: int | None = Group.INFERENCE.setting(
        None,
        "OpenVINO's threads in one worker, shared by its streams (INFERENCE_NUM_THREADS); auto: one for each "
        "core of its seat.",
        minimum=1,
        per_model=True,
    )
    share_weights: bool | None = Group.INFERENCE.setting(
        None,
        "Use one compiled model for all streams of a worker. Without it each stream has its own weights and "
        "runs in the thread that serves the request. auto: only above 4 streams.",
        per_model=True,
    )
    enable_cpu_pinning: bool | None = Group.INFERENCE.setting(
        None,
        "Let OpenVINO pin each thread to one CPU of the seat (ENABLE_CPU_PINNING); auto: no, threads stay in "
        "the seat without it.",
        per_model=True,
    )
    scheduling_core_type: Literal["any_core", "pcore_only", "ecore_only"] | None = Group.INFERENCE.setting(
        None,
        "Cores to use where some are efficiency cores (SCHEDULING_CORE_TYPE); auto: OpenVINO decides.",
        per_model=True,
    )
    precision: Literal["auto", "f32", "bf16", "f16"] = Group.INFERENCE.setting(
        "auto",
        "Precision to compute in (INFERENCE_PRECISION_HINT): auto takes bf16 where the CPU has it and the "
        "model's record says that its answers agree with those in f32, else f32, which gives the answers of "
        "the original framework.",
        per_model=True,
    )
    precision_limit: float = Group.INFERENCE.setting(
        0.01,
        "Share of a model's answers that bf16 may change for precision auto to take it, 0 to 1.",
        minimum=0,
        per_model=True,
    )
    max_batch: int | None = Group.INFERENCE.setting(
        None,
        "Largest batch that is compiled. Sizes 1, 2, 4 and so on are compiled up to it, each with its own "
        "weights; larger requests are split. auto: as many pictures as the threads beyond the streams can "
        "fill, at most 8.",
        minimum=1,
        per_model=True,
        ovms="batch_size",
    )
    max_queue_delay_us: float = Group.INFERENCE.setting(
        0.0,
        "Microseconds to wait for more pictures although a stream is idle, if there are more threads.",
        minimum=0,
        per_model=True,
    )
    result_cache_bytes: int = Group.INFERENCE.setting(
        0,
        "Bytes of answers each worker keeps for each version, to answer equal pictures and tensors again; "
        "0 keeps none.",
        minimum=0,
        per_model=True,
    )
    plugin_config: str = Group.INFERENCE.setting(
        "",
        'More properties of OpenVINO\'s CPU plugin as JSON, such as {"ENABLE_MMAP": false}.',
        per_model=True,
        metavar="JSON",
    )
    cache_dir: str = Group.INFERENCE.setting(
        "", "Directory where OpenVINO keeps compiled models, for a faster next start.", per_model=True
    )
    enable_mmap: bool = Group.INFERENCE.setting(
        False,
        "Map weights from the repository's files instead of copying them. The files must then never be "
        "overwritten in place.",
    )

    max_body_bytes: int = Group.LIMITS.setting(32 << 20, "Largest request body, in bytes.", minimum=1)
    max_unfinished_body_bytes: int = Group.LIMITS.setting(
        256 << 20,
        "Most bytes of request bodies, after decompression, that one worker holds for unanswered requests; "
        "above it requests are answered 503. Never less than four times max_body_bytes.",
        minimum=1,
    )
    max_json_elements: int = Group.LIMITS.setting(
        2_000_000, "Most values in a JSON body; they are counted before parsing.", minimum=1
    )
    max_answer_bytes: int = Group.LIMITS.setting(
        256 << 20, "Most bytes of output tensors of one request.", minimum=1
    )
    max_pictures: int = Group.LIMITS.setting(1024, "Most pictures in one request.", minimum=1)
    max_pixels: int = Group.LIMITS.setting(
        32_000_000, "Most pixels of one picture, by its header.", minimum=1
    )
    max_jpeg_scan_pixels: int = Group.LIMITS.setting(
        640_000_000,
        "Most pixels times scans of a progressive JPEG. A usual photo has about 10 scans.",
        minimum=1,
    )
    queue_size: int = Group.LIMITS.setting(
        64, "Requests that may wait for a thread in one worker; further ones are answered 503.", minimum=1
    )
    deadline_ms: float = Group.LIMITS.setting(
        10_000.0,
        "Milliseconds a request may take; clients may ask for less with X-Request-Timeout-Ms.",
        minimum=1,
    )
    rate_limit: float = Group.LIMITS.setting(
        0.0, "Requests a second from one client, told apart by API key or address; 0 is no limit.", minimum=0
    )
    rate_burst: float = Group.LIMITS.setting(
        20.0, "Requests one client may send at once under rate_limit.", minimum=1
    )

    api_key_file: str = Group.SECURITY.setting(
        "", "File of API keys, one a line. With it requests need one of the keys.", metavar="FILE"
    )
    api_key_for_metrics: bool = Group.SECURITY.setting(False, "Ask for an API key on /metrics too.")
    shared_memory_prefix: str = Group.SECURITY.setting(
        "",
        "How the names of shared memory begin in which clients may send and get tensors; none allows none.",
    )
    priority_from: Literal["anyone", "keys", "nobody"] = Group.SECURITY.setting(
        "keys", "Clients whose X-Request-Priority is obeyed: keys are those with a key of api_key_file."
    )
    guarded_decoding: Literal["none", "rare", "all"] = Group.SECURITY.setting(
        "rare",
        "Formats decoded in separate processes, where a crash of the decoder costs one request: rare is "
        "WebP, GIF, TIFF and BMP.",
    )
    decode_timeout_ms: float = Group.SECURITY.setting(
        5_000.0,
        "Milliseconds a picture may take in a process of guarded_decoding before that process is killed.",
        minimum=1,
    )
    allow_callables: bool = Group.SECURITY.setting(
        False, "Allow cut models to run an installed Python function (MODULE:FUNCTION) as head or tail."
    )
    allowed_origins: str = Group.SECURITY.setting(
        "",
        "Web pages whose scripts may call this server (CORS), such as https://a.example,https://b.example, "
        "or * for all.",
    )
    allowed_methods: str = Group.SECURITY.setting(
        "GET,POST", "Methods that pages of allowed_origins may use."
    )
    allowed_headers: str = Group.SECURITY.setting(
        "Authorization,Content-Type,Inference-Header-Content-Length,X-API-Key,X-Request-Timeout-Ms",
        "Headers that pages of allowed_origins may send.",
    )

    log_format: Literal["text", "json"] = Group.LOGGING.setting("text", "Format of a line of the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Group.LOGGING.setting(
        "info", "Least severe messages that are logged."
    )
    otel_endpoint: str = Group.LOGGING.setting(
        "",
        "OpenTelemetry collector, such as http://127.0.0.1:4318. It gets spans of the requests whose "
        "traceparent header says that the caller records.",
    )

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_models: Mapping[str, Mapping[str, Any]] | None = None
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def for_model(self, name: str, metadata: Mapping[str, Any]) -> Settings:
        """These settings as they hold for one model.

        Args:
            name: the model.
            metadata: what the model's own metadata asks for, by setting; empty values do not count.
        """
        changes: dict[str, Any] = {}
        origin = dict(self.origin)
        for setting in SETTINGS.values():
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
                origin[setting.name] = "preset"
            elif source == "default" and metadata.get(setting.name):
                changes[setting.name] = setting.parse(metadata[setting.name], f"metadata of {name}")
                origin[setting.name] = "metadata"
        return dataclasses.replace(self, **changes, origin=origin)

    def to_json(self) -> dict[str, Any]:
        """All fields, fit for JSON and for `from_json`; paths are absolute."""
        fields = dataclasses.asdict(self)
        return {
            name: str(value.absolute()) if isinstance(value, Path) else value
            for name, value in fields.items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """The settings that `to_json` wrote.

        Raises:
            UsageError: another version of cpuserve wrote them.
        """
        if set(content) != {field.name for field in dataclasses.fields(cls)}:
            raise UsageError("these are the settings of another version of cpuserve: use that version")
        parsed = {
            name: setting.parse(content[name], "settings in force")
            for name, setting in SETTINGS.items()
            if content[name] is not None
        }
        return cls(**{**content, **parsed, "notes": tuple(content["notes"])})


_HINTS = get_type_hints(Settings)
SETTINGS: Mapping[str, Setting] = {
    one.name: described(one, _HINTS[one.name])
    for one in dataclasses.fields(Settings)
    if "setting" in one.metadata
}
"""What is known of each setting, by name, in the order of the help."""
