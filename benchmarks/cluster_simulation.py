"""Simulates many servers behind a balancer, event by event: arrivals, choices, failures, rolling updates.

It differs from `cpuserve.video.simulation`, which has one client that waits for its answers: here requests
arrive whether or not earlier ones are answered, servers refuse when they are full, die, and are updated.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from benchmarks.request_counts import RequestCounts

__all__ = ["Cluster", "ClusterRun", "Policy", "Traffic", "Trouble", "simulate_cluster"]

Policy = Literal["round robin", "random", "power of two", "full scan"]
_Event = tuple[float, int, Callable[[], None]]


@dataclass(frozen=True)
class Traffic:
    """What arrives.

    Attributes:
        rate: requests a second, on average.
        seconds: how long they arrive.
        burst: how many times the rate requests arrive in a burst; 1 is Poisson's arrivals throughout.
        burst_share: the part of the time that bursts take, 0 to 1.
        burst_s: how long one burst takes, on average.
    """

    rate: float
    seconds: float
    burst: float = 1.0
    burst_share: float = 0.1
    burst_s: float = 1.0


@dataclass(frozen=True)
class Cluster:
    """The servers and their balancers.

    Attributes:
        servers: how many there are.
        at_once: requests that each answers at a time: its seats times its streams.
        service_s: seconds that an answer takes, one of which is drawn for each request.
        policy: by which a balancer chooses. ``power of two`` takes the less busy of two at random,
            ``full scan`` the least busy of all.
        balancers: how many there are, each of which knows only what went through itself.
        slow_servers: how many need longer.
        slow_times: how many times as long they need.
        queue: requests that may wait in a server; a further one is refused, and asked elsewhere once.
    """

    servers: int
    at_once: int
    service_s: Sequence[float]
    policy: Policy = "full scan"
    balancers: int = 1
    slow_servers: int = 0
    slow_times: float = 1.0
    queue: int = 64


@dataclass(frozen=True)
class Trouble:
    """What goes wrong or is changed.

    Attributes:
        mtbf_s: seconds between two deaths of one server, on average; 0: none dies.
        noticed_s: seconds until the balancers leave a dead server out; it refuses connections meanwhile.
        start_s: seconds until a server is back.
        update_at_once: servers that are updated at the same time, then the next ones; 0: no update.
        drain_s: seconds that a server which is updated still answers what it has.
        stopped_share: part of every second in which the last server does nothing.
    """

    mtbf_s: float = 0.0
    noticed_s: float = 2.0
    start_s: float = 10.0
    update_at_once: int = 0
    drain_s: float = 5.0
    stopped_share: float = 0.0


@dataclass
class ClusterRun:
    """What came of a simulation.

    Attributes:
        latencies_s: of answered requests, in order of their answers.
        requests: that arrived.
        refused: that two servers had no room for.
        lost: whose second server died too, or that found none.
        again: that were sent to a second server.
        answered_by: answers of each server.
        busy_s: seconds that each server computed, times what it computed at once.
        seconds: until the last answer.
    """

    latencies_s: list[float] = field(default_factory=list)
    requests: int = 0
    refused: int = 0
    lost: int = 0
    again: int = 0
    answered_by: list[int] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def latency_s(self, share: float) -> float:
        """The latency that so large a share of the answers does not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class _Request:
    since: float
    balancer: int
    tries: int = 0
    avoid: int = -1


@dataclass
class _Server:
    """``alive``: it takes connections; ``listed``: the balancers choose it; ``era`` counts its deaths."""

    alive: bool = True
    listed: bool = True
    era: int = 0
    running: int = 0
    waiting: deque[_Request] = field(default_factory=deque)
    inside: dict[int, _Request] = field(default_factory=dict)


def simulate_cluster(
    traffic: Traffic, cluster: Cluster, trouble: Trouble | None = None, seed: int = 0
) -> ClusterRun:
    """Let traffic arrive at a cluster.

    Args:
        traffic: what arrives.
        cluster: what answers it.
        trouble: what goes wrong.
        seed: of all draws; equal seeds give equal runs.
    """
    return _Simulation(traffic, cluster, trouble or Trouble(), random.Random(seed)).run()  # noqa: S311  # no secrets


class _Simulation:
    def __init__(self, traffic: Traffic, cluster: Cluster, trouble: Trouble, dice: random.Random) -> None:
        self._traffic, self._cluster, self._trouble, self._dice = traffic, cluster, trouble, dice
        self._now = 0.0
        self._events: list[_Event] = []
        self._number = 0
        self._servers = [_Server() for _ in range(cluster.servers)]
        self._listed = list(range(cluster.servers))
        self._counts = [RequestCounts(cluster.servers, dice) for _ in range(cluster.balancers)]
        self._turn = [dice.randrange(cluster.servers) for _ in range(cluster.balancers)]
        self._bursting = False
        self._under_way = 0
        self._tally = ClusterRun(answered_by=[0] * cluster.servers, busy_s=[0.0] * cluster.servers)

    def run(self) -> ClusterRun:
        self._after(0.0, self._arrive)
        if self._traffic.burst > 1:
            self._after(0.0, self._turn_burst)
        if self._trouble.mtbf_s:
            for place in range(len(self._servers)):
                self._after(self._dice.expovariate(1 / self._trouble.mtbf_s), partial(self._die, place))
        if self._trouble.update_at_once:
            self._update(0)
        while self._events and (self._now < self._traffic.seconds or self._under_way):
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        self._tally.seconds = self._now
        return self._tally

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self._now + seconds, self._number, happen))

    def _arrive(self) -> None:
        if self._now >= self._traffic.seconds:
            return
        self._tally.requests += 1
        self._under_way += 1
        self._choose(_Request(self._now, self._dice.randrange(self._cluster.balancers)))
        self._after(self._dice.expovariate(self._rate()), self._arrive)

    def _rate(self) -> float:
        """Requests a second now: between bursts as many fewer as bursts bring more."""
        traffic = self._traffic
        if self._bursting:
            return traffic.rate * traffic.burst
        rest = 1 - traffic.burst * traffic.burst_share if traffic.burst > 1 else 1.0
        between = 1 - traffic.burst_share if traffic.burst > 1 else 1.0
        return max(1e-9, traffic.rate * rest / between)

    def _turn_burst(self) -> None:
        traffic = self._traffic
        self._bursting = not self._bursting
        mean = traffic.burst_s if self._bursting else traffic.burst_s * (1 / traffic.burst_share - 1)
        self._after(self._dice.expovariate(1 / mean), self._turn_burst)

    def _choose(self, request: _Request) -> None:
        place = self._chosen(request)
        if place is None:
            self._end("lost")
            return
        server = self._servers[place]
        if not server.alive:  # the connection is refused at once
            self._elsewhere(request, place, "lost")
        elif len(server.waiting) >= self._cluster.queue:
            self._elsewhere(request, place, "refused")
        else:
            self._counts[request.balancer].change(place, 1)
            if server.running < self._cluster.at_once:
                self._begin(place, request)
            else:
                server.waiting.append(request)

    def _chosen(self, request: _Request) -> int | None:
        counts, listed, dice = self._counts[request.balancer], self._listed, self._dice
        if self._cluster.policy == "full scan":
            return counts.least(request.avoid)
        if not listed:
            return None
        if self._cluster.policy == "round robin":
            self._turn[request.balancer] += 1
            found = listed[self._turn[request.balancer] % len(listed)]
            if found == request.avoid:
                self._turn[request.balancer] += 1
                found = listed[self._turn[request.balancer] % len(listed)]
            return found
        tries = 2 if self._cluster.policy == "power of two" else 1
        some = [one for one in dice.choices(listed, k=tries + 2) if one != request.avoid][:tries]
        return min(some or listed[:1], key=counts.__getitem__)

    def _elsewhere(self, request: _Request, place: int, why: Literal["lost", "refused"]) -> None:
        if request.tries:
            self._end(why)
            return
        request.tries, request.avoid = 1, place
        self._tally.again += 1
        self._choose(request)

    def _end(self, why: Literal["lost", "refused"]) -> None:
        self._under_way -= 1
        setattr(self._tally, why, getattr(self._tally, why) + 1)

    def _begin(self, place: int, request: _Request) -> None:
        server = self._servers[place]
        server.running += 1
        self._number += 1
        number, era = self._number, server.era
        server.inside[number] = request
        takes = self._dice.choice(self._cluster.service_s)
        if place < self._cluster.slow_servers:
            takes *= self._cluster.slow_times
        self._after(self._stretched(place, takes), lambda: self._answer(place, number, era, takes))

    def _stretched(self, place: int, takes: float) -> float:
        """How long it takes where the server stands still for the first part of every second."""
        stopped = self._trouble.stopped_share
        if not stopped or place != len(self._servers) - 1:
            return takes
        now, left = self._now, takes
        while left > 0:
            now = max(now, int(now) + stopped) if now % 1 < stopped else now
            step = min(left, int(now) + 1 - now)
            now, left = now + step, left - step
        return now - self._now

    def _answer(self, place: int, number: int, era: int, took_s: float) -> None:
        server = self._servers[place]
        if era != server.era:  # it died meanwhile
            return
        request = server.inside.pop(number)
        server.running -= 1
        self._counts[request.balancer].change(place, -1)
        self._under_way -= 1
        self._tally.latencies_s.append(self._now - request.since)
        self._tally.answered_by[place] += 1
        self._tally.busy_s[place] += took_s
        if server.waiting:
            self._begin(place, server.waiting.popleft())

    def _die(self, place: int) -> None:
        server = self._servers[place]
        if server.alive:
            self._stop(place)
            self._after(self._trouble.noticed_s, lambda: self._list(place, listed=server.alive))
            self._after(self._trouble.start_s, lambda: self._start(place))
        self._after(self._dice.expovariate(1 / self._trouble.mtbf_s), lambda: self._die(place))

    def _stop(self, place: int) -> None:
        """End a server: what it had is sent elsewhere."""
        server = self._servers[place]
        server.alive = False
        server.era += 1
        had = [*server.inside.values(), *server.waiting]
        server.inside.clear()
        server.waiting.clear()
        server.running = 0
        for request in had:
            self._counts[request.balancer].change(place, -1)
        for request in had:
            self._elsewhere(request, place, "lost")

    def _start(self, place: int) -> None:
        self._servers[place].alive = True
        self._list(place, listed=True)

    def _list(self, place: int, *, listed: bool) -> None:
        server = self._servers[place]
        if server.listed == listed:
            return
        server.listed = listed
        for counts in self._counts:
            (counts.list if listed else counts.unlist)(place)
        if listed:
            self._listed.append(place)
        else:
            self._listed.remove(place)

    def _update(self, first: int) -> None:
        """Drain the next servers, replace them, and go on with those behind."""
        group = range(first, min(first + self._trouble.update_at_once, len(self._servers)))
        for place in group:
            if self._servers[place].alive:
                self._list(place, listed=False)
                self._after(self._trouble.drain_s, partial(self._replace, place))
        if group.stop < len(self._servers):
            self._after(self._trouble.drain_s + self._trouble.start_s, lambda: self._update(group.stop))

    def _replace(self, place: int) -> None:
        self._stop(place)
        self._after(self._trouble.start_s, lambda: self._start(place))
