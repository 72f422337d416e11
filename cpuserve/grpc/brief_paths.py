"""Knows which requests are so brief that waking another thread for them costs more than it gains."""

from __future__ import annotations

__all__ = ["BriefPaths"]

_BRIEF_S = 150e-6
_NEWEST = 0.1  # part of the mean
_PATHS = 256  # that are known


class BriefPaths:
    """Learns how long requests let the interpreter go, by their paths.

    While a request decodes or infers, other threads may use the interpreter; for the rest of it they wait. So
    of requests that do little else than the rest, several threads answer no more than one does.
    """

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def learn(self, path: str, seconds: float) -> None:
        """Note for how long an answered request decoded and inferred."""
        mean = self._means.get(path)
        if mean is not None:
            self._means[path] = mean + _NEWEST * (seconds - mean)
        elif len(self._means) < _PATHS:
            self._means[path] = seconds

    def __contains__(self, path: str) -> bool:
        """Whether the requests of a path are known to be brief."""
        mean = self._means.get(path)
        return mean is not None and mean < _BRIEF_S
