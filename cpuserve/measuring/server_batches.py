"""Reads from a server's metrics how many batches it ran, why, and how often its cache answered."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cpuserve.measuring.load_window import Target

__all__ = ["ServerBatches"]

_LINE = re.compile(
    r'^(cpuserve_\w+)\{name="([^"]*)",version="[^"]*"(?:,(\w+)="([^"]*)")?\} (\d+)$', re.MULTILINE
)
_TIMEOUT_S = 10


@dataclass(frozen=True)
class ServerBatches:
    """Counters of one model, summed over its versions and all workers.

    Attributes:
        released: batches by why they were run: "idle" (a stream was idle), "gathered" (rows had waited for
            one) or "timeout" (they had waited ``max_queue_delay_us`` for company).
        sizes: compiled batches run, by size.
        hits: requests answered from the result cache.
        misses: requests it had no answer to.
    """

    released: Mapping[str, int]
    sizes: Mapping[int, int]
    hits: int
    misses: int

    @classmethod
    def read(cls, target: Target) -> Self | None:
        """Read the counters of the target's model; None if the server has no such metrics."""
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            return None
        found: dict[str, Counter[str]] = {}
        for metric, name, _, label, value in _LINE.findall(text):
            if name == target.model:
                found.setdefault(metric, Counter())[label] += int(value)
        if "cpuserve_batches_total" not in found:
            return None
        sizes = found.get("cpuserve_batch_size_total", Counter())
        return cls(
            dict(found["cpuserve_batches_total"]),
            {int(size): count for size, count in sizes.items()},
            found.get("cpuserve_cache_hits_total", Counter())[""],
            found.get("cpuserve_cache_misses_total", Counter())[""],
        )

    def since(self, before: Self) -> Self:
        """The difference to earlier counters."""
        return type(self)(
            {why: count - before.released.get(why, 0) for why, count in self.released.items()},
            {size: count - before.sizes.get(size, 0) for size, count in self.sizes.items()},
            self.hits - before.hits,
            self.misses - before.misses,
        )

    @property
    def rows(self) -> float | None:
        """Rows of a batch on average; None without batches."""
        batches = sum(self.released.values())
        return sum(size * count for size, count in self.sizes.items()) / batches if batches else None

    def figures(self) -> dict[str, Any]:
        """For a result file."""
        return {
            "released": dict(self.released),
            "compiled_batches_by_size": {
                str(size): count for size, count in sorted(self.sizes.items()) if count
            },
            "cache_hits": self.hits,
            "cache_misses": self.misses,
        }
