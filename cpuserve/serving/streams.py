"""How many streams and inference threads one worker has for a model; it compiles nothing."""

from __future__ import annotations

from typing import Any

from cpuserve.errors import UsageError
from cpuserve.settings import Settings

__all__ = ["stream_properties", "streams_of"]


def streams_of(settings: Settings, threads: int, cpus: int | None = None) -> tuple[int, int]:
    """The streams and the threads they share.

    Left alone, a worker has a stream of one thread for each compute thread of its seat. Fewer streams share
    all of the seat's threads; fewer threads have a stream each.

    Args:
        settings: as they hold for the model.
        threads: compute threads of the seat.
        cpus: logical CPUs of the seat, where they are known.

    Raises:
        UsageError: more streams than threads, or more threads than CPUs.
    """
    asked, shared = settings.streams, settings.inference_threads
    if asked is not None and shared is not None and asked > shared:
        raise UsageError(
            f"streams {asked} with inference_threads {shared}: a stream needs a thread of its own; "
            f"give --streams {shared} or less, or more --inference-threads"
        )
    streams = asked or min(threads, shared or threads)
    wanted = shared or max(threads, streams)
    if cpus is not None and wanted > cpus:
        name = "inference_threads" if shared else "streams"
        raise UsageError(
            f"{name} {wanted}, but a seat has {cpus} CPUs: give --{name.replace('_', '-')} {cpus} or less, "
            "or fewer --workers"
        )
    return streams, wanted


def stream_properties(settings: Settings, threads: int) -> dict[str, Any]:
    """The OpenVINO properties that follow from what the settings say; empty where they say nothing.

    Raises:
        UsageError: more streams than threads.
    """
    found: dict[str, Any] = {}
    if settings.streams is not None or settings.inference_threads is not None:
        found["NUM_STREAMS"], found["INFERENCE_NUM_THREADS"] = streams_of(settings, threads)
    if settings.enable_cpu_pinning is not None:
        found["ENABLE_CPU_PINNING"] = settings.enable_cpu_pinning
    if settings.scheduling_core_type is not None:
        found["SCHEDULING_CORE_TYPE"] = settings.scheduling_core_type.upper()
    return found
