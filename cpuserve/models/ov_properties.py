"""Parses ``plugin_config``: properties of OpenVINO's CPU plugin. OpenVINO itself checks them later."""

from __future__ import annotations

import json
from typing import Any

from cpuserve.errors import UsageError

__all__ = ["properties_of"]

# A seat has its own cores and one stream a serving thread: these would contradict it.
_OF_THE_SEAT = frozenset(
    (
        "AFFINITY",
        "CPU_BIND_THREAD",
        "CPU_THREADS_NUM",
        "CPU_THROUGHPUT_STREAMS",
        "ENABLE_CPU_PINNING",
        "ENABLE_CPU_RESERVATION",
        "ENABLE_HYPER_THREADING",
        "INFERENCE_NUM_THREADS",
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "PERFORMANCE_HINT_NUM_REQUESTS",
        "SCHEDULING_CORE_TYPE",
    )
)


def properties_of(text: str) -> tuple[dict[str, Any], list[str]]:
    """The properties to compile with, and the names of those that the seat decides.

    Raises:
        UsageError: it is not a JSON object of texts, numbers and booleans.
    """
    if not text:
        return {}, []
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not all(
        isinstance(value, (str, int, float, bool)) for value in document.values()
    ):
        raise UsageError(f"plugin_config {text!r} is not a JSON object of texts, numbers, true and false")
    wanted = {name: value for name, value in document.items() if name not in _OF_THE_SEAT}
    return wanted, sorted(document.keys() & _OF_THE_SEAT)
