"""Predicts how long frames take with so many replicas: a published formula, and a simulation beside it.

The formula is that of Distributed NoScope (Lee, Wang and Chen, University of Wisconsin-Madison):
``latency = T_n + T_cq + (N_R - N_S) / N_S * T_sc + T_sc`` for N_R requests to N_S servers, with the time of
one request on the network T_n and in a server T_sc, and the time that the requests wait in the client T_cq,
which is what the client takes to make them all. It is a sum: a client that sends while it makes frames is
done sooner, as the simulation shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cpuserve.errors import UsageError
from cpuserve.video.simulation import Fleet, FrameTimes, SimulatedRun, simulate

__all__ = ["PlannedRun", "ReplicaPlan", "formula_s", "plan_replicas"]

Bottleneck = Literal["client", "replicas", "cores", "nothing"]
_KNEE = 1.1
_BUSY = 0.9
_MOST_WORK = 100_000_000  # frames times replicas of all runs: minutes of simulation


def formula_s(requests: int, servers: int, times: FrameTimes) -> float:
    """The time that the formula gives, seconds."""
    service = sum(times.service_s) / len(times.service_s)
    waiting = requests * times.client_s
    return times.network_s + waiting + (requests - servers) / servers * service + service


@dataclass(frozen=True)
class PlannedRun:
    """A prediction for so many frames and replicas.

    Attributes:
        frames: how many there are.
        requests: how many of them go to the replicas.
        replicas: how many there are.
        formula_s: what the formula says.
        makespan_s: what the simulation says.
        p50_ms: of the latencies from when a frame is made to its answer, simulated.
        p99_ms: the same.
        bottleneck: what is busy most of the time: the client, the replicas, the cores that both share, or
            nothing.
        client_busy: share of the time.
        replicas_busy: share of the time, mean of the replicas.
    """

    frames: int
    requests: int
    replicas: int
    formula_s: float
    makespan_s: float
    p50_ms: float
    p99_ms: float
    bottleneck: Bottleneck
    client_busy: float
    replicas_busy: float


@dataclass(frozen=True)
class ReplicaPlan:
    """Predictions for several numbers of frames and replicas.

    Attributes:
        runs: by frames, then by replicas.
        knee: the fewest of the replicas asked for with which most frames take at most a tenth longer than
            with the number that is best.
        balance: how many replicas are as fast as the client; more bring nothing.
        findings: where formula and simulation differ, and why; one sentence each.
    """

    runs: Sequence[PlannedRun]
    knee: int
    balance: float
    findings: Sequence[str]


def plan_replicas(
    frames: Sequence[int],
    replicas: Sequence[int],
    times: FrameTimes,
    fleet: Fleet,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> ReplicaPlan:
    """Predict the runs of all pairs of numbers of frames and replicas.

    Args:
        frames: numbers of frames.
        replicas: numbers of replicas.
        times: what a frame takes; ``client_s`` of every frame, whether it is sent or not.
        fleet: how frames are handed out; its number of replicas and its window are those of each run.
        share: of the frames that go to the replicas; the others cost the client its time only.
        seed: of the simulation.

    Raises:
        UsageError: they are too many to be simulated.
    """
    if sum(frames) * sum(replicas) > _MOST_WORK:
        raise UsageError(
            f"{max(frames)} frames and {max(replicas)} replicas take too long to simulate: take fewer "
            f"--frames or --replicas, whose sums give at most {_MOST_WORK} when multiplied"
        )
    runs = []
    for count in frames:
        requests = max(1, round(count * share))
        sent = replace(times, client_s=times.client_s * count / requests)  # it makes all frames
        for servers in replicas:
            ahead = None if fleet.policy == "random" else 2 * servers * fleet.in_flight
            these = replace(fleet, replicas=servers, window=ahead)  # as `Replicas.in_flight`
            found = simulate(requests, sent, these, seed)
            runs.append(_planned(count, requests, these, sent, found))
    last = [run for run in runs if run.frames == max(frames)]
    best = min(run.makespan_s for run in last)
    knee = min(run.replicas for run in last if run.makespan_s <= _KNEE * best)
    service = sum(times.service_s) / len(times.service_s) / fleet.at_once
    client = times.client_s / share
    balance = service / client if client else float("inf")
    return ReplicaPlan(runs, knee, balance, _findings(runs, fleet))


def _findings(runs: Sequence[PlannedRun], fleet: Fleet) -> list[str]:
    """Where formula and simulation differ, and why."""
    off = [100 * (run.formula_s / run.makespan_s - 1) for run in runs]
    found = [
        f"the formula is {min(off):+.0f} to {max(off):+.0f} % off the simulated times: it is a sum, and "
        "takes no account of a client that sends while replicas work"
    ]
    if any(run.requests < run.replicas for run in runs):
        found.append("where frames are fewer than replicas it gives less than one frame takes")
    if fleet.policy == "random":
        found.append(
            "its frames go to all replicas alike; a random balancer lets some wait while others rest"
        )
    if fleet.at_once > 1:
        found.append(f"its replicas infer one frame at a time, those simulated {fleet.at_once}")
    if fleet.shares_cores:
        found.append("its client has a core of its own, the simulated one takes time from the replicas")
    return found


def _planned(frames: int, requests: int, fleet: Fleet, times: FrameTimes, found: SimulatedRun) -> PlannedRun:
    replicas_busy = sum(found.replicas_busy) / fleet.replicas
    return PlannedRun(
        frames=frames,
        requests=requests,
        replicas=fleet.replicas,
        formula_s=formula_s(requests, fleet.replicas, times),
        makespan_s=found.makespan_s,
        p50_ms=1000 * found.latency_s(0.50),
        p99_ms=1000 * found.latency_s(0.99),
        bottleneck=_bottleneck(fleet, found.client_busy, replicas_busy),
        client_busy=found.client_busy,
        replicas_busy=replicas_busy,
    )


def _bottleneck(fleet: Fleet, client: float, replicas: float) -> Bottleneck:
    if fleet.shares_cores and replicas + client / (fleet.replicas * fleet.at_once) >= _BUSY:
        return "cores"
    if max(client, replicas) < _BUSY:
        return "nothing"
    return "client" if client > replicas else "replicas"
