"""The rules that drop settings not worth a trial, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cpuserve.tune.machine_facts import DEFAULT_BATCH, MachineFacts

__all__ = ["RULES", "SpaceRule", "Values"]

Values = Mapping[str, Any]
"""A value a knob; None leaves it to its default."""


@dataclass(frozen=True)
class SpaceRule:
    """One rule that drops settings.

    Attributes:
        name: for reports.
        why: the reason, one sentence.
        knobs: what it looks at.
        allows: whether it lets these values through.
    """

    name: str
    why: str
    knobs: tuple[str, ...]
    allows: Callable[[MachineFacts, Values], bool]


RULES: list[SpaceRule] = []
"""All rules; the first that objects is the one that is named."""


def _rule(
    *knobs: str,
) -> Callable[[Callable[[MachineFacts, Values], bool]], Callable[[MachineFacts, Values], bool]]:
    def take(function: Callable[[MachineFacts, Values], bool]) -> Callable[[MachineFacts, Values], bool]:
        why = " ".join((function.__doc__ or "").split())
        RULES.append(SpaceRule(function.__name__.strip("_").replace("_", "-"), why, knobs, function))
        return function

    return take


@_rule("env.OMP_NUM_THREADS", "cores_per_worker")
def _openmp_is_there(facts: MachineFacts, values: Values) -> bool:
    """OMP_NUM_THREADS says nothing to oneTBB: it is tried where OpenMP is mapped, below a seat's cores."""
    count = values["env.OMP_NUM_THREADS"]
    # the server sets it to the cores of the seat by itself
    return count is None or (bool(facts.openmp) and count < values["cores_per_worker"])


@_rule("env.KMP_BLOCKTIME", "env.KMP_AFFINITY")
def _intel_openmp_is_there(facts: MachineFacts, values: Values) -> bool:
    """KMP_ variables are read by libiomp5 and libomp only: they are tried where a worker maps one."""
    reads = any(name.startswith(("libiomp5", "libomp")) for name in facts.openmp)
    return reads or (values["env.KMP_BLOCKTIME"] is None and values["env.KMP_AFFINITY"] is None)


@_rule("scheduling_core_type")
def _two_kinds_of_core(facts: MachineFacts, values: Values) -> bool:
    """A kind of core is chosen only on machines that have two."""
    return len(facts.kinds) > 1 or values["scheduling_core_type"] is None


@_rule("use_logical_core")
def _smt_is_there(facts: MachineFacts, values: Values) -> bool:
    """Logical CPUs are counted only where cores have more than one."""
    return facts.siblings > 1 or not values["use_logical_core"]


@_rule("precision")
def _native_precision(facts: MachineFacts, values: Values) -> bool:
    """A precision that the CPU does not compute in natively costs accuracy and brings no speed."""
    native = {"bf16": "BF16", "f16": "FP16"}.get(values["precision"])
    return native is None or native in facts.capabilities


@_rule("workers", "cores_per_worker")
def _seats_fit(facts: MachineFacts, values: Values) -> bool:
    """No more seats than the cores allow: a seat has its own cores, all of one NUMA node."""
    workers: int = values["workers"]
    return workers <= facts.seats_of(values["cores_per_worker"])


@_rule("workers", "cores_per_worker")
def _cores_are_used(facts: MachineFacts, values: Values) -> bool:
    """At least half of the cores have a seat: fewer are dominated by the same seats, twice."""
    used: int = values["workers"] * values["cores_per_worker"]
    return 2 * used >= min(facts.total_cores, facts.threads)


@_rule("workers", "cores_per_worker", "use_logical_core", "inference_threads")
def _inference_fits_the_seat(facts: MachineFacts, values: Values) -> bool:
    """Inference has at most a thread a CPU of the seat and at least half as many: more would take turns."""
    seat = _seat(facts, values)
    return bool(seat <= 2 * values["inference_threads"] <= 2 * seat)


@_rule("workers", "inference_threads")
def _threads_within_the_budget(facts: MachineFacts, values: Values) -> bool:
    """The inference threads of all workers together are no more than may run at once."""
    allowed = facts.threads if facts.quota else facts.cpus
    return bool(values["workers"] == 1 or values["workers"] * values["inference_threads"] <= allowed)


@_rule("inference_threads", "streams")
def _streams_share_evenly(_host: MachineFacts, values: Values) -> bool:
    """Each stream has the same number of threads, one at least: uneven streams wait for the slowest."""
    return bool(values["inference_threads"] % values["streams"] == 0)


@_rule("streams", "share_weights")
def _weights_can_be_shared(_host: MachineFacts, values: Values) -> bool:
    """Streams share their weights or not where there are several: a lone one has nobody to share with."""
    return bool(values["streams"] > 1 or values["share_weights"])


@_rule("share_weights", "enable_cpu_pinning")
def _pinned_weights_are_shared(_host: MachineFacts, values: Values) -> bool:
    """Pinned streams share their weights: OpenVINO would pin each compiled model to the same CPUs."""
    return bool(values["share_weights"] or not values["enable_cpu_pinning"])


@_rule("streams", "threads")
def _every_stream_is_fed(_host: MachineFacts, values: Values) -> bool:
    """A serving thread a stream at least: a stream that nobody feeds stands still."""
    return bool(values["threads"] >= values["streams"])


@_rule("workers", "cores_per_worker", "use_logical_core", "threads")
def _serving_fits_the_seat(facts: MachineFacts, values: Values) -> bool:
    """Serving threads: from half as many as the seat has CPUs to twice as many, for they also wait."""
    seat = _seat(facts, values)
    return bool(seat <= 2 * values["threads"] <= 4 * seat)


@_rule("threads", "max_batch")
def _batches_can_fill(_host: MachineFacts, values: Values) -> bool:
    """Requests of one picture fill a batch of as many rows as a worker has threads: no other size differs."""
    threads, rows = values["threads"], values["max_batch"]
    if rows > DEFAULT_BATCH:
        return bool(rows <= threads)
    return bool(rows == DEFAULT_BATCH or rows < threads)


@_rule("threads", "streams", "max_batch", "max_queue_delay_us")
def _company_can_come(_host: MachineFacts, values: Values) -> bool:
    """Rows wait for company only where more threads than streams can bring some."""
    delayed = values["max_queue_delay_us"] > 0
    return not delayed or bool(values["threads"] > values["streams"] and values["max_batch"] > 1)


@_rule("inference_threads", "enable_cpu_pinning")
def _pinning_can_matter(facts: MachineFacts, values: Values) -> bool:
    """Threads are pinned where one model has several, and no quota moves them about."""
    may = values["inference_threads"] > 1 and len(facts.networks) < 2 and not facts.quota
    return may or not values["enable_cpu_pinning"]


@_rule("workers", "streams", "share_weights", "max_batch")
def _memory_fits(facts: MachineFacts, values: Values) -> bool:
    """The estimated memory of all workers is within the limit."""
    if not facts.memory_bytes:
        return True
    copies = 1 if values["share_weights"] else values["streams"]
    return facts.memory_mib(values["workers"], values["max_batch"], copies) <= facts.memory_bytes / (1 << 20)


def _seat(facts: MachineFacts, values: Values) -> int:
    return facts.seat_threads(
        values["workers"], values["cores_per_worker"], logical=values["use_logical_core"]
    )
