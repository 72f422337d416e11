"""The settings of models: which are served, and how each of them runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuserve.settings.setting import Group

__all__ = ["ModelSettings"]


@dataclass(frozen=True)
class ModelSettings:
    """The settings of the repository and of inference; many may be given for one model."""

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
        metavar="PATH",
    )
    config_path: str = Group.MODELS.setting(
        "", "config.json of OpenVINO Model Server; the models it lists are served.", metavar="FILE"
    )
    model_version_policy: str = Group.MODELS.setting(
        "latest",
        "Versions to serve: latest, latest:N, all, specific:1,2, or OpenVINO Model Server's JSON.",
        per_model=True,
    )
    version_labels: str = Group.MODELS.setting(
        "",
        'Versions by label, as JSON such as {"stable": 1, "canary": 2}. A labelled version is served too, '
        "whatever model_version_policy says.",
        per_model=True,
        metavar="JSON",
    )
    canary: str = Group.MODELS.setting(
        "",
        'Version that answers a share of the requests without a version: {"version": 2, "share": 0.05}; or '
        'by "label". A "header" makes requests with an equal value of it get the same version.',
        per_model=True,
        metavar="JSON",
    )
    shadow: str = Group.MODELS.setting(
        "",
        "Version that answers copies of a share of the requests without a version, to be compared: "
        '{"version": 2, "share": 0.1}; or by "label". Clients see none of its answers.',
        per_model=True,
        metavar="JSON",
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
    warmup_agreement: float = Group.MODELS.setting(
        0.9,
        "Share of an expected answer in a version's warmup/ directory that the version has to give before it "
        "serves, 0 to 1.",
        minimum=0,
        maximum=1,
        per_model=True,
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
