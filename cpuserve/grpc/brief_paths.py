"""Knows which requests are so brief that waking another thread for them costs more than it gains."""

from __future__ import annotations

__all__ = ["BriefPaths"]

_BRIEF_S = 400e-6  # at twice that two threads answer as many a second as one, on a machine with two cores
_LONG_S = 10 * _BRIEF_S
_LESS, _MORE = 0.2, 0.02  # parts of the newest in what is expected: threads in each other's way take longer
_PATHS = 256  # that are known


class BriefPaths:
    """Learns how long requests let the interpreter go, by their paths.

    While a request decodes or infers, other threads may use the interpreter; for the rest of it they wait. Of
    requests that are little else than that rest, several threads answer no more than one does, and wake each
    other for every one.
    """

    def __init__(self) -> None:
        self._expected_s: dict[str, float] = {}

    def learn(self, path: str, seconds: float) -> None:
        """Note for how long an answered request decoded and inferred."""
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

    def __contains__(self, path: str) -> bool:
        """Whether the requests of a path are known to be brief."""
        expected = self._expected_s.get(path)
        return expected is not None and expected < _BRIEF_S
