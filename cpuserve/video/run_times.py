"""Reads what frames took from the statistics of a run that used replicas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from cpuserve.errors import UsageError
from cpuserve.video.simulation import FrameTimes

__all__ = ["run_times"]


def run_times(file: Path) -> FrameTimes:
    """The times of client and replicas that a run measured.

    Args:
        file: JSON with what `Replicas.report` gave, at any place in it.

    Raises:
        UsageError: it cannot be read, or holds no such times.
    """
    try:
        document = orjson.loads(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{file} is no JSON: {error}") from None
    for report in _reports(document):
        found = _times(report)
        if found is not None:
            return found
    raise UsageError(
        f"{file} has no times of replicas: it is not what `cpuserve video run --replicas ... --json` or "
        "`infer` wrote, or no replica said what it took; give --service-ms and --gap-ms"
    )


def _reports(document: Any) -> Iterator[dict[str, Any]]:
    """Every object with a list of replicas, the outermost first."""
    if isinstance(document, dict):
        if isinstance(document.get("replicas"), list):
            yield document
        for value in document.values():
            yield from _reports(value)
    elif isinstance(document, list):
        for value in document:
            yield from _reports(value)


def _times(report: dict[str, Any]) -> FrameTimes | None:
    replicas = [
        one for one in report["replicas"] if isinstance(one, dict) and one.get("service_quantiles_ms")
    ]
    try:
        service = [float(ms) / 1000 for one in replicas for ms in one["service_quantiles_ms"]]
        network = min(float(one.get("overhead_ms", 0)) for one in replicas) / 1000
        client = float(report["client_ms"]) / 1000
    except (KeyError, TypeError, ValueError):
        return None
    usable = bool(service) and min(service) > 0 and client >= 0 and network >= 0
    return FrameTimes(client, service, network) if usable else None
