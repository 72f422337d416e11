"""The calls that a thread has read and will run itself, because they are brief: `BriefCalls`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cpuserve.grpc.brief_paths import BriefPaths
from cpuserve.grpc.grpc_call import GrpcCall

__all__ = ["BriefCalls"]

_AT_ONCE = 8  # calls that are run before it is looked how many more have come
_BACKLOG_S = 3e-3  # of those: what is beyond is for the threads that only run requests, or is refused


class BriefCalls:
    """Runs brief calls in the thread that has read them; it alone calls the functions.

    To hand a call over wakes a thread, and has both fight for the interpreter. A call is run at once, since
    its message is in the caches then. But while one is run nothing is read, and nobody knows how many wait:
    now and then all are read first.

    Args:
        paths: knows which are brief.
        run: runs a call in the calling thread.

    Attributes:
        kept: how many wait for `run_next`.
    """

    def __init__(self, paths: BriefPaths, run: Callable[[GrpcCall], None]) -> None:
        self._paths = paths
        self._run = run
        self._calls: deque[tuple[GrpcCall, float]] = deque()
        self._backlog_s = 0.0
        self._at_once = _AT_ONCE
        self.kept = 0

    def take(self, call: GrpcCall) -> bool:
        """Run a call, or keep it for `run_next`; gives whether it is brief and there is room."""
        expected_s = self._paths.expected_s(call.target)
        if self._backlog_s + expected_s > _BACKLOG_S:
            return False
        if self._at_once:
            self._at_once -= 1
            self._run(call)
            return True
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
        self._run(call)
