"""Recordings made by hand: threads that run one request after the other, with stages of given lengths."""

from __future__ import annotations

from typing import Any

from cpuserve.profiling.recording import (
    BatchSpan,
    LayerTime,
    Recording,
    RequestSpan,
    Stacks,
    ThreadTrack,
)
from cpuserve.serving.stages import STAGE_NAMES

MS = 1_000_000
STEP = 20 * MS  # between two samples of a thread

QUIET = {"decode": 1.0, "resize": 0.3, "infer": 6.0, "post": 0.3, "serialise": 0.2}
"""Milliseconds by stage of a request on a server that has no flaw."""


def made(
    *,
    workers: int = 2,
    threads: int = 1,
    cpus: int = 2,
    stages: dict[str, float] | None = None,
    gap: float = 0.3,
    images: int = 1,
    seconds: float = 1.0,
    wait: float = 0.0,
    spin: float = 0.0,
    moves: int = 0,
    same_cpu: bool = False,
    engine_threads: int = 0,
    offloaded: bool = False,
    statuses: tuple[int, ...] = (200,),
    flags: tuple[str, ...] = ("avx2",),
    nodes: tuple[str, ...] = ("0-1",),
    kernel: float = 0.0,
    settings: dict[str, Any] | None = None,
    **fields: Any,
) -> Recording:
    """A recording of a server.

    Args:
        workers: processes.
        threads: serving threads of each.
        cpus: that the server may use.
        stages: milliseconds by stage of each request; `QUIET` without it.
        gap: milliseconds between two requests of a thread.
        images: of each request.
        seconds: in all.
        wait: seconds a thread is ready without a CPU, for each second on one.
        spin: of each second, the part that an OpenVINO thread burns.
        moves: migrations of each thread.
        same_cpu: every thread runs on CPU 0.
        engine_threads: OpenVINO threads of each worker.
        offloaded: serving threads sleep while a batch runs.
        statuses: of the requests, by turns.
        flags: of the processor.
        nodes: CPUs of each NUMA node.
        kernel: of each thread's CPU time, the part in the kernel.
        settings: more of them.
        fields: of the recording, in place of what is made.
    """
    length = stages or QUIET
    end = round(seconds * 1000 * MS)
    requests: list[RequestSpan] = []
    batches: list[BatchSpan] = []
    tracks: list[ThreadTrack] = []
    for worker in range(workers):
        pid = 100 + worker
        for thread in range(threads):
            tid = 10 * pid + thread
            t = 0
            while t < end:
                spans = []
                arrived = t
                for name in STAGE_NAMES:
                    spent = round(length.get(name, 0.0) * MS)
                    if not spent:
                        continue
                    begin = t - spent if name == "queue" else t
                    arrived = min(arrived, begin)
                    t = t if name == "queue" else t + spent
                    spans.append((name, begin, begin + spent))
                    if name == "infer":
                        batches.append(BatchSpan(len(batches), pid, tid, begin, begin + spent, images))
                number = len(requests)
                status = statuses[number % len(statuses)]
                requests.append(
                    RequestSpan(str(number), pid, tid, arrived, t, spans, len(batches) - 1, images, status)
                )
                t += round(gap * MS)
            work = sum(spent for name, spent in length.items() if name not in ("queue", "batch_wait"))
            awake = work - (length.get("infer", 0.0) if offloaded else 0.0)
            busy = awake / (work + gap) / (1 + wait)
            cpu = 0 if same_cpu else (worker * threads + thread) % cpus
            tracks.append(_track(pid, tid, f"serve-{thread}", "serve", end, busy, wait, cpu, moves, kernel))
        for thread in range(engine_threads):
            tid = 10 * pid + 5 + thread
            tracks.append(_track(pid, tid, "tbb", "openvino", end, spin, 0.0, thread % cpus, 0, 0.0))
    seats = [
        {"index": worker, "cpus": str(worker % cpus), "threads": max(1, cpus // workers)}
        for worker in range(workers)
    ]
    topology = {
        "nodes": [{"id": number, "cores": [{"cpus": text}]} for number, text in enumerate(nodes)],
    }
    content: dict[str, Any] = {
        "model": "made",
        "date": "2026-01-01T00:00:00+00:00",
        "machine": "a-cpu-2c",
        "seconds": seconds,
        "began_ns": 0,
        "ended_ns": end,
        "settings": {
            "workers": workers,
            "threads": threads,
            "streams": max(1, cpus // workers),
            "decode": "fast",
            "precision": "auto",
            "max_batch": 8,
            **(settings or {}),
        },
        "placement": {
            "budget": {"effective": cpus},
            "machine": {"flags": list(flags)},
            "seats": seats,
            "workers": [{"seat": worker, "pid": 100 + worker} for worker in range(workers)],
            "topology": topology,
        },
        "requests": requests,
        "batches": batches,
        "threads": tracks,
        "layers": layers("f32"),
        "stacks": stacks(),
    }
    return Recording(**{**content, **fields})


def _track(
    pid: int,
    tid: int,
    name: str,
    role: str,
    end: int,
    busy: float,
    wait: float,
    cpu: int,
    moves: int,
    kernel: float,
) -> ThreadTrack:
    samples = [(t, round(busy * t), round(wait * busy * t), cpu) for t in range(0, end + 1, STEP)]
    return ThreadTrack(pid, tid, name, role, samples, 5, 5, moves, round(kernel * busy * end))


def layers(precision: str, exec_type: str = "jit_avx2") -> list[LayerTime]:
    """Two layers; the second is of the kind asked for."""
    return [
        LayerTime("conv/1", "Convolution", "jit_avx2", precision, 10, 700.0, 1),
        LayerTime("odd/2", "NonMaxSuppression", exec_type, precision, 10, 300.0, 1),
    ]


def stacks(folded: dict[str, int] | None = None) -> Stacks:
    """Python stacks, a quarter of them in the tail."""
    root = "process 100;_serve (cpuserve/http/request_loop.py:180);"
    return Stacks(
        100,
        1.0,
        folded
        or {
            root + "RequestLoop._turn (cpuserve/http/request_loop.py:190)": 20,
            root + "_turn (cpuserve/http/request_loop.py:190)": 20,
            "process 100:python;Event.wait (threading.py:600);Condition.wait (threading.py:359)": 30,
            "process 99;Arbiter.wait_for_signals (gunicorn/arbiter.py:2)": 9,
            root
            + "predict (cpuserve/serving/pipeline.py:90);into (cpuserve/serving/picture_input.py:70)": 20,
            root + "predict (cpuserve/serving/pipeline.py:90);run (cpuserve/serving/batcher.py:140)": 60,
            root + "predict (cpuserve/serving/pipeline.py:99);tail (tails.py:7)": 20,
            root + "predict (cpuserve/serving/pipeline.py:99);tail (tails.py:9)": 7,
        },
        "py-spy record",
        native=False,
    )
