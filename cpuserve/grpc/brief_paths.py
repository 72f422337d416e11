"""Knows which requests are so brief that waking another thread for them costs more than it gains."""

from __future__ import annotations

import math

__all__ = ["BriefPaths"]

_BRIEF_S = 1.5e-3
_LONG_S = 10 * _BRIEF_S
# Parts of the newest in what is expected: a request may seem brief because another ran their batch.
_LESS, _MORE = 0.02, 0.2
_PATHS = 256  # that are known


class BriefPaths:
    """Learns how long requests take the processor, by their paths; any thread may call its functions."""

    def __init__(self) -> None:
        self._expected_s: dict[str, float] = {}

    def learn(self, path: str, seconds: float) -> None:
        """Note for how long a request took the processor, by the time of its thread: others do not count."""
        expected = self._expected_s.get(path)
        if expected is None:
            if len(self._expected_s) >= _PATHS:
                return
            expected = seconds
        if seconds < _LONG_S:
            expected += (_LESS if seconds < expected else _MORE) * (seconds - expected)
        else:
            expected = max(expected, seconds)
        self._expected_s[path] = expected

    def expected_s(self, path: str) -> float:
        """Seconds that a request of a brief path will take; infinite for any other."""
        expected = self._expected_s.get(path, math.inf)
        return expected if expected < _BRIEF_S else math.inf
