"""Limits the requests per second of each client, over all workers."""

from __future__ import annotations

import hashlib
import time

from cpuserve.errors import RateLimited
from cpuserve.sharedmem.block import Block
from cpuserve.sharedmem.record import Floats, Record, Words

__all__ = ["RateLimit"]

_PLACES = 4096
_NEIGHBOURS = 8  # places a client may take; the one longest unused gives way


class _Buckets(Record):
    clients = Words(_PLACES)
    tokens = Floats(_PLACES)
    looked = Floats(_PLACES)  # the time of the last look


class RateLimit:
    """One token bucket per client in shared memory; made before the workers are forked.

    Clients are stored as hashes.

    Args:
        per_second: requests per second and client; 0 sets no limit.
        burst: requests a client may send at once after a pause.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second = per_second
        self._burst = max(1.0, burst)
        block = Block("cpuserve-rate", 1, _Buckets, Record)
        self._lock = block.lock
        head = block.head
        self._clients, self._tokens, self._looked = head.clients, head.tokens, head.looked

    def take(self, client: str, now: float | None = None) -> None:
        """Count one request of a client.

        Args:
            client: its API key or address.
            now: seconds on the clock of `time.monotonic`, which all processes share.

        Raises:
            RateLimited: its bucket is empty.
        """
        if self.per_second <= 0:
            return
        now = time.monotonic() if now is None else now
        digest = hashlib.blake2b(client.encode(), digest_size=8).digest()
        name = int.from_bytes(digest, "little") | 1
        with self._lock:
            tokens = self._take(name, now)
        if tokens < 0:
            raise RateLimited(
                f"this client sent more than {self.per_second:g} requests a second (setting rate_limit)",
                retry_after_s=-tokens / self.per_second,
            )

    def _take(self, name: int, now: float) -> float:
        """Take a token and give what is left; a negative value says what is missing, and none was taken."""
        oldest_place, oldest_time = 0, float("inf")
        for step in range(_NEIGHBOURS):
            place = (name + step) % _PLACES
            last = self._looked[place]
            if self._clients[place] == name:
                tokens = min(self._burst, self._tokens[place] + (now - last) * self.per_second) - 1
                if tokens >= 0:
                    self._tokens[place], self._looked[place] = tokens, now
                return float(tokens)
            if last < oldest_time:
                oldest_place, oldest_time = place, last
        self._clients[oldest_place], self._tokens[oldest_place] = name, self._burst - 1
        self._looked[oldest_place] = now
        return self._burst - 1
