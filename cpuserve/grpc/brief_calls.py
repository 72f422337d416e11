"""The calls that the thread of gRPC runs itself, because they are brief: `BriefCalls`."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from cpuserve.grpc.brief_paths import BriefPaths
from cpuserve.grpc.grpc_call import GrpcCall

__all__ = ["BriefCalls", "Submit"]

_AT_ONCE = 8  # calls that are run before it is looked how many more have come
_BACKLOG_S = 3e-3  # of those: what is beyond is for the threads that only run requests, or is refused
_ALL_PYTHON_S = 0.5e-3  # several threads run no more of such calls than one does
_CACHED_BYTES = 256 << 10  # of a message: more would have to be fetched from memory again
_COPY_S = 2e-10  # of a byte of a message or in shared memory: several threads copy no more than one does
_TIMED = 0.25  # of the calls that are run here; by chance, since paths may come in turns
_LEFT = 2  # calls for each of the other threads: one that it runs, one that is there when it is done


class Submit(Protocol):
    """Queues a call, and wakes a thread for it where that is said."""

    def __call__(self, call: GrpcCall, /, *, wake: bool) -> None:
        """Queue a call."""


class BriefCalls:
    """Runs brief calls in the thread that has read them; it alone calls the functions.

    To hand a call over wakes a thread, and has both fight for the interpreter. A call is run at once, since
    its message is in the caches then. But while one is run nothing is read, and nobody knows how many wait:
    now and then all are read first.

    This thread takes the place of one of those that run requests. The others are given calls, too, so many
    that none of them sleeps between two.

    Args:
        paths: knows which are brief.
        run: runs a call in the calling thread.
        submit: queues a call for other threads.
        threads: that run requests where this one runs none, and as many CPUs.

    Attributes:
        kept: how many wait for `run_next`.
    """

    def __init__(
        self, paths: BriefPaths, run: Callable[[GrpcCall], None], submit: Submit, threads: int
    ) -> None:
        self._paths = paths
        self._run = run
        self._submit = submit
        self._others = threads - 1
        self._given: list[None] = []  # one for each that the others have; any thread takes them out
        self._calls: deque[tuple[GrpcCall, float]] = deque()
        self._backlog_s = 0.0
        self._at_once = _AT_ONCE
        self.kept = 0

    def take(self, call: GrpcCall, size: int, shared: int = 0) -> bool:
        """Run a call, keep it for `run_next`, or give it to another thread.

        Args:
            call: a whole request.
            size: bytes of its message.
            shared: bytes that it reads out of shared memory.

        Returns:
            Whether it is brief and there is room.
        """
        expected_s = self._paths.expected_s(call.call.path)
        if self._backlog_s + expected_s > _BACKLOG_S:
            return False
        large = size > _CACHED_BYTES
        computes = expected_s > _ALL_PYTHON_S + _COPY_S * (size + shared)
        if computes and len(self._given) < _LEFT * self._others:
            self._give(call)
        elif large or self._at_once:
            self._at_once -= not large
            self._run_here(call)
        else:
            self._calls.append((call, expected_s))
            self._backlog_s += expected_s
            self.kept += 1
        return True

    def run_next(self) -> None:
        """Run the call that was kept first."""
        call, expected_s = self._calls.popleft()
        self._backlog_s -= expected_s
        self.kept -= 1
        if not self.kept:
            self._backlog_s, self._at_once = 0.0, _AT_ONCE
        self._run_here(call)

    def _run_here(self, call: GrpcCall) -> None:
        call.timed = random.random() < _TIMED  # noqa: S311
        self._run(call)

    def _give(self, call: GrpcCall) -> None:
        wake = len(self._given) < self._others
        self._given.append(None)
        call.when_done(self._given.pop)
        self._submit(call, wake=wake)
