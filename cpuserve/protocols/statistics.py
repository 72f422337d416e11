"""Answers with the counters of all workers: Triton's statistics extension and Prometheus metrics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cpuserve.machine.files import read_text
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.protocols.shadow import shadow_metrics
from cpuserve.serving.pool import Pool
from cpuserve.serving.statistics import BUCKETS_US, GRPC_CODES, SERVER, Totals

__all__ = ["StatisticsRoutes"]

_REFUSALS = ("queue_full", "deadline", "rate", "key", "body_memory", "client_left")
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_BY_STAGE = {
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "infer",
    "compute_output": "post",
}
_BY_MODEL = {  # kind, counter and help text; OpenVINO Model Server has those that begin with ovms_
    "ovms_streams": ("gauge", "streams", "Inference streams of one worker."),
    "ovms_current_requests": ("gauge", "in_flight", "Requests inside the pipeline."),
    "ovms_requests_success": ("counter", "success", "Requests answered."),
    "ovms_requests_fail": ("counter", "fail", "Requests that ended in an error."),
    "cpuserve_images_total": ("counter", "images", "Images or tensor rows answered."),
    "cpuserve_executions_total": ("counter", "executions", "Compiled batches run."),
    "cpuserve_cache_hits_total": (
        "counter",
        "cache_hit_count",
        "Requests answered from the result cache.",
    ),
    "cpuserve_cache_misses_total": (
        "counter",
        "cache_miss_count",
        "Requests that the result cache had no answer to.",
    ),
}
_WITH_INTERFACE = frozenset(("ovms_requests_success", "ovms_requests_fail"))
_METHOD = 'api="KServe",interface="%s",method="ModelInfer",%s'
_HISTOGRAMS = {
    # the names and labels that OpenVINO Model Server's dashboards read
    "ovms_request_time_us": ("request", "Request time inside the server, microseconds."),
    "ovms_inference_time_us": ("infer", "Inference time, microseconds."),
    "ovms_wait_for_infer_req_time_us": (
        "queue",
        "Time a request waits for an inference stream, microseconds.",
    ),
    "cpuserve_decode_time_us": ("decode", "Decode and resize time, microseconds."),
    "cpuserve_post_time_us": ("post", "Post-processing time, microseconds."),
}


class StatisticsRoutes:
    """Statistics and metrics over the block of all workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def stats(self, _call: Call, model: str | None = None, version: str | None = None) -> Reply:
        """``GET /v2/models[/MODEL[/versions/VERSION]]/stats``: Triton's statistics extension."""
        if model is None:
            chosen = self._pool.statistics.served()
        else:
            file = self._pool.known(model, version).file
            chosen = [(file.name, file.version)]
        return json_reply({"model_stats": [self._model(name, number) for name, number in chosen]})

    def _model(self, name: str, version: int) -> dict[str, Any]:
        totals = self._pool.statistics.totals(name, version)
        return {
            "name": name,
            "version": str(version),
            "last_inference": totals["last_inference_ms"],
            "inference_count": totals["images"],
            "execution_count": totals["executions"],
            "inference_stats": {
                "success": _duration(*totals.duration("request")),
                "fail": _duration(totals["fail_request_count"], totals["fail_request_ns"]),
                **{word: _duration(*totals.duration(stage)) for word, stage in _BY_STAGE.items()},
                **{word: _duration(*totals.duration(word)) for word in ("cache_hit", "cache_miss")},
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": _duration(0, 0),
                    "compute_infer": _duration(count, nanoseconds),
                    "compute_output": _duration(0, 0),
                }
                for size, (count, nanoseconds) in totals.batches().items()
            ],
            "memory_usage": [],
        }

    def metrics(self, _call: Call) -> Reply:
        """``GET /metrics``: Prometheus text, the same whichever worker answers."""
        text = "\n".join(self._lines()) + "\n"
        return Reply(200, text.encode(), [("Content-Type", _TEXT)])

    def _lines(self) -> Iterator[str]:
        every = self._pool.statistics.every()
        rows = [(_labels(name, version), totals) for name, version, totals in every]
        yield from _model_lines(rows)
        yield from _metric(
            "cpuserve_model_state",
            "gauge",
            "Workers in which a version is in this state, and why it, or its newest files, cannot be served.",
            self._states(),
        )
        yield from _metric(
            "cpuserve_canary_share",
            "gauge",
            "Share of the requests without a version that the canary answers; 0 while it is not ready.",
            self._canaries(),
        )
        for shadow_metric in shadow_metrics(self._pool):
            yield from _metric(*shadow_metric)
        for metric, (histogram, words) in _HISTOGRAMS.items():
            yield from _histogram(metric, words, histogram, rows)
        yield from self._server_lines()

    def _canaries(self) -> Iterator[tuple[str, float]]:
        for name, choice in sorted(self._pool.rollouts.choices.items()):
            version = choice.rollout.number(choice.rollout.canary)
            if version is not None:
                yield _labels(name, version), choice.canary_share

    def _server_lines(self) -> Iterator[str]:
        server = self._pool.statistics.totals(SERVER, 0)
        yield from _metric(
            "cpuserve_refused_total",
            "counter",
            "Requests refused before their model was known: queue full, deadline, client's rate, "
            "no right key, memory of bodies, client left.",
            ((f'reason="{why}"', server[f"refused_{why}"]) for why in _REFUSALS),
        )
        yield from _metric(
            "cpuserve_grpc_answers_total",
            "counter",
            "Answers over gRPC, and messages of a stream, by code; CANCELLED: the client had gone.",
            ((f'code="{code}"', server[f"grpc_{code}"]) for code in GRPC_CODES),
        )
        yield from _metric(
            "cpuserve_queue_depth",
            "gauge",
            "Requests that wait for a thread.",
            [('all="workers"', server["queue_depth"])],
        )
        yield from _metric(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of each worker.",
            (
                (f'pid="{pid}"', resident)
                for pid in self._pool.statistics.workers()
                if (resident := _resident_bytes(pid))
            ),
        )

        yield from _metric(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of each worker.",
            (
                (f'pid="{pid}"', seconds)
                for pid in self._pool.statistics.workers()
                if (seconds := _cpu_seconds(pid)) is not None
            ),
        )

    def _states(self) -> Iterator[tuple[str, int]]:
        told = Counter(self._pool.control.table.read())
        for one, workers in sorted(told.items(), key=lambda item: (item[0].name, item[0].version)):
            labels = _labels(one.name, one.version)
            yield f'{labels},state="{one.state}",reason="{_quoted(one.reason)}"', workers


def _model_lines(rows: Sequence[tuple[str, Totals]]) -> Iterator[str]:
    for metric, (kind, counter, words) in _BY_MODEL.items():
        if metric in _WITH_INTERFACE:
            values = [
                (_METHOD % (interface, labels), count)
                for labels, totals in rows
                for interface, count in _by_interface(totals[counter], totals[f"grpc_{counter}"])
            ]
        else:
            values = [(labels, totals[counter]) for labels, totals in rows]
        yield from _metric(metric, kind, words, values)
    yield from _metric(
        "cpuserve_batches_total",
        "counter",
        "Batches by why they were run: a stream was idle, rows had gathered, or had waited long enough.",
        (
            (f'{labels},released="{why}"', totals[f"released_{why}"])
            for labels, totals in rows
            for why in ("idle", "gathered", "timeout")
        ),
    )
    yield from _metric(
        "cpuserve_batch_size_total",
        "counter",
        "Compiled batches run, by size.",
        (
            (f'{labels},size="{size}"', count)
            for labels, totals in rows
            for size, (count, _) in totals.batches().items()
        ),
    )


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}


def _labels(name: str, version: int) -> str:
    return f'name="{name}",version="{version}"'


def _metric(name: str, kind: str, words: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values:
        yield f"{name}{{{labels}}} {value}"


def _histogram(name: str, words: str, histogram: str, rows: Iterable[tuple[str, Totals]]) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} histogram"
    for model, totals in rows:
        buckets, (_, nanoseconds) = totals.buckets(histogram), totals.duration(histogram)
        if histogram != "request":
            yield from _buckets(name, model, buckets, nanoseconds)
            continue
        grpc, (_, grpc_ns) = totals.buckets("grpc_request"), totals.duration("grpc_request")
        rest = [max(0, both - one) for both, one in zip(buckets, grpc, strict=True)]
        yield from _buckets(name, f'interface="REST",{model}', rest, max(0, nanoseconds - grpc_ns))
        yield from _buckets(name, f'interface="gRPC",{model}', grpc, grpc_ns)


def _by_interface(both: int, grpc: int) -> tuple[tuple[str, int], ...]:
    """Counts by OpenVINO Model Server's names of the interfaces; both are read while they are counted."""
    return ("REST", max(0, both - grpc)), ("gRPC", grpc)


def _buckets(name: str, labels: str, buckets: Iterable[int], nanoseconds: int) -> Iterator[str]:
    total = 0
    for end, count in zip((*map(str, BUCKETS_US), "+Inf"), buckets, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{end}"}} {total}'
    yield f"{name}_sum{{{labels}}} {nanoseconds / 1000:.3f}"
    yield f"{name}_count{{{labels}}} {total}"


def _resident_bytes(pid: int) -> int:
    """The resident memory of a process; 0 where it has ended."""
    text = read_text(Path(f"/proc/{pid}/statm"))
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") if text else 0


def _cpu_seconds(pid: int) -> float | None:
    """The CPU time of a process, user and system; None where it has ended."""
    text = read_text(Path(f"/proc/{pid}/stat"))
    if not text:
        return None
    user, system = text.rpartition(")")[2].split()[11:13]  # its name, in brackets, may hold anything
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
