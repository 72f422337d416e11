"""OpenVINO properties for compiling a model: its streams, their threads, precision and cache."""

from __future__ import annotations

from typing import Any

from cpuserve.errors import UsageError
from cpuserve.models.ov_properties import properties_of
from cpuserve.settings import Settings

__all__ = [
    "compile_properties",
    "fillable_rows",
    "own_weights",
    "prefers_own_weights",
    "stream_properties",
    "streams_and_threads",
]

_OWN_UP_TO = 4  # streams: with more, a copy of the weights per core costs more memory than it gains speed


def compile_properties(settings: Settings, threads: int) -> dict[str, Any]:
    """The OpenVINO properties that the settings ask for, without those that the seat decides.

    Args:
        settings: as they hold for this model.
        threads: compute threads of the seat.

    Raises:
        UsageError: ``plugin_config`` is not a JSON object, or the streams do not fit their threads.
    """
    properties, _ = properties_of(settings.plugin_config)
    properties |= stream_properties(settings, threads)
    if settings.precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = settings.precision
    if settings.cache_dir:
        properties["CACHE_DIR"] = settings.cache_dir
    return properties


def streams_and_threads(settings: Settings, threads: int, cpus: int | None = None) -> tuple[int, int]:
    """The streams and the threads they share.

    By default a worker has a stream of one thread for each compute thread of its seat. Fewer streams share
    all of the seat's threads; fewer threads have a stream each.

    Args:
        settings: as they hold for the model.
        threads: compute threads of the seat.
        cpus: logical CPUs of the seat, where they are known.

    Raises:
        UsageError: more streams than threads, more threads than CPUs, or weights of their own for streams
            that cannot have them.
    """
    asked, shared = settings.streams, settings.inference_threads
    if asked is not None and shared is not None and asked > shared:
        raise UsageError(
            f"streams {asked} with inference_threads {shared}: each stream needs its own thread; "
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
    if settings.share_weights is False and (wanted % streams or settings.enable_cpu_pinning):
        why = "enable_cpu_pinning puts all of them on the same CPUs"
        if wanted % streams:
            why = f"{wanted} inference_threads cannot be divided evenly among {streams} streams"
        raise UsageError(
            f"share_weights false compiles the model once a stream, but {why}; change one of the two"
        )
    return streams, wanted


def fillable_rows(settings: Settings, threads: int) -> int:
    """How many rows requests of one picture each can fill, at least 1: a larger batch would never run.

    Rows gather while every stream is busy, so they come from the serving threads that are left; where rows
    wait for others, from all.

    Args:
        settings: as they hold for the model.
        threads: compute threads of the seat.

    Raises:
        UsageError: as of `streams_and_threads`.
    """
    streams, _ = streams_and_threads(settings, threads)
    serving = settings.threads or threads
    return serving if settings.max_queue_delay_us else max(1, serving - streams)


def own_weights(settings: Settings, threads: int) -> bool:
    """Whether each stream has its own compiled model and weights.

    By default up to 4 streams of one thread have, unless OpenVINO pins threads.

    Args:
        settings: as they hold for the model.
        threads: compute threads of the seat.

    Raises:
        UsageError: as of `streams_and_threads`.
    """
    streams, shared = streams_and_threads(settings, threads)
    if settings.share_weights is not None:
        return not settings.share_weights
    return prefers_own_weights(streams, shared, pinned=bool(settings.enable_cpu_pinning))


def prefers_own_weights(streams: int, threads: int, *, pinned: bool) -> bool:
    """Whether streams have their own weights by default.

    Args:
        streams: of a worker.
        threads: inference threads of the worker.
        pinned: whether OpenVINO pins them.
    """
    return streams == threads <= _OWN_UP_TO and not pinned


def stream_properties(settings: Settings, threads: int) -> dict[str, Any]:
    """The OpenVINO properties that follow from what the settings say; empty where they say nothing.

    Raises:
        UsageError: more streams than threads.
    """
    found: dict[str, Any] = {}
    if settings.streams is not None or settings.inference_threads is not None:
        found["NUM_STREAMS"], found["INFERENCE_NUM_THREADS"] = streams_and_threads(settings, threads)
    if settings.enable_cpu_pinning is not None:
        found["ENABLE_CPU_PINNING"] = settings.enable_cpu_pinning
    if settings.scheduling_core_type is not None:
        found["SCHEDULING_CORE_TYPE"] = settings.scheduling_core_type.upper()
    return found
