"""Writes a preset in the formats of other programs.

A program without seats gets one process for the whole machine, with the streams and
threads of all workers, pinned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cpuserve.errors import UsageError
from cpuserve.settings import SETTINGS
from cpuserve.tune.machine_facts import DEFAULT_BATCH
from cpuserve.tune.preset import Preset

__all__ = ["FORMATS", "export_preset"]


def export_preset(preset: Preset, to: str) -> str:
    """Write a preset in another format.

    Args:
        preset: the preset to export.
        to: one of `FORMATS`: ``env`` is lines NAME=VALUE for a shell or ``docker run --env-file``; ``ovms``
            an OpenVINO Model Server ``config.json``; ``triton`` what belongs in a ``config.pbtxt`` of
            Triton's OpenVINO backend; ``benchmark_app`` a file for its ``-load_config``.

    Raises:
        UsageError: there is no such format, or the preset lacks OpenVINO's properties.
    """
    if to not in FORMATS:
        raise UsageError(f"--to {to}: there are {', '.join(FORMATS)}")
    if to != "env" and "NUM_STREAMS" not in preset.properties:
        raise UsageError(
            f"the preset of {preset.model} does not say what OpenVINO had in force: tune it again"
        )
    return FORMATS[to](preset)


def _env(preset: Preset) -> str:
    lines = [f"# {_title(preset)}"]
    for name, value in preset.settings.items():
        text = str(value).lower() if isinstance(value, bool) else value
        lines.append(f"{SETTINGS[name].variable}={text}")
    lines += [f"{name}={text}" for name, text in preset.environ.items()]
    return "\n".join(lines) + "\n"


def _benchmark_app(preset: Preset) -> str:
    return json.dumps({"CPU": dict(preset.properties)}, indent=1) + "\n"


def _ovms(preset: Preset) -> str:
    config = {
        "name": preset.model,
        "base_path": f"/models/{preset.model}",
        "target_device": "CPU",
        "nireq": preset.properties["NUM_STREAMS"],
        # texts: not all of its versions take numbers and booleans here
        "plugin_config": {name: _text(value) for name, value in preset.properties.items()},
    }
    return json.dumps({"model_config_list": [{"config": config}]}, indent=1) + "\n"


def _triton(preset: Preset) -> str:
    properties = preset.properties
    parameters = {name: str(properties[name]) for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS")}
    if properties.get("INFERENCE_PRECISION_HINT") == "bf16":
        parameters["HINT_BF16"] = "YES"
    batch = preset.settings.get("max_batch", DEFAULT_BATCH)
    delay = round(float(preset.settings.get("max_queue_delay_us", 0)))
    lines = [
        f"# {_title(preset)}",
        "# for config.pbtxt, beside the model's name, inputs and outputs",
        'backend: "openvino"',
        f"max_batch_size: {batch}",
        f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}",
        f"instance_group [ {{ count: {properties['NUM_STREAMS']} kind: KIND_CPU }} ]",
        *(
            f'parameters {{ key: "{name}" value: {{ string_value: "{value}" }} }}'
            for name, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _title(preset: Preset) -> str:
    return f"preset of {preset.model} on {preset.key.fingerprint}, {preset.date}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


FORMATS: Mapping[str, Callable[[Preset], str]] = {
    "env": _env,
    "ovms": _ovms,
    "triton": _triton,
    "benchmark_app": _benchmark_app,
}
