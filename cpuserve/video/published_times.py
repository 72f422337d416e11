"""The times that Distributed NoScope's authors measured, beside their formula and a simulation.

Their table has the seconds for so many frames (and requests to the reference network, fewer since cheaper
stages answer most frames) with 1, 2, 4 and 8 servers of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpuserve.video.replica_plan import formula_s
from cpuserve.video.simulation import Fleet, FrameTimes, simulate

__all__ = ["PublishedCell", "PublishedComparison", "compare_published", "fitted_times"]

NETWORK_S, SERVICE_S = 0.2, 4.26  # of one request alone, as they measured it
TIMES_S: Mapping[tuple[int, int], Mapping[int, float]] = {  # (frames, requests) -> servers -> seconds
    (50, 22): {1: 66, 2: 47, 4: 38, 8: 38},
    (500, 49): {1: 147, 2: 113, 4: 89, 8: 74},
    (1000, 117): {1: 360, 2: 237, 4: 202, 8: 186},
    (2000, 170): {1: 521, 2: 390, 4: 305, 8: 267},
    (5000, 569): {1: 1692, 2: 1201, 4: 984, 8: 875},
}


@dataclass(frozen=True)
class PublishedCell:
    """One time of the table, and what is computed for it; seconds.

    Attributes:
        frames: of the video.
        requests: to the servers.
        servers: how many.
        published_s: what was measured.
        as_published_s: the formula with their own times of one request alone, without a wait in the client.
        fitted_s: the formula with the times that fit the table best.
        simulated_s: a simulation with these times, whose client sends while it makes frames.
        waiting_s: a simulation whose servers begin once the client has sent everything, by a random balancer.
    """

    frames: int
    requests: int
    servers: int
    published_s: float
    as_published_s: float
    fitted_s: float
    simulated_s: float
    waiting_s: float


@dataclass(frozen=True)
class PublishedComparison:
    """The whole table.

    Attributes:
        cells: by frames, then by servers.
        fitted: the times that fit it best.
        findings: where formula, simulation and table differ, one sentence each.
    """

    cells: Sequence[PublishedCell]
    fitted: FrameTimes
    findings: Sequence[str]


def fitted_times() -> FrameTimes:
    """Times of client and server that make the formula's relative errors smallest, by least squares."""
    rows = [
        (requests, servers, time) for (_, requests), by in TIMES_S.items() for servers, time in by.items()
    ]
    factors = np.array([[requests / time, requests / servers / time] for requests, servers, time in rows])
    client, service = np.linalg.lstsq(factors, np.ones(len(rows)))[0]
    return FrameTimes(float(client), [float(service)])


def compare_published(seed: int = 0) -> PublishedComparison:
    """The table beside what formula and simulation say."""
    times, alone = fitted_times(), FrameTimes(0.0, [SERVICE_S], NETWORK_S)
    cells = []
    for (frames, requests), by in TIMES_S.items():
        for servers, published in by.items():
            waiting = Fleet(servers, policy="random", overlaps=False)
            cells.append(
                PublishedCell(
                    *(frames, requests, servers, published),
                    as_published_s=formula_s(requests, servers, alone),
                    fitted_s=formula_s(requests, servers, times),
                    simulated_s=simulate(requests, times, Fleet(servers), seed).makespan_s,
                    waiting_s=simulate(requests, times, waiting, seed).makespan_s,
                )
            )
    return PublishedComparison(cells, times, _findings(cells, times))


def _findings(cells: Sequence[PublishedCell], times: FrameTimes) -> list[str]:
    def errors(name: str) -> list[float]:
        return [100 * abs(getattr(cell, name) / cell.published_s - 1) for cell in cells]

    largest = next(cell for cell in cells if (cell.frames, cell.servers) == (5000, 1))
    fit, overlap, wait = errors("fitted_s"), errors("simulated_s"), errors("waiting_s")
    return [
        f"Their {SERVICE_S} s of one request alone cannot be the time of a request under load: "
        f"{largest.requests} requests to one server would take {largest.as_published_s:.0f} s, measured are "
        f"{largest.published_s:.0f} s.",
        f"The formula fits the table with {times.client_s:.2f} s of the client and {times.service_s[0]:.2f} "
        f"s of a server for each request: {_mean(fit):.1f} % off on average, {max(fit):.1f} % at most, with "
        "two numbers fitted to these twenty times.",
        "The formula is a sum, so in their runs the client did not send while servers worked: a simulation "
        f"that does is {_mean(overlap):.0f} % off on average, since it is done sooner; one whose servers "
        f"begin when all is sent, by a random balancer, {_mean(wait):.0f} %.",
        "With such a client more servers bring little: what it takes alone is "
        f"{100 * largest.requests * times.client_s / _time_of(cells, 5000, 8):.0f} % of the time with 8.",
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _time_of(cells: Sequence[PublishedCell], frames: int, servers: int) -> float:
    return next(cell.published_s for cell in cells if (cell.frames, cell.servers) == (frames, servers))
