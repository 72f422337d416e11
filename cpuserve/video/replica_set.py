"""The replicas that a run was given, or that a registry has at the moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from cpuserve.endpoints.registry import is_registry, urls_of
from cpuserve.errors import CpuserveError, UsageError
from cpuserve.video.replica import Replica

__all__ = ["ReplicaSet"]

_log = logging.getLogger("cpuserve.video")
_PAUSE_S = 0.5


class ReplicaSet:
    """Makes a `Replica` of each URL, once; its coroutines run in one loop.

    Attributes:
        known: all that there ever were.
        follows: whether there may be others later.

    Args:
        words: URLs, and registries as of `cpuserve.endpoints.registry`.
        make: connects to a URL.

    Raises:
        UsageError: there is none, or one is given twice.
    """

    def __init__(self, words: Sequence[str], make: Callable[[str], Replica]) -> None:
        plain = [word.strip().rstrip("/") for word in words]
        twice = next((word for word in plain if plain.count(word) > 1), None)
        if twice is not None or not plain:
            raise UsageError(f"replica {twice} is given twice" if twice else "no replica is given")
        self.known: list[Replica] = []
        self.follows = any(map(is_registry, plain))
        self._words, self._make = plain, make

    async def first(self, wait_s: float) -> list[Replica]:
        """The replicas at the start; waits until a registry has one.

        Raises:
            UsageError: a URL is none.
            CpuserveError: a registry has none within ``wait_s``, or cannot be read.
        """
        due = time.monotonic() + wait_s
        while True:
            try:
                return self._replicas(await asyncio.to_thread(urls_of, self._words))
            except CpuserveError as error:
                if not self.follows or time.monotonic() >= due:
                    raise
                reason = str(error)
            _log.warning("waiting up to %g s for replicas: %s", wait_s, reason)
            await asyncio.sleep(min(_PAUSE_S, wait_s))

    async def current(self, before: Sequence[Replica]) -> Sequence[Replica]:
        """The replicas now; those of ``before`` where a registry does not answer, or has none."""
        try:
            return self._replicas(await asyncio.to_thread(urls_of, self._words))
        except CpuserveError as error:
            _log.warning("the replicas stay as they are: %s", error)
            return before

    def _replicas(self, urls: Sequence[str]) -> list[Replica]:
        found = []
        for url in dict.fromkeys(urls):
            replica = next((one for one in self.known if one.url == url), None)
            if replica is None:
                replica = self._make(url)
                self.known.append(replica)
            elif replica.gone:
                replica.gone, replica.up, replica.resume_at = False, False, 0.0
            found.append(replica)
        return found
