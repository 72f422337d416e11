"""Decides when a model whose files were removed is dropped; a repository that cannot be read drops none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from cpuserve.models.repository import Repository

__all__ = ["RemovedModels"]

_log = logging.getLogger("cpuserve.pool")


class RemovedModels:
    """Models that are still served although their files are gone, and since when.

    Args:
        grace_s: seconds a model is served after its files were removed.
        clock: monotonic time in seconds.
    """

    def __init__(self, grace_s: float, clock: Callable[[], float]) -> None:
        self._grace_s = grace_s
        self._clock = clock
        self._since: dict[str, float] = {}

    @property
    def due(self) -> bool:
        """Whether a removed model has been served for long enough."""
        return any(map(self._over, list(self._since)))

    def _over(self, name: str) -> bool:
        return self._clock() - self._since[name] >= self._grace_s

    def look(
        self, repository: Repository, served: Iterable[str], there: Collection[str], failure: str
    ) -> tuple[list[str], list[str]]:
        """Find the models to drop: not those whose directory is missing, or has lost all its models at once.

        Args:
            repository: where the models should be.
            served: models that answer.
            there: models that are in the repository.
            failure: why the repository could not be listed; empty where it could.

        Returns:
            The models to drop, and why nothing can be said of others: these are served on.
        """
        gone, absences = [], set()
        for name in served:
            absence = ""
            if name not in there and repository.wants(name):
                absence = failure or repository.absence(name)
            if absence:
                absences.add(absence)
            if absence or name in there:
                self._since.pop(name, None)
            elif not repository.wants(name):
                gone.append(name)
            else:
                if name not in self._since:
                    self._since[name] = self._clock()
                    _log.warning(
                        "model %s was removed: it is served for %g s more (setting removal_grace_s)",
                        *(name, self._grace_s),
                    )
                if self._over(name):
                    gone.append(name)
        return gone, sorted(absences)

    def forget(self, name: str) -> None:
        """Forget a model that is no longer served."""
        self._since.pop(name, None)
