"""Measures what each layer of a model takes, in this process, after the server was watched.

OpenVINO times layers only in a model that was compiled with ``PERF_COUNT``, and timing slows every call. So
the server's own model stays as it is. The same graph is compiled here once more with the server's properties,
batch and precision, and runs in one stream.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from cpuserve.errors import CpuserveError
from cpuserve.models.repository import Repository
from cpuserve.profiling.recording import BatchSpan, LayerTime
from cpuserve.settings import Settings

__all__ = ["WHERE", "layer_times", "usual_batch"]

WHERE = (
    "compiled once more beside the server, with its properties and PERF_COUNT; one stream, alone, afterwards"
)
"""How the layers were timed, for the page."""

_SECONDS = 2.0
_MOST_CALLS = 200
_WARM = 3


def layer_times(settings: Settings, model: str, batch: int) -> list[LayerTime]:
    """Time the layers of a model; the slowest comes first.

    Args:
        settings: as the server has them.
        model: its name in the repository.
        batch: rows of one call; the largest compiled size that is no larger is measured.

    Raises:
        CpuserveError: the model cannot be read or compiled here.
    """
    from cpuserve.serving.loader import load_pipeline  # noqa: PLC0415  # OpenVINO comes with it
    from cpuserve.serving.openvino_core import openvino_core  # noqa: PLC0415

    file = Repository.of(settings).find(model)
    # where it is auto it follows the server's threads, and here is one
    settings = dataclasses.replace(settings, max_batch=settings.max_batch or batch)
    pipeline = load_pipeline(openvino_core(), file, _counting(settings, model), 1)
    engine = pipeline.batcher.engine
    size = max((one for one in engine.sizes if one <= batch), default=engine.sizes[0])
    slot = engine.new_slot()
    request = slot.requests[0, 0, size]
    for _ in range(_WARM):
        engine.run(slot, [(0, size)])
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    what: dict[str, tuple[str, str]] = {}
    end = time.monotonic() + _SECONDS
    for _ in range(_MOST_CALLS):
        engine.run(slot, [(0, size)])
        for layer in request.profiling_info:
            if layer.status == layer.Status.EXECUTED:
                spent[layer.node_name] += layer.real_time.total_seconds() * 1e6
                calls[layer.node_name] += 1
                what[layer.node_name] = layer.node_type, layer.exec_type
        if time.monotonic() > end:
            break
    if not what:
        raise CpuserveError(f"OpenVINO counted no layer of {model}: is it another device's, or Python's?")
    precisions = _precisions(request)
    layers = [
        LayerTime(
            name=name,
            type=kind,
            exec_type=kernel,
            precision=precisions.get(name) or kernel.rpartition("_")[2].lower(),
            calls=calls[name],
            mean_us=spent[name] / calls[name],
            batch=size,
        )
        for name, (kind, kernel) in what.items()
    ]
    return sorted(layers, key=lambda layer: -layer.mean_us)


def usual_batch(batches: Sequence[BatchSpan]) -> int:
    """The batch size in which most rows were computed; 1 where there was no batch."""
    rows: Counter[int] = Counter()
    for batch in batches:
        rows[batch.size] += batch.size
    return max(rows, key=lambda size: (rows[size], size), default=1)


def _counting(settings: Settings, model: str) -> Settings:
    """The settings with ``PERF_COUNT`` and without the cache, which holds models compiled without it."""
    own = settings.for_model(model, {})
    properties = {**(json.loads(own.plugin_config) if own.plugin_config else {}), "PERF_COUNT": True}
    return dataclasses.replace(
        settings,
        plugin_config=json.dumps(properties),
        cache_dir="",
        origin={**settings.origin, "plugin_config": "--plugin-config", "cache_dir": "--cache-dir"},
    )


def _precisions(request: Any) -> dict[str, str]:
    """The precision of each layer of the compiled graph, by its name."""
    found = {}
    for op in request.get_compiled_model().get_runtime_model().get_ops():
        info = op.get_rt_info()
        if "runtimePrecision" in info:
            value = info["runtimePrecision"]
            found[op.get_friendly_name()] = str(getattr(value, "value", value))
    return found
