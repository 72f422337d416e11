"""Keeps what is wrong with models and with the repository, and logs each change once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

__all__ = ["CONFIG", "REPOSITORY", "ModelProblems"]

_log = logging.getLogger("cpuserve.pool")

REPOSITORY, CONFIG = "model repository", "config file"
"""Keys beside the names of models, which have no spaces."""


class ModelProblems(dict[str, str]):
    """Reasons by name of the model, or `REPOSITORY` or `CONFIG`, in words fit for clients.

    Args:
        public: makes a reason fit for clients.
    """

    def __init__(self, public: Callable[[str], str]) -> None:
        super().__init__()
        self._public = public

    def put(self, name: str, reason: str) -> None:
        """Keep what is wrong; an empty reason means that nothing is."""
        told = self._public(reason)
        if self.get(name, "") == told:
            return
        if reason:
            self[name] = told
            _log.error("%s: %s", name, reason)
        else:
            del self[name]
            _log.info("%s: in order again", name)

    def keep(self, names: Collection[str], missing: Mapping[str, str]) -> None:
        """Keep what is wrong with models that are there, and why others are missing; forget all else."""
        for name in self.keys() - {REPOSITORY, CONFIG, *names, *missing}:
            del self[name]
        for name, reason in missing.items():
            self.put(name, reason)
