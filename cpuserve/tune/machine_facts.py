"""The facts about a machine and its models that decide which settings are worth a trial."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cpuserve.machine.budget import Budget
from cpuserve.machine.placement import SeatPlan
from cpuserve.machine.topology import Topology
from cpuserve.models.repository import ModelFile

__all__ = ["DEFAULT_BATCH", "MachineFacts", "ModelMemory"]

DEFAULT_BATCH = 8
"""The largest batch unless it is set."""

_PROCESS_MIB = 110.0
_SIZE_MIB = 10.0
_ROW_FACTOR = 3.0
_INPUT = re.compile(r'type="Parameter"[^>]*>\s*<data shape="([^"]*)"')


@dataclass(frozen=True)
class ModelMemory:
    """The sizes of a model that decide how much memory a worker needs.

    Attributes:
        weights_bytes: size of the weights.
        row_bytes: size of one input row as float32.
    """

    weights_bytes: int
    row_bytes: int

    @classmethod
    def of(cls, file: ModelFile) -> ModelMemory:
        """Read the model's files; variable sizes count as 1, and formats other than IR as no input."""
        weights = sum(path.stat().st_size for path in file.files)
        shapes = _INPUT.findall(file.xml.read_text(errors="replace")) if file.xml.suffix == ".xml" else []
        return cls(weights, sum(4 * math.prod(map(int, re.findall(r"\b\d+", shape))) for shape in shapes))

    def mib(self, sizes: Sequence[int]) -> float:
        """Memory of one compiled copy for these batch sizes.

        A rough rule: MobileNetV2 of 4 MB with pictures of 0.6 MB took 15, 13, 19 and 26 MiB for batches of
        1, 2, 4 and 8, that is 10 MiB a size and three times the input a row, beside its weights.
        """
        rows = sum(sizes)
        weights = self.weights_bytes / (1 << 20)
        return weights + len(sizes) * _SIZE_MIB + rows * _ROW_FACTOR * self.row_bytes / (1 << 20)


@dataclass(frozen=True)
class MachineFacts:
    """Facts about a machine and the models it will serve.

    Attributes:
        cores: usable physical cores of each NUMA node, the largest first.
        cpus: usable logical CPUs.
        threads: how many threads can run at once under the CPU quota.
        quota: whether the CPU quota is the limit.
        kinds: kinds of core, ``P`` and ``E``; empty on a machine of one kind.
        memory_bytes: usable memory; 0 if unknown.
        workers: number of seats that the defaults make.
        seat_cores: physical cores of the smallest of these seats.
        even: whether these seats are all of one size.
        capabilities: what OpenVINO computes in natively (its ``OPTIMIZATION_CAPABILITIES``).
        allocators: installed allocators beside the C library's.
        openmp: file names of the OpenMP runtimes a worker maps.
        networks: the models.
        memory_factor: measured memory over estimated memory.
    """

    cores: tuple[int, ...]
    cpus: int
    threads: int
    quota: bool = False
    kinds: frozenset[str] = frozenset()
    memory_bytes: int = 0
    workers: int = 1
    seat_cores: int = 1
    even: bool = True
    capabilities: frozenset[str] = frozenset()
    allocators: tuple[str, ...] = ()
    openmp: tuple[str, ...] = ()
    networks: tuple[ModelMemory, ...] = ()
    memory_factor: float = 1.0

    @classmethod
    def of(
        cls,
        topology: Topology,
        budget: Budget,
        defaults: SeatPlan,
        *,
        memory_bytes: int = 0,
        capabilities: Sequence[str] = (),
        allocators: Sequence[str] = (),
        openmp: Sequence[str] = (),
        networks: Sequence[ModelMemory] = (),
    ) -> MachineFacts:
        """The facts of the CPUs that ``budget`` allows, with the seats that the default settings make."""
        groups = topology.cores(budget.cpus)
        nodes: dict[int | None, int] = {}
        kinds = set()
        for group in groups:
            cpu = topology.by_id.get(group[0])
            node = cpu.node if cpu else None
            nodes[node] = nodes.get(node, 0) + 1
            if cpu and cpu.kind:
                kinds.add(str(cpu.kind))
        seats = [len(topology.cores(seat.cpus)) for seat in defaults.seats]
        return cls(
            cores=tuple(sorted(nodes.values(), reverse=True)),
            cpus=len(budget.cpus),
            threads=budget.effective,
            quota=budget.quota_binds,
            kinds=frozenset(kinds),
            memory_bytes=memory_bytes,
            workers=len(seats),
            seat_cores=min(seats),
            even=len(set(seats)) == 1,
            capabilities=frozenset(capabilities),
            allocators=tuple(allocators),
            openmp=tuple(openmp),
            networks=tuple(networks),
        )

    @property
    def total_cores(self) -> int:
        """Usable physical cores."""
        return sum(self.cores)

    @property
    def siblings(self) -> int:
        """Logical CPUs of a physical core: 1 without SMT."""
        return max(1, self.cpus // self.total_cores)

    def seats_of(self, cores: int) -> int:
        """How many seats of ``cores`` cores fit, none spanning two NUMA nodes."""
        return sum(node // cores for node in self.cores)

    def seat_threads(self, workers: int, cores: int, *, logical: bool) -> int:
        """Compute threads of one seat; a CPU quota is divided among the seats."""
        seat = cores * (self.siblings if logical else 1)
        return min(seat, max(1, self.threads // workers)) if self.quota else seat

    def memory_mib(self, workers: int, max_batch: int, copies: int = 1) -> float:
        """Estimated memory of so many workers with batches of up to ``max_batch`` rows.

        Args:
            workers: number of workers.
            max_batch: the largest batch.
            copies: compiled models of each batch in a worker.
        """
        sizes = [1 << power for power in range(max_batch.bit_length()) if 1 << power <= max_batch]
        one = _PROCESS_MIB + copies * sum(network.mib(sizes) for network in self.networks)
        return self.memory_factor * workers * one

    def with_first_trial(self, openmp: Sequence[str], rss_mib: float) -> MachineFacts:
        """The facts with what the trial of the defaults showed.

        Args:
            openmp: file names of the OpenMP runtimes its workers have mapped.
            rss_mib: the memory it took.
        """
        factor = rss_mib / self.memory_mib(self.workers, DEFAULT_BATCH) if rss_mib else 1.0
        return replace(self, openmp=tuple(openmp), memory_factor=factor * self.memory_factor)
