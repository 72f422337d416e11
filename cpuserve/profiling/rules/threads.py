"""Rules about threads and CPUs: shared cores, too many or too few threads, quotas, spinning, moves."""

from __future__ import annotations

from itertools import combinations, pairwise

from cpuserve.machine.files import parse_cpulist
from cpuserve.profiling.finding import Case, ProfileFinding, percent, rule
from cpuserve.profiling.thread_times import ThreadTimes, main_cpu

__all__ = ["RULES"]

_WORKS = 0.05  # of the time on a CPU: a thread that counts
_WAITS = 0.15  # of the time a thread wants to run
_SAME_CPU = 0.6  # of a process's CPU time on one CPU
_BUSY = 0.8  # of their time: serving threads that do not keep up
_SPARE_CPUS = 0.3
_KEPT = 0.95  # of each CPU or thread added
_FULL = 0.8  # of the CPUs: the server itself fills them
_THROTTLED = 0.05  # of the quota's periods
_SPINS = 0.1  # of all CPU time
_SPINS_CORES = 0.1  # below it the waking and falling asleep of threads is all there is
_MOVES_PER_S = 5.0


@rule("shared-core", "workers")
def shared_core(case: Case) -> ProfileFinding | None:
    """Two workers run on the same CPU and wait for it, while each could have its own."""
    at = {pid: _home(threads) for pid, threads in case.workers.items()}
    for one, two in combinations(sorted(at), 2):
        cpu, share, wait = at[one]
        other_cpu, other_share, other_wait = at[two]
        if (
            cpu != other_cpu
            or cpu < 0
            or min(share, other_share) < _SAME_CPU
            or min(wait, other_wait) < _WAITS
        ):
            continue
        sharing = sum(home[0] == cpu and home[2] >= _WAITS for home in at.values())
        mean = (wait + other_wait) / 2
        return ProfileFinding(
            "high",
            f"{sharing} workers share CPU {cpu}: processes {one} and {two} run on it and wait "
            f"{percent(mean)} of the time they could work{_seats(case, one, two)}",
            "workers",
            "give each worker CPUs of its own: no more workers than CPUs, and no taskset or cpuset around "
            "them "
            "(cpuserve doctor shows who sits where); restart the server so that it plans its seats anew",
            max(1.0, _KEPT * min(sharing, case.headroom)) if case.cpus > 1 else None,
        )
    return None


def _home(threads: list[ThreadTimes]) -> tuple[int, float, float]:
    """The CPU that a process used most, the share of its CPU time there, and its waiting share."""
    spent: dict[int, float] = {}
    for busy in threads:
        cpu, share = main_cpu(busy.track)
        spent[cpu] = spent.get(cpu, 0.0) + busy.cpu_s * share
    total = sum(busy.cpu_s for busy in threads)
    if not total or sum(busy.cpu_share for busy in threads) < _WORKS:
        return -1, 0.0, 0.0
    cpu = max(spent, key=lambda number: spent[number])
    wait = sum(busy.wait_s for busy in threads)
    return cpu, spent[cpu] / total, wait / (wait + total)


def _seats(case: Case, one: int, two: int) -> str:
    """Whether the plan had them apart, where the plan is known."""
    seat_of = {worker["pid"]: worker["seat"] for worker in case.recording.placement.get("workers") or ()}
    cpus = {seat["index"]: seat["cpus"] for seat in case.recording.placement.get("seats") or ()}
    planned = [cpus.get(seat_of.get(pid)) for pid in (one, two)]
    if None in planned or planned[0] == planned[1]:
        return ""
    return f" (planned on CPUs {planned[0]} and {planned[1]}: something has moved them)"


@rule("few-threads", "threads")
def few_threads(case: Case) -> ProfileFinding | None:
    """Serving threads are the limit, fewer than the CPUs, with work other than decoding."""
    capacity = case.summary.utilisation
    threads = capacity.count("serving threads")
    stage, share = _most(case)
    if (
        capacity.busy("serving threads") < _BUSY
        or threads >= case.cpus
        or case.spare_cpus < _SPARE_CPUS
        or stage in ("decode", "resize")
    ):
        return None
    per_worker = max(1, len(case.workers))
    python = stage in ("post", "serialise")
    return ProfileFinding(
        "high",
        f"serving threads are the bottleneck: the {threads} there are work "
        f"{percent(capacity.busy('serving threads'))} of the time, {percent(share)} of it in {stage}, while "
        f"{case.spare_cpus:.1f} of {case.cpus} CPUs idle",
        "threads",
        f"raise threads from {threads // per_worker} to {case.cpus // per_worker} a worker"
        + (", or workers: Python code of one process runs on one CPU at a time" if python else ""),
        max(1.0, _KEPT * min(case.cpus / threads, case.headroom)) if not python else None,
    )


def _most(case: Case) -> tuple[str, float]:
    """The stage that takes most of the serving threads' work, and its share."""
    stages = case.summary.utilisation.stages
    if not stages:
        return "", 0.0
    stage = max(stages, key=lambda name: stages[name])
    return stage, case.summary.utilisation.held(stage)


@rule("throttled", "container")
def throttled(case: Case) -> ProfileFinding | None:
    """The control group's quota stops the server."""
    counts = case.recording.throttling
    share = float(counts.get("share") or 0.0)
    if share < _THROTTLED:
        return None
    stopped_s = float(counts.get("throttled_usec") or 0) / 1e6
    return ProfileFinding(
        "high" if share > 0.3 else "medium",
        f"the CPU quota stops the server: in {percent(share)} of its periods, {stopped_s:.1f} s over all "
        f"CPUs in {case.recording.seconds:.0f} s ({counts.get('source') or 'control group'})",
        "container",
        "raise the container's CPU limit, or lower threads and workers to what it allows: latency then loses "
        "the stops",
    )


@rule("oversubscribed", "workers", "threads")
def oversubscribed(case: Case) -> ProfileFinding | None:
    """Threads are ready but wait for a CPU: more of them, or other programs, than there are CPUs."""
    threads = [busy for found in case.workers.values() for busy in found if busy.cpu_share > _WORKS]
    cpu, wait = sum(busy.cpu_s for busy in threads), sum(busy.wait_s for busy in threads)
    share = wait / (cpu + wait) if cpu else 0.0
    if share < _WAITS or shared_core(case) or throttled(case):
        return None
    used = cpu / case.summary.window.seconds
    text = (
        f"threads wait for a CPU: {len(threads)} of them on {case.cpus} CPUs wait {percent(share)} of the "
        f"time they could work, though the server uses {used:.1f} CPUs"
    )
    if used > _FULL * case.cpus:
        more = "lower threads or workers until there is no more than one working thread a CPU"
        return ProfileFinding("medium", text, "threads", more)
    more = "other programs take the CPUs (the load's client may be one): move them, or use fewer workers"
    return ProfileFinding("low", text, "workers", more)


@rule("spinning", "OMP_WAIT_POLICY")
def spinning(case: Case) -> ProfileFinding | None:
    """Inference threads burn CPU time while no batch runs."""
    cpu = case.summary.cpu
    share = cpu.share("spin")
    if share < _SPINS or cpu.spin < _SPINS_CORES * cpu.seconds:
        return None
    return ProfileFinding(
        "medium",
        f"inference threads spin: {percent(share)} of the CPU time is theirs while no batch runs "
        f"({cpu.spin:.1f} s)",
        "OMP_WAIT_POLICY",
        "start the server with OMP_WAIT_POLICY=passive and KMP_BLOCKTIME=0 in its environment",
        1 / (1 - share),
    )


@rule("wandering", "cores_per_worker", "node_id")
def wandering(case: Case) -> ProfileFinding | None:
    """Threads move between CPUs all the time, or between NUMA nodes away from their memory."""
    node_of = {cpu: node for node, cpus in _nodes(case).items() for cpu in cpus}
    moves, across, seconds = 0, 0, 0.0
    for found in case.workers.values():
        for busy in found:
            if busy.cpu_share <= _WORKS:
                continue
            moves += busy.track.migrations
            seconds += (busy.track.samples[-1][0] - busy.track.samples[0][0]) / 1e9
            lasts = [sample[3] for sample in busy.track.samples]
            across += sum(node_of.get(a) != node_of.get(b) for a, b in pairwise(lasts))
    rate = moves / seconds if seconds else 0.0
    if across and across / seconds > 0.1:
        return ProfileFinding(
            "medium",
            f"threads change the NUMA node: {across / seconds:.1f} times a second each, while their memory "
            "stays where it was first written",
            "node_id",
            "let each worker sit inside one node (workers at least the number of nodes; cpuserve doctor)",
        )
    if rate < _MOVES_PER_S:
        return None
    return ProfileFinding(
        "low",
        f"threads move between CPUs: at least {rate:.0f} times a second each, and leave their caches behind",
        "cores_per_worker",
        "lower cores_per_worker (more workers of fewer cores), or lower threads to the number of cores",
    )


def _nodes(case: Case) -> dict[int, list[int]]:
    topology = case.recording.placement.get("topology") or {}
    return {
        node["id"]: [cpu for core in node["cores"] for cpu in parse_cpulist(core["cpus"])]
        for node in topology.get("nodes") or ()
    }


RULES = (shared_core, few_threads, throttled, oversubscribed, spinning, wandering)
