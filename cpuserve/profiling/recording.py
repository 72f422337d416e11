"""Defines what a profile records: requests, batches, threads, layers and stacks, kept as one JSON file.

All times are nanoseconds of CLOCK_MONOTONIC, which is the clock of `time.perf_counter_ns` on Linux and the
same in all processes of a machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cpuserve.errors import UsageError

__all__ = [
    "FILE",
    "BatchSpan",
    "LayerTime",
    "Recording",
    "RequestSpan",
    "Stacks",
    "ThreadTrack",
]

FILE = "profile.json"
"""The recording's name in the directory of a profile."""

_VERSION = 1


@dataclass(frozen=True)
class RequestSpan:
    """One request, from its first byte seen to its answer handed to the kernel.

    Attributes:
        id: a number, or the name that the client gave it.
        pid: of the worker.
        tid: of the thread that ran it.
        arrived_ns: when the worker had all of it.
        ended_ns: when its answer was handed to the kernel.
        stages: (name, begin_ns, end_ns) of `cpuserve.serving.stages.STAGES`, in order of time; a stage
            entered twice is there twice.
        batch_id: the last `BatchSpan` it was in; None where it was in none.
        images: how many pictures or rows.
        status: the HTTP status of the answer.
    """

    id: str
    pid: int
    tid: int
    arrived_ns: int
    ended_ns: int
    stages: list[tuple[str, int, int]]
    batch_id: int | None
    images: int
    status: int


@dataclass(frozen=True)
class BatchSpan:
    """One batch on an inference stream.

    Attributes:
        id: a number, unique with ``pid``.
        pid: of the worker.
        tid: of the thread that led it.
        begin_ns: when OpenVINO was called.
        end_ns: when its outputs were there.
        size: rows in it.
    """

    id: int
    pid: int
    tid: int
    begin_ns: int
    end_ns: int
    size: int


@dataclass(frozen=True)
class ThreadTrack:
    """One thread of the server, as the kernel's scheduler saw it.

    Attributes:
        pid: of its process.
        tid: its number.
        name: as the kernel shows it, at most 15 characters.
        role: ``serve``, ``accept``, ``openvino``, ``admin``, ``arbiter`` or ``other``.
        samples: (t_ns, cpu_ns, wait_ns, last_cpu); cpu_ns and wait_ns count from the thread's beginning:
            on a CPU, and runnable without one.
        voluntary: times it gave up its CPU to wait, while it was watched.
        involuntary: times it lost its CPU, while it was watched.
        migrations: times two samples saw it on different CPUs: fewer than there were.
        kernel_ns: the part of its CPU time that it spent in the kernel, while it was watched.
    """

    pid: int
    tid: int
    name: str
    role: str
    samples: list[tuple[int, int, int, int]]
    voluntary: int
    involuntary: int
    migrations: int
    kernel_ns: int = 0


@dataclass(frozen=True)
class LayerTime:
    """How long one layer of the compiled model takes.

    Attributes:
        name: of the layer.
        type: of the operation.
        exec_type: the kernel that was chosen, such as ``jit_avx512_I8``.
        precision: what it computes in, as far as the plugin says.
        calls: how many calls were measured.
        mean_us: microseconds of one call, on average.
        batch: the rows of one call.
    """

    name: str
    type: str
    exec_type: str
    precision: str
    calls: int
    mean_us: float
    batch: int


@dataclass(frozen=True)
class Stacks:
    """Sampled Python stacks.

    Attributes:
        rate: samples a second of each process.
        seconds: how long they were taken.
        folded: number of samples by stack; a stack is its frames joined by ``;``, the outermost first.
        source: ``py-spy record``, ``py-spy attach`` or ``in-process sampler``.
        native: whether frames of C libraries are in them.
    """

    rate: int
    seconds: float
    folded: dict[str, int]
    source: str
    native: bool


@dataclass(frozen=True)
class Recording:
    """All that was seen of one server while it was watched.

    Attributes:
        model: that was watched.
        date: ISO 8601, UTC.
        machine: the short name of its fingerprint.
        seconds: the server was watched for.
        began_ns: when watching began.
        ended_ns: when it ended.
        settings: of the server, as far as known: threads, workers, streams, sizes of batches, precision.
        placement: as ``cpuserve doctor --json`` writes it.
        requests: those that ended while watched; as many as the workers' buffers hold.
        batches: those that ended while watched.
        threads: of the server's processes.
        layers: of the model, summed over one call of it.
        stacks: None where none could be taken.
        throttling: what the control group's counters did: ``nr_periods``, ``nr_throttled``,
            ``throttled_usec``, ``share``, ``source``; empty where none counts.
        load: what drove the server, and ``rate`` [1/s], ``p50_ms``, ``p99_ms``, ``mean_ms`` as its clients
            measured them; empty where the load was somebody else's.
        overhead: ``share`` of the rate that watching cost, and how that was measured.
        missing: what could not be seen, each with the line that would let it be seen.
        version: of this format.
    """

    model: str
    date: str
    machine: str
    seconds: float
    began_ns: int
    ended_ns: int
    settings: dict[str, Any] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)
    requests: list[RequestSpan] = field(default_factory=list)
    batches: list[BatchSpan] = field(default_factory=list)
    threads: list[ThreadTrack] = field(default_factory=list)
    layers: list[LayerTime] = field(default_factory=list)
    stacks: Stacks | None = None
    throttling: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    overhead: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    version: int = _VERSION

    def save(self, folder: Path) -> Path:
        """Write it to ``folder``, which is made if needed; returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        file.write_text(json.dumps(asdict(self), separators=(",", ":")) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load_from(cls, path: Path) -> Recording:
        """Read a recording.

        Args:
            path: its file, or the directory of its profile.

        Raises:
            UsageError: there is none, or it is of another version or broken.
        """
        file = path / FILE if path.is_dir() else path
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{file} is no profile: {error}") from None
        if not isinstance(content, dict) or content.get("version") != _VERSION:
            raise UsageError(
                f"{file} is no profile of version {_VERSION}: record it anew with cpuserve profile"
            )
        try:
            return cls._made(content)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{file} is no whole profile: {type(error).__name__} {error}") from None

    @classmethod
    def _made(cls, content: dict[str, Any]) -> Recording:
        requests = [
            RequestSpan(**{**row, "stages": [(name, begin, end) for name, begin, end in row["stages"]]})
            for row in content["requests"]
        ]
        threads = [
            ThreadTrack(**{**row, "samples": [(t, cpu, wait, last) for t, cpu, wait, last in row["samples"]]})
            for row in content["threads"]
        ]
        made = {
            "requests": requests,
            "batches": [BatchSpan(**row) for row in content["batches"]],
            "threads": threads,
            "layers": [LayerTime(**row) for row in content["layers"]],
            "stacks": Stacks(**content["stacks"]) if content["stacks"] is not None else None,
        }
        return cls(**{**content, **made})
