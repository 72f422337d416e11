"""Simulates a client that makes frames and replicas that answer them, event by event."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Fleet", "FrameTimes", "Policy", "SimulatedRun", "simulate"]

Policy = Literal["least-outstanding", "random"]
_SOON = 1e-12  # seconds that rounding may be off


@dataclass(frozen=True)
class FrameTimes:
    """What a frame takes, in seconds.

    Attributes:
        client_s: CPU time of the client to make and send a frame, one after the other.
        service_s: times that a replica takes for a frame, one of which is drawn for each; one is a constant.
        network_s: of the way to the replica and back, without CPU time.
    """

    client_s: float
    service_s: Sequence[float]
    network_s: float = 0.0


@dataclass(frozen=True)
class Fleet:
    """The replicas and how frames are handed to them.

    Attributes:
        replicas: how many there are.
        at_once: frames that each infers at a time, a core each.
        in_flight: most frames that a replica has at a time, where the policy is least-outstanding.
        policy: ``least-outstanding`` gives a frame to the replica with the fewest, once one has less than
            `in_flight`; ``random`` to any at once, as a load balancer does.
        window: most frames that are made and not answered yet: the client makes no more then; None for any.
        shares_cores: whether the client runs on the cores of the replicas, else on one of its own.
        overlaps: whether replicas work while the client still makes frames.
    """

    replicas: int
    at_once: int = 1
    in_flight: int = 4
    policy: Policy = "least-outstanding"
    window: int | None = None
    shares_cores: bool = False
    overlaps: bool = True


@dataclass(frozen=True)
class SimulatedRun:
    """What came of a simulation.

    Attributes:
        makespan_s: seconds until the last answer.
        latencies_s: of each frame from when it was made to its answer, in order of the frames.
        client_busy: share of the time in which the client made frames.
        replicas_busy: the same of each replica's cores.
    """

    makespan_s: float
    latencies_s: Sequence[float]
    client_busy: float
    replicas_busy: Sequence[float]

    def latency_s(self, share: float) -> float:
        """The latency that so large a share of the frames does not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class _SimulatedReplica:
    """A replica: what it infers, and what waits there."""

    running: dict[int, float] = field(default_factory=dict)  # frame -> CPU time left
    queue: deque[int] = field(default_factory=deque)
    outstanding: int = 0
    busy_s: float = 0.0


def simulate(frames: int, times: FrameTimes, fleet: Fleet, seed: int = 0) -> SimulatedRun:
    """Simulate the answering of so many frames.

    Args:
        frames: how many there are.
        times: what each takes.
        fleet: what answers them.
        seed: of the draws of service times and replicas; equal seeds give equal runs.
    """
    return _Simulation(frames, times, fleet, random.Random(seed)).run()  # noqa: S311  # no secrets


class _Simulation:
    def __init__(self, frames: int, times: FrameTimes, fleet: Fleet, dice: random.Random) -> None:
        self._frames, self._times, self._fleet, self._dice = frames, times, fleet, dice
        self._now = 0.0
        self._workers = [_SimulatedReplica() for _ in range(fleet.replicas)]
        self._backlog: deque[int] = deque()  # made, and not handed out yet
        self._making: float | None = None  # CPU time left for the frame that is being made
        self._client_place = -1  # the replica on whose cores it is made
        self._client_busy_s = 0.0
        self._made_at = [0.0] * frames
        self._answered_at = [0.0] * frames
        self._made = self._answered = 0
        self._events: list[tuple[float, int, int, bool]] = []  # when, frame, replica, whether it is an answer

    def run(self) -> SimulatedRun:
        self._make_next()
        while self._answered < self._frames:
            self._advance(self._next_step())
        makespan = self._now or _SOON
        return SimulatedRun(
            self._now,
            [end - begin for begin, end in zip(self._made_at, self._answered_at, strict=True)],
            self._client_busy_s / makespan,
            [worker.busy_s / (makespan * self._fleet.at_once) for worker in self._workers],
        )

    def _speeds(self) -> tuple[list[float], float]:
        """The share of a core that each job of each replica gets, and that of the client."""
        speeds, client = [], 1.0
        for place, worker in enumerate(self._workers):
            here = self._making is not None and place == self._client_place
            jobs = len(worker.running) + here
            speeds.append(min(1.0, self._fleet.at_once / jobs) if jobs else 1.0)
            if here:
                client = speeds[-1]
        return speeds, client

    def _next_step(self) -> float:
        """Seconds until something happens."""
        speeds, client = self._speeds()
        ends = [
            left / speed
            for worker, speed in zip(self._workers, speeds, strict=True)
            for left in worker.running.values()
        ]
        if self._making is not None:
            ends.append(self._making / client)
        if self._events:
            ends.append(self._events[0][0] - self._now)
        return max(0.0, min(ends))

    def _advance(self, step: float) -> None:
        """Let so many seconds pass, and then do what has come to its end."""
        speeds, client = self._speeds()
        self._now += step
        for place, (worker, speed) in enumerate(zip(self._workers, speeds, strict=True)):
            for frame in worker.running:
                worker.running[frame] -= step * speed
                worker.busy_s += step * speed
            for frame in [frame for frame, left in worker.running.items() if left <= _SOON]:
                del worker.running[frame]
                self._later(frame, place, is_answer=True)
        if self._making is not None:
            self._making -= step * client
            self._client_busy_s += step * client
            if self._making <= _SOON:
                self._made_at[self._made] = self._now
                self._backlog.append(self._made)
                self._made += 1
                self._making = None
        self._deliver()
        while self._hand_out():
            self._deliver()
        for worker in self._workers:
            while worker.queue and len(worker.running) < self._fleet.at_once:
                worker.running[worker.queue.popleft()] = self._dice.choice(self._times.service_s)
        self._make_next()

    def _deliver(self) -> None:
        """Let what is due arrive: answers at the client, frames at the replicas."""
        while self._events and self._events[0][0] <= self._now + _SOON:
            _, frame, place, is_answer = heapq.heappop(self._events)
            if is_answer:
                self._answered_at[frame] = self._now
                self._answered += 1
                self._workers[place].outstanding -= 1
            else:
                self._workers[place].queue.append(frame)

    def _later(self, frame: int, place: int, *, is_answer: bool) -> None:
        heapq.heappush(self._events, (self._now + self._times.network_s / 2, frame, place, is_answer))

    def _make_next(self) -> None:
        window = self._fleet.window
        if self._making is not None or self._made == self._frames:
            return
        if window is not None and self._made - self._answered >= window:
            return
        self._making = self._times.client_s
        if self._fleet.shares_cores:  # the kernel runs it where the fewest others run
            loads = [len(worker.running) for worker in self._workers]
            self._client_place = loads.index(min(loads))

    def _hand_out(self) -> bool:
        """Send frames as long as a replica may get one; whether any was sent."""
        if not self._fleet.overlaps and self._made < self._frames:
            return False
        sent = False
        while self._backlog:
            place = self._chosen()
            if place is None:
                break
            self._workers[place].outstanding += 1
            self._later(self._backlog.popleft(), place, is_answer=False)
            sent = True
        return sent

    def _chosen(self) -> int | None:
        """The replica that gets the next frame; None while none has room."""
        if self._fleet.policy == "random":
            return self._dice.randrange(len(self._workers))
        counts = [worker.outstanding for worker in self._workers]
        least = min(counts)
        return counts.index(least) if least < self._fleet.in_flight else None
