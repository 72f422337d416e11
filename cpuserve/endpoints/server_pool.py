"""Chooses the least busy of several servers for callers in several threads, and leaves out what fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from cpuserve.endpoints.endpoint import Endpoint
from cpuserve.endpoints.registry import is_registry, urls_of
from cpuserve.errors import CpuserveError

__all__ = ["NoServer", "ServerPool"]

_log = logging.getLogger("cpuserve.endpoints")
_LOOK_S = 0.05
_FOLLOW_S = 2.0  # between two looks at a registry
_MOST_REQUESTS = 1 << 20  # how many a server has is the callers' affair


class NoServer(CpuserveError):
    """No server could be asked for too long."""


class ServerPool:
    """Servers, some of which may be left out for now. Several threads may use it.

    Args:
        words: URLs, and registries as of `cpuserve.endpoints.registry`.
        probe: says whether the server at a URL is ready; raises OSError where it does not answer.

    Raises:
        UsageError: no server is named.
        CpuserveError: a registry cannot be read.
    """

    def __init__(self, words: Sequence[str], probe: Callable[[str], bool]) -> None:
        self._words, self._probe = [*words], probe
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._watching = False
        self._endpoints: list[Endpoint] = []
        self._take_over(urls_of(words))
        if any(map(is_registry, self._words)):
            threading.Thread(target=self._follow, name="registry", daemon=True).start()

    def __len__(self) -> int:
        """How many servers there are."""
        return len(self._endpoints)

    @property
    def alone(self) -> bool:
        """Whether there is one server and never another."""
        return len(self._words) == 1 and not is_registry(self._words[0])

    def take(self, wait_s: float, avoided: Collection[str] = ()) -> Endpoint:
        """The server to ask next; `give_back` has to follow.

        Args:
            wait_s: how long to wait for one that may be asked, seconds.
            avoided: URLs that are taken only where there is no other.

        Raises:
            NoServer: there was none; the message names each and why it was left out.
        """
        due = time.monotonic() + wait_s
        with self._changed:
            while True:
                free = [one for one in self._endpoints if one.free]
                if free:
                    found = min(free, key=lambda one: (one.url in avoided, *one.load))
                    found.chosen()
                    return found
                if time.monotonic() >= due or self._closed.is_set():
                    reasons = "; ".join(f"{one.url}: {one.reason or 'busy'}" for one in self._endpoints)
                    raise NoServer(f"no server could be asked for {wait_s:g} s: {reasons or 'there is none'}")
                self._changed.wait(_LOOK_S)

    def give_back(
        self, endpoint: Endpoint, failure: str = "", retry_after_s: float = 0.0, *, busy: bool = False
    ) -> None:
        """Note how a request ended.

        Args:
            endpoint: of `take`.
            failure: why there is no answer; empty for one.
            retry_after_s: the least pause that the server asked for.
            busy: whether it only had no room.
        """
        with self._changed:
            endpoint.outstanding -= 1
            endpoint.requests -= 1
            if not failure:
                endpoint.answers()
            elif not self.alone:
                if endpoint.up:
                    _log.warning("server %s is left out for now: %s", endpoint.url, failure)
                endpoint.refusals += busy
                endpoint.failures += not busy
                endpoint.left_out(failure, retry_after_s, up=busy)
                self._watch()
            self._changed.notify_all()

    def endpoints(self) -> Sequence[Endpoint]:
        """The servers there are now."""
        return [*self._endpoints]

    def close(self) -> None:
        """End the threads that look at servers and registries."""
        self._closed.set()

    def _take_over(self, urls: Iterable[str]) -> None:
        known = {one.url: one for one in self._endpoints}
        now = [known.get(url) or Endpoint(url, _MOST_REQUESTS, up=True) for url in dict.fromkeys(urls)]
        with self._changed:
            self._endpoints = now
            self._changed.notify_all()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._probe_all, name="probes", daemon=True).start()

    def _probe_all(self) -> None:
        """Bring servers back that are ready again."""
        while not self._closed.wait(_LOOK_S):
            for endpoint in [one for one in self._endpoints if one.due]:
                try:
                    reason = "" if self._probe(endpoint.url) else "it is not ready"
                except OSError as error:
                    reason = str(error) or type(error).__name__
                with self._changed:
                    if reason:
                        endpoint.left_out(reason)
                    else:
                        endpoint.up = True
                        self._changed.notify_all()

    def _follow(self) -> None:
        while not self._closed.wait(_FOLLOW_S):
            try:
                self._take_over(urls_of(self._words))
            except CpuserveError as error:
                _log.warning("the servers stay as they are: %s", error)
