"""Measures networks of the zoo over batch sizes and precisions."""

from __future__ import annotations

import importlib.util
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openvino as ov
import psutil

from cpuserve.authoring.zoo.networks import NETWORKS
from cpuserve.errors import MissingExtra, UsageError
from cpuserve.machine.budget import Budget
from cpuserve.machine.fingerprint import Fingerprint
from cpuserve.machine.topology import Topology
from cpuserve.measuring.journal import Journal

__all__ = [
    "BATCHES",
    "PRECISIONS",
    "NetworkRow",
    "NetworksPlan",
    "machine_name",
    "measure_networks",
    "memory_limit_bytes",
]

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
PRECISIONS = ("f32", "bf16", "f16", "int8")
_SHARE_OF_MEMORY = 0.8  # of what is free, unless a limit is given: the rest is others' and the page cache's


@dataclass(frozen=True)
class NetworksPlan:
    """Which networks, precisions and batch sizes to measure.

    Attributes:
        networks: names of the zoo.
        precisions: some of `PRECISIONS`.
        batches: images at once.
        passes: timed passes a cell.
        limit_bytes: memory limit of the process that measures.

    Raises:
        UsageError: a name or number that cannot be; int8 without NNCF.
    """

    networks: tuple[str, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    passes: int
    limit_bytes: int

    def __post_init__(self) -> None:
        for words, known, flag in (
            (self.networks, tuple(NETWORKS), "--networks"),
            (self.precisions, PRECISIONS, "--precisions"),
        ):
            unknown = [word for word in words if word not in known]
            if unknown or not words:
                what = f"{unknown[0]!r} is none" if unknown else "there is none"
                raise UsageError(f"{flag}: {what} of {', '.join(known)}")
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"--batches: {list(self.batches)} must be numbers from 1 on")
        if "int8" in self.precisions and importlib.util.find_spec("nncf") is None:
            raise MissingExtra("--precisions int8 needs NNCF", "quantize")

    @property
    def cells(self) -> list[tuple[str, str, int]]:
        """Network, precision and batch of every figure, in the order they are measured."""
        return list(itertools.product(self.networks, self.precisions, sorted(set(self.batches))))


@dataclass(frozen=True)
class NetworkRow:
    """The figure of one network, precision and batch size, or why there is none.

    Attributes:
        network: a name of the zoo.
        precision: one of `PRECISIONS`.
        batch: images at once.
        ms_per_image: mean over the passes of a batch's time / its images; None when it was skipped.
        spread_ms: standard deviation of the passes, an image.
        passes_ms: ms an image of each pass.
        estimated_mib: memory estimated before compiling.
        peak_mib: most memory that the process had taken.
        gmacs: multiply-adds of an image, in thousands of millions, counted in the graph.
        foreign_cores: cores that other processes used meanwhile.
        skipped: why it was skipped; empty if it was measured.
    """

    network: str
    precision: str
    batch: int
    ms_per_image: float | None = None
    spread_ms: float = 0.0
    passes_ms: tuple[float, ...] = ()
    estimated_mib: int = 0
    peak_mib: int = 0
    gmacs: float = 0.0
    foreign_cores: float = 0.0
    skipped: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> NetworkRow:
        """The row that was kept as ``record``."""
        return cls(**{**record, "passes_ms": tuple(record.get("passes_ms", ()))})

    @property
    def cell(self) -> tuple[str, str, int]:
        """What it is the figure of."""
        return self.network, self.precision, self.batch


def memory_limit_bytes() -> int:
    """The limit when none is given: four fifths of the memory that is free now."""
    limit = Budget.read().memory_limit_bytes
    free = psutil.virtual_memory().available
    return int(_SHARE_OF_MEMORY * (free if limit is None else min(free, limit)))


def machine_name() -> str:
    """What this machine is called in tables."""
    return Fingerprint.read(Path("/"), Budget.read(), Topology.read()).short


def measure_networks(
    plan: NetworksPlan,
    journal: Journal | None = None,
    progress: Callable[[NetworkRow], None] = lambda _row: None,
) -> list[NetworkRow]:
    """Measure all figures that the journal does not have yet.

    Args:
        plan: what to measure.
        journal: keeps every row as soon as it is known; None keeps nothing.
        progress: called with every row, those of the journal too.

    Returns:
        A row for each of ``plan.cells``.

    Raises:
        UsageError: the journal is of another machine, version or number of passes.
    """
    threads = Budget.read().effective
    done = _resumed(journal, _conditions(plan, threads)) if journal else {}
    rows = []
    for network, precision in itertools.product(plan.networks, plan.precisions):
        mine = [cell for cell in plan.cells if cell[:2] == (network, precision)]
        missing = [batch for *_, batch in mine if (network, precision, batch) not in done]
        for row in _kept(done, mine):
            progress(row)
            rows.append(row)
        for row in _run(plan, network, precision, missing, threads) if missing else ():
            if journal:
                journal.append(asdict(row))
            progress(row)
            rows.append(row)
    order = {cell: number for number, cell in enumerate(plan.cells)}
    return sorted(rows, key=lambda row: order[row.cell])


def _conditions(plan: NetworksPlan, threads: int) -> dict[str, Any]:
    return {
        "machine": machine_name(),
        "openvino": ov.__version__.split("-")[0],
        "threads": threads,
        "passes": plan.passes,
    }


def _resumed(journal: Journal, conditions: dict[str, Any]) -> dict[tuple[str, str, int], NetworkRow]:
    """The rows that were measured; what was skipped is judged again, the limit may be another one."""
    records = journal.read()
    if not records:
        journal.append(conditions)
    for record in records:
        if "machine" in record and record != conditions:
            raise UsageError(
                f"{journal.file} was measured with {_words(record)}, this run is with {_words(conditions)}; "
                "choose another --out"
            )
    rows = [NetworkRow.of(record) for record in records if "network" in record]
    return {row.cell: row for row in rows if not row.skipped}


def _words(conditions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items())


def _kept(
    done: dict[tuple[str, str, int], NetworkRow], cells: Sequence[tuple[str, str, int]]
) -> list[NetworkRow]:
    return [done[cell] for cell in cells if cell in done]


def _run(
    plan: NetworksPlan, network: str, precision: str, batches: list[int], threads: int
) -> Iterator[NetworkRow]:
    command = [
        sys.executable,
        "-m",
        "cpuserve.bench.networks_process",
        network,
        precision,
        *map(str, batches),
    ]
    command += ["--passes", str(plan.passes), "--threads", str(threads)]
    command += ["--limit-bytes", str(plan.limit_bytes)]
    left = list(batches)
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, process_group=0
        ) as child,  # Ctrl-C is for the command
    ):
        try:
            for line in child.stdout or ():
                row = NetworkRow.of({"network": network, "precision": precision, **json.loads(line)})
                left.remove(row.batch)
                yield row
            code = child.wait()
        finally:
            child.kill()  # of the run's end in the middle; has no effect on one that has ended
        said.seek(0)
        reason = _reason(code, said.read())
    for batch in left:
        yield NetworkRow(network, precision, batch, skipped=reason)


def _reason(code: int, said: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}; if memory ran out, a smaller --memory-limit avoids it"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"failed: {lines[-1] if lines else f'exit code {code}'}"[:300]
