"""Adds up the latency of requests by stage, and names the part that is in no stage."""

from __future__ import annotations

from dataclasses import dataclass

from cpuserve.profiling.recording import Recording, RequestSpan
from cpuserve.serving.stages import STAGE_NAMES

__all__ = ["ENOUGH", "Latency", "StageTime", "answered", "percentile"]

ENOUGH = 0.95
"""The share of the measured latency that the stages must account for."""


@dataclass(frozen=True)
class StageTime:
    """One stage over all requests.

    Attributes:
        name: of `cpuserve.serving.stages.STAGES`.
        mean_ms: a request, those without the stage counted as 0.
        p99_ms: 99th percentile, counted the same way.
        share: of the measured mean latency.
    """

    name: str
    mean_ms: float
    p99_ms: float
    share: float


@dataclass(frozen=True)
class Latency:
    """The latency of answered requests and its parts.

    Attributes:
        requests: how many were answered 200 and counted.
        mean_ms: from whole request to answer, by the server's clock.
        p50_ms: likewise.
        p99_ms: likewise.
        client_ms: mean as the clients measured it; None where the load was somebody else's.
        stages: in the order of `cpuserve.serving.stages.STAGES`; those nobody entered are left out.
        accounted_share: the stages' sum over the latency that was measured: the clients' where they did,
            else the server's. Above 1 where the server ends its work after the client has the answer.
        server_share: the stages' sum over the server's own.
        missing: what the stages do not account for, in words; empty when they account for `ENOUGH`.
    """

    requests: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    client_ms: float | None
    stages: tuple[StageTime, ...]
    accounted_share: float
    server_share: float
    missing: str

    @property
    def measured_ms(self) -> float:
        """The mean that shares are of: the clients' where they measured, else the server's."""
        return self.mean_ms if self.client_ms is None else self.client_ms

    def stage(self, *names: str) -> float:
        """Milliseconds of these stages together, a request."""
        return sum(stage.mean_ms for stage in self.stages if stage.name in names)

    @classmethod
    def of(cls, recording: Recording) -> Latency:
        """Add up the stages of all requests that were answered 200."""
        requests = answered(recording)
        totals = sorted((one.ended_ns - one.arrived_ns) / 1e6 for one in requests)
        mean = sum(totals) / len(totals) if totals else 0.0
        said = recording.load.get("mean_ms")
        client = float(said) if said and totals else None
        measured = client or mean
        stages = []
        for name in STAGE_NAMES:
            spent = sorted(_spent_ms(one, name) for one in requests)
            if any(spent):
                own = sum(spent) / len(spent)
                stages.append(StageTime(name, own, percentile(spent, 0.99), own / measured))
        total = sum(stage.mean_ms for stage in stages)
        return cls(
            requests=len(requests),
            mean_ms=mean,
            p50_ms=percentile(totals, 0.5),
            p99_ms=percentile(totals, 0.99),
            client_ms=client,
            stages=tuple(stages),
            accounted_share=total / measured if measured else 0.0,
            server_share=total / mean if mean else 0.0,
            missing=_missing(total, mean, client),
        )


def answered(recording: Recording) -> list[RequestSpan]:
    """The requests that were answered 200."""
    return [request for request in recording.requests if request.status == 200]


def percentile(ascending: list[float], share: float) -> float:
    """The value below which ``share`` of them lie (nearest rank); 0 for none."""
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def _spent_ms(request: RequestSpan, name: str) -> float:
    return sum(end - begin for stage, begin, end in request.stages if stage == name) / 1e6


def _missing(total: float, mean: float, client: float | None) -> str:
    if not mean:
        return "no request was answered 200 while the server was watched"
    measured = client or mean
    if total >= ENOUGH * measured:
        return ""
    parts = []
    inside = mean - total
    if inside > (1 - ENOUGH) / 2 * measured:
        parts.append(f"{inside:.2f} ms between two stages, inside the server")
    if client is not None and client - mean > (1 - ENOUGH) / 2 * measured:
        parts.append(
            f"{client - mean:.2f} ms between the client and the server: sending, bytes that wait in the "
            "kernel until a thread reads them, and the client's own work"
        )
    gap = f"{measured - total:.2f} ms of {measured:.2f} ms ({1 - total / measured:.0%}) are in no stage"
    return gap + (": " + " and ".join(parts) if parts else "")
